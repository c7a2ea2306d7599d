"""A device-side assert takes the CUDA context, and with it the process: typed errors at once, and the next request
starts it again."""

from __future__ import annotations

import asyncio

import pytest

from core.core import Core
from core.errors import WorkerCrashed
from core.types import Task
from tests.gpu.machine import NEAR, NEEDS_GPU, TEXTS, loaded, settled, spec_of, used

pytestmark = NEEDS_GPU


async def test_a_device_side_assert(gpu_core: Core) -> None:
    """Of a model that has one kind of segment and is given a pair of texts: an index beyond its table."""
    before = used()
    await loaded(gpu_core, spec_of("bert"))
    answer = (await gpu_core.run(Task.TEXT_CLASSIFICATION, TEXTS[:1], {}, "bert")).outputs
    process = gpu_core.registry.get("bert").worker.process  # type: ignore[union-attr]
    pairs = {"candidate_labels": ["a", "b"]}
    asked = [gpu_core.run(Task.ZERO_SHOT_CLASSIFICATION, [text], pairs, "bert") for text in TEXTS[:8]]
    found = await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), 60)
    assert {type(each) for each in found} == {WorkerCrashed}
    assert await process.exited == 70
    again = (await gpu_core.run(Task.TEXT_CLASSIFICATION, TEXTS[:1], {}, "bert")).outputs
    assert [label["label"] for label in again[0]] == [label["label"] for label in answer[0]]
    assert again[0][0]["score"] == pytest.approx(answer[0][0]["score"], abs=1e-5)
    await gpu_core.unload("bert")
    assert await settled(before) <= before + NEAR
