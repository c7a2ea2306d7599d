"""What a transformers configuration means for serving: labels, context length, tasks."""

from __future__ import annotations

from typing import Any

from core.errors import InvalidRequest
from core.types import Task
from core.worker.runtimes.base import LoadRequest
from core.worker.tokenizers import Tokenizer

# Their position ids begin after the padding id, so that many rows of the position table are never text.
_OFFSET_POSITIONS = frozenset(
    ("camembert", "data2vec-text", "ibert", "longformer", "luke", "mpnet", "roberta", "roberta-prelayernorm")
    + ("xlm-roberta", "xlm-roberta-xl", "xmod")
)
_NO_LIMIT = 1_000_000  # tokenizers say "no limit" with a number far above this

LABELLED = (Task.TEXT_CLASSIFICATION, Task.ZERO_SHOT_CLASSIFICATION, Task.TOKEN_CLASSIFICATION)

_SAME_HEAD = {
    Task.TEXT_CLASSIFICATION: (Task.TEXT_CLASSIFICATION, Task.ZERO_SHOT_CLASSIFICATION),
    Task.ZERO_SHOT_CLASSIFICATION: (Task.ZERO_SHOT_CLASSIFICATION, Task.TEXT_CLASSIFICATION),
}


def labels_of(config: Any) -> tuple[str, ...]:
    """Labels in the order of the head's outputs."""
    return tuple(str(config.id2label.get(index, f"LABEL_{index}")) for index in range(config.num_labels))


def entailment_of(labels: tuple[str, ...]) -> int | None:
    """Index of the label that says "entailment", None when the labels are not those of inference."""
    return next((index for index, label in enumerate(labels) if label.lower().startswith("entail")), None)


def served_tasks(request: LoadRequest, labels: tuple[str, ...]) -> tuple[Task, ...]:
    """Those of the requested tasks that one head serves; the first keeps its place."""
    first = request.tasks[0]
    served = [*_SAME_HEAD.get(first, (first,)), Task.FEATURE_EXTRACTION]
    if entailment_of(labels) is None and Task.ZERO_SHOT_CLASSIFICATION in served:
        served.remove(Task.ZERO_SHOT_CLASSIFICATION)
    return tuple(task for task in dict.fromkeys(request.tasks) if task in served)


def context_length(config: Any, tokenizer: Tokenizer, wanted: int | None) -> int | None:
    """Tokens one row may hold, special ones included; None when nothing bounds it."""
    limits = []
    positions = getattr(config, "max_position_embeddings", None)
    if isinstance(positions, int) and positions > 0:
        offset = (config.pad_token_id or 0) + 1 if config.model_type in _OFFSET_POSITIONS else 0
        limits.append(positions - offset)
    if (of_tokenizer := tokenizer.backend.model_max_length) < _NO_LIMIT:
        limits.append(int(of_tokenizer))
    if wanted is not None:
        limits.append(wanted)
    if not limits:
        return None
    least = tokenizer.single_overhead + 1
    if min(limits) < least:
        raise InvalidRequest(f"`context_length` must be at least {least} for this model.")
    return min(limits)


def pad_id_of(config: Any, tokenizer: Tokenizer) -> int:
    for padding in (config.pad_token_id, tokenizer.backend.pad_token_id):
        if padding is not None:
            return int(padding)
    return 0
