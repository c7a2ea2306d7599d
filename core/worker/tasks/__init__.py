"""What can be asked of a model: a table picks the task's module."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from core.errors import TaskNotSupported
from core.types import Task
from core.worker.runtimes.base import Runtime
from core.worker.tasks import (
    feature_extraction,
    fill_mask,
    image_classification,
    question_answering,
    text_classification,
    token_classification,
    zero_shot_classification,
)
from core.worker.tasks.base import Prepared

_PREPARERS: dict[Task, Callable[[Any, list[Any], dict[str, Any]], Prepared]] = {
    Task.TEXT_CLASSIFICATION: text_classification.prepare,
    Task.TOKEN_CLASSIFICATION: token_classification.prepare,
    Task.FEATURE_EXTRACTION: feature_extraction.prepare,
    Task.QUESTION_ANSWERING: question_answering.prepare,
    Task.ZERO_SHOT_CLASSIFICATION: zero_shot_classification.prepare,
    Task.FILL_MASK: fill_mask.prepare,
    Task.IMAGE_CLASSIFICATION: image_classification.prepare,
}


def prepare(task: Task, runtime: Runtime, items: list[Any], params: dict[str, Any]) -> Prepared:
    """`items` as rows for `runtime`. Items are texts, for question answering `{"question", "context"}`,
    for image classification an `Image`.

    `params` are complete, as `core.params.parse_params` gives them. Outputs have the shape of the REST contract's
    `result`, one for each item. Raises TaskNotSupported, InvalidRequest.
    """
    if task not in runtime.info.tasks:
        can = ", ".join(runtime.info.tasks)
        raise TaskNotSupported(f"{runtime.name} cannot do {task}; it can do: {can}.")
    return _PREPARERS[task](runtime, items, params)
