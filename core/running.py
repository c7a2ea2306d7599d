"""A task that is no stream, done by a model that is kept in memory meanwhile."""

from __future__ import annotations

import time
from typing import Any

from core.fleet.record import Record
from core.types import Reply, Task, Timing
from core.writing import write


async def run(record: Record, task: Task, items: list[Any], params: dict[str, Any], limit_s: float) -> Reply:
    """`items` and `params` as `core/params.py` parsed them. Raises typed errors only, DeadlineExceeded among them."""
    assert record.worker is not None
    assert record.info is not None
    assert record.inspection is not None
    context_length, started = record.info.context_length, time.monotonic()
    if task.generates:
        raw = await write(record, task, items, params, limit_s)
    else:
        raw = await record.worker.call("run", deadline_s=limit_s, task=task, items=items, params=params)
    return Reply(
        model=record.name,
        revision=record.inspection.revision,
        task=task,
        outputs=raw["outputs"],
        tokens=raw["tokens"],
        input_tokens=tuple(raw["input_tokens"]),
        windows=tuple(raw["windows"]),
        truncated=tuple(raw["truncated"]),
        context_length=context_length,
        timing=Timing(raw["queue_ms"], raw["model_ms"], (time.monotonic() - started) * 1000),
    )


def task_meant(tasks: tuple[Task, ...], fields: dict[str, Any]) -> Task:
    """What the model was made for; labels of one's own are only ever meant for zero-shot classification."""
    if fields.get("candidate_labels") and Task.ZERO_SHOT_CLASSIFICATION in tasks:
        return Task.ZERO_SHOT_CLASSIFICATION
    return tasks[0]
