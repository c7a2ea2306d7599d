"""Labels for a whole text."""

from __future__ import annotations

from typing import Any

import numpy as np

from core.types import Label
from core.worker.runtimes.base import Row, Runtime
from core.worker.tasks.base import Prepared, room, sigmoid, softmax


def prepare(runtime: Runtime, texts: list[str], params: dict[str, Any]) -> Prepared:
    """One row a text, its end cut off where it is longer than the model reads."""
    tokenizer = runtime.tokenizer
    size = room(runtime, tokenizer.single_overhead, params["max_length"])
    sequences = tokenizer.ids(texts)
    function = params["function_to_apply"] or default_function(runtime)

    def finish(arrays: list[np.ndarray]) -> list[list[Label]]:
        return [best(runtime.info.labels, apply(function, logits), params["top_k"]) for logits in arrays]

    return Prepared(
        rows=[Row(tokenizer.inputs(sequence[:size]), "logits") for sequence in sequences],
        finish=finish,
        input_tokens=[len(sequence) + tokenizer.single_overhead for sequence in sequences],
        windows=[1] * len(texts),
        truncated=[len(sequence) > size for sequence in sequences],
    )


def default_function(runtime: Runtime) -> str:
    """What turns logits into scores when nothing is said; transformers' pipeline decides the same way."""
    if runtime.problem_type == "regression":
        return "none"
    if runtime.problem_type == "multi_label_classification" or len(runtime.info.labels) == 1:
        return "sigmoid"
    return "softmax"


def apply(function: str, logits: np.ndarray) -> np.ndarray:
    """Scores of one text from its logits (labels,)."""
    if function == "softmax":
        return softmax(logits)
    return sigmoid(logits) if function == "sigmoid" else logits


def best(labels: tuple[str, ...], scores: np.ndarray, top_k: int) -> list[Label]:
    """The `top_k` best labels, best first."""
    order = np.argsort(-scores, kind="stable")[:top_k]
    return [{"label": labels[index], "score": float(scores[index])} for index in order]
