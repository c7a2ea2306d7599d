"""A GPU that is full: when a model is loaded, in the middle of answers, in a batch; and two models in turn."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from core.core import Core
from core.errors import InsufficientMemory
from core.settings import MIB
from core.types import Prompt, State, Task
from tests.gpu.machine import (
    CONTEXT,
    DEVICE,
    NEAR,
    NEEDS_GPU,
    TEXTS,
    ballast,
    greedy,
    loaded,
    settings_of,
    settled,
    spec_of,
    started,
    use,
    used,
)

pytestmark = NEEDS_GPU


@pytest.mark.parametrize("kind", ["llama", "bert"])
@pytest.mark.parametrize("leave", [64 * MIB, 640 * MIB])  # not even a context; a context and not all weights
async def test_a_load_that_there_is_no_memory_for(gpu_core: Core, kind: str, leave: int) -> None:
    before = used()
    with ballast(leave):
        with pytest.raises(InsufficientMemory, match="MiB"):  # the ledger sees what others hold
            await loaded(gpu_core, spec_of(kind))
        with pytest.raises(InsufficientMemory, match="CUDA out of memory"):
            await loaded(gpu_core, spec_of(kind), force=True)
        assert gpu_core.registry.room.ledger.account(kind) is None
    assert await settled(before) <= before + NEAR
    await loaded(gpu_core, spec_of(kind))
    assert await use(gpu_core, kind)
    await gpu_core.unload(kind)


async def test_answers_that_there_is_no_memory_for_leave_it_to_the_others(gpu_core: Core) -> None:
    await loaded(gpu_core, replace(spec_of("llama"), dtype="float32"))
    pid = gpu_core.model("llama").pid
    # 96 KiB of keys and values a token, 90 MiB an answer
    prompts = [Prompt(ids=tuple(3 + (index * (row + 2)) % 300 for index in range(CONTEXT - 64))) for row in range(6)]
    alone = [(await gpu_core.complete(prompt, greedy(), "llama")).texts for prompt in prompts]
    await gpu_core.cleanup()
    with ballast(300 * MIB):
        asked = (gpu_core.complete(prompt, greedy(), "llama") for prompt in prompts)
        found = await asyncio.gather(*asked, return_exceptions=True)
        failed = [each for each in found if isinstance(each, BaseException)]
        assert {type(each) for each in failed} == {InsufficientMemory}
        assert len(failed) < len(prompts)
        for each, texts in zip(found, alone, strict=True):
            assert isinstance(each, InsufficientMemory) or each.texts == texts
        assert (await gpu_core.complete(prompts[0], greedy(), "llama")).texts == alone[0]
    assert gpu_core.model("llama").pid == pid
    await gpu_core.unload("llama")


async def test_a_batch_that_there_is_no_memory_for_is_run_in_parts(gpu_core: Core) -> None:
    await loaded(gpu_core, spec_of("bert"))
    pid = gpu_core.model("bert").pid
    many = TEXTS * 16  # 512 rows of some 40 tokens, each of which takes 256 KiB inside of a layer
    alone = (await gpu_core.run(Task.TEXT_CLASSIFICATION, TEXTS, {}, "bert")).outputs
    await gpu_core.cleanup()
    with ballast(600 * MIB):
        together = (await gpu_core.run(Task.TEXT_CLASSIFICATION, many, {}, "bert")).outputs
    for one, other in zip(together, alone * 16, strict=True):
        assert [label["label"] for label in one] == [label["label"] for label in other]
        assert [label["score"] for label in one] == pytest.approx([label["score"] for label in other], abs=1e-4)
    assert gpu_core.model("bert").pid == pid
    await gpu_core.unload("bert")


async def test_two_that_do_not_fit_together_are_used_in_turn(gpu_core: Core, gpu_models: Path, tmp_path: Path) -> None:
    plan = await gpu_core.plan(spec_of("llama"), admin=True)
    (need,) = (need.reckoned for need in plan.needs if need.device == DEVICE)
    before = used()
    budgets = {"gpu_memory_budget_mb": 1.5 * need / MIB}
    async with started(settings_of(gpu_models, tmp_path, **budgets)) as core:
        answers = []
        for name in ("llama", "other") * 3:
            if core.registry.find(name) is None:
                await loaded(core, spec_of("llama", name) if name == "llama" else spec_of("other"))
            answers.append(await use(core, name))
            other = {"llama": "other", "other": "llama"}[name]
            record = core.registry.find(other)
            assert record is None or record.state is State.ABSENT
            assert used() - before <= 1.5 * need + NEAR
        assert len(core.registry.room.evictions) == 5
        assert all(each.released.left == {} for each in core.registry.room.evictions)
        assert answers == [answers[0]] * 6  # the same weights under two names
    assert await settled(before) <= before + NEAR
