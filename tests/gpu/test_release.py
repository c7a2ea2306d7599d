"""A model that has been unloaded leaves nothing on the GPU, and what it took is what was planned."""

from __future__ import annotations

import pytest

from core.core import Core
from tests.gpu.machine import (
    DEVICE,
    KINDS,
    NEAR,
    NEEDS_GPU,
    fill,
    loaded,
    settled,
    skip_without_library,
    spec_of,
    use,
    used,
)

pytestmark = NEEDS_GPU
TIMES = 20
_OFF = 0.15  # share that a plan may be off


@pytest.mark.parametrize("kind", KINDS)
async def test_load_use_unload_and_it_is_all_back(gpu_core: Core, kind: str) -> None:
    skip_without_library(kind)
    before, answers = used(), []
    for _ in range(TIMES):
        await loaded(gpu_core, spec_of(kind))
        assert used() > before + NEAR
        answers.append(await use(gpu_core, kind))
        released = await gpu_core.registry.release(kind)
        assert released.left == {}
        assert await settled(before) <= before + NEAR
    assert all(answer == answers[0] for answer in answers)


@pytest.mark.parametrize("kind", ["llama", "llama-8bit", "llama-4bit", "bert", "gguf"])
async def test_a_plan_is_what_is_measured(gpu_core: Core, kind: str) -> None:
    skip_without_library(kind)
    plan = await gpu_core.plan(spec_of(kind), admin=True)
    (planned,) = (need.reckoned for need in plan.needs if need.device == DEVICE)
    before = used()
    await loaded(gpu_core, spec_of(kind))
    await fill(gpu_core, kind)  # CUDA's allocator keeps what a pass took
    measured = used() - before
    await gpu_core.unload(kind)
    print(f"{kind}: planned {planned / 2**20:.0f} MiB, measured {measured / 2**20:.0f} MiB")
    assert planned == pytest.approx(measured, rel=_OFF)
