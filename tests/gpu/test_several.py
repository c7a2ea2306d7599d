"""Two GPUs: a model that no single one may hold lies on both, writes the same, and gives both back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from core.core import Core
from core.settings import MIB
from core.types import Prompt
from tests.gpu.machine import (
    CONTEXT,
    DEVICE,
    NEAR,
    NEEDS_TWO,
    greedy,
    loaded,
    settings_of,
    settled,
    spec_of,
    started,
    used,
)

pytestmark = NEEDS_TWO
BOTH = ("cuda:0", "cuda:1")


async def test_a_model_on_two_gpus(gpu_core: Core, gpu_models: Path, tmp_path: Path) -> None:
    spec = replace(spec_of("llama"), dtype="float32")
    prompts = [Prompt(ids=tuple(3 + (index * (row + 2)) % 300 for index in range(CONTEXT // 4))) for row in range(4)]
    before = {device: used(device) for device in BOTH}
    await loaded(gpu_core, spec)
    alone = [(await gpu_core.complete(prompt, greedy(), "llama")).texts for prompt in prompts]
    await gpu_core.unload("llama")
    plan = await gpu_core.plan(spec, admin=True)
    (need,) = (need.reckoned for need in plan.needs if need.device == DEVICE)
    budget = {"gpu_memory_budget_mb": 0.85 * need / MIB}
    async with started(settings_of(gpu_models, tmp_path, **budget)) as core:
        await loaded(core, replace(spec, device="auto"))
        assert core.model("llama").device == "cuda:0+cuda:1"
        for device in BOTH:
            held = used(device) - before[device]
            assert NEAR < held <= 0.85 * need + NEAR
        assert [(await core.complete(prompt, greedy(), "llama")).texts for prompt in prompts] == alone
        promised = core.registry.room.ledger.account("llama")
        assert promised is not None
        for device in BOTH:
            assert promised.promised[device] == pytest.approx(used(device) - before[device], rel=0.3)
        await core.unload("llama")
        for device in BOTH:
            assert await settled(before[device], device) <= before[device] + NEAR


async def test_two_models_take_a_gpu_each(gpu_core: Core) -> None:
    await loaded(gpu_core, replace(spec_of("llama"), device="auto"))
    await loaded(gpu_core, replace(spec_of("other"), device="auto"))
    assert {gpu_core.model(name).device for name in ("llama", "other")} == set(BOTH)
    for name in ("llama", "other"):
        await gpu_core.unload(name)
