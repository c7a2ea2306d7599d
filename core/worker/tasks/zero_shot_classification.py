"""Labels that the model was never trained on: each becomes a sentence that the text entails, or not."""

from __future__ import annotations

from typing import Any

import numpy as np

from core.errors import InvalidRequest
from core.types import Label
from core.worker.runtimes.base import Row, Runtime
from core.worker.runtimes.configuration import entailment_of
from core.worker.tasks.base import Prepared, check_rows, room, softmax
from core.worker.tasks.text_classification import best


def prepare(runtime: Runtime, texts: list[str], params: dict[str, Any]) -> Prepared:
    """One row for each pair of text and label; a text that is too long is cut, a label never."""
    tokenizer = runtime.tokenizer
    labels = tuple(params["candidate_labels"])
    check_rows(len(texts) * len(labels))
    hypotheses = tokenizer.ids([params["hypothesis_template"].replace("{}", label) for label in labels])
    longest = max(map(len, hypotheses))
    if runtime.info.context_length is not None and runtime.info.context_length <= longest + tokenizer.pair_overhead:
        raise InvalidRequest(
            f"A candidate label has {longest} tokens with its template; {runtime.name} reads "
            f"{runtime.info.context_length} in all. Use shorter labels."
        )
    sizes = [room(runtime, tokenizer.pair_overhead + len(hypothesis)) for hypothesis in hypotheses]
    sequences = tokenizer.ids(texts)

    def finish(arrays: list[np.ndarray]) -> list[list[Label]]:
        logits = np.stack(arrays).reshape(len(texts), len(labels), -1)
        return [best(labels, _scores(each, runtime.info.labels, params["multi_label"]), len(labels)) for each in logits]

    return Prepared(
        rows=[
            Row(tokenizer.inputs(sequence[:size], hypothesis), "logits")
            for sequence in sequences
            for hypothesis, size in zip(hypotheses, sizes, strict=True)
        ],
        finish=finish,
        input_tokens=[len(sequence) + longest + tokenizer.pair_overhead for sequence in sequences],
        windows=[1] * len(texts),
        truncated=[len(sequence) > min(sizes) for sequence in sequences],
    )


def _scores(logits: np.ndarray, model_labels: tuple[str, ...], multi_label: bool) -> np.ndarray:
    """A score for each candidate from the logits (candidates, labels of the model)."""
    entailment = entailment_of(model_labels)
    assert entailment is not None
    if multi_label or len(logits) == 1:
        contradiction = -1 if entailment == 0 else 0
        return softmax(logits[:, [contradiction, entailment]])[:, 1]
    return softmax(logits[:, entailment])
