"""The part of a context that answers a question."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from core.errors import InvalidRequest
from core.types import Answer
from core.worker.runtimes.base import Row, Runtime
from core.worker.tasks.base import Prepared, check_rows, overlap_of, room, softmax, windows
from core.worker.tokenizers import Aligned

MAX_ANSWER_TOKENS = 15  # as transformers' pipeline had it


@dataclass(frozen=True, slots=True)
class _Reading:
    """One question over one context."""

    context: str
    tokens: Aligned  # of the context
    windows: list[tuple[int, int]]
    offset: int  # where the context's tokens begin in a row
    input_tokens: int


def prepare(runtime: Runtime, items: list[dict[str, str]], params: dict[str, Any]) -> Prepared:
    """One row for each window of a context, the whole question in each.

    Output of an item: the best answer, or with `top_k` above one a list of them, best first.
    """
    readings, rows = [], []
    for item in items:
        reading, its_rows = _read(runtime, item, params["stride"])
        readings.append(reading)
        rows += its_rows
        check_rows(len(rows))

    def finish(arrays: list[np.ndarray]) -> list[Answer | list[Answer]]:
        outputs: list[Answer | list[Answer]] = []
        taken = 0
        for reading in readings:
            count = len(reading.windows)
            answers = _answers(reading, arrays[taken : taken + count], params)
            outputs.append(answers if params["top_k"] > 1 else answers[0])
            taken += count
        return outputs

    return Prepared(
        rows=rows,
        finish=finish,
        input_tokens=[reading.input_tokens for reading in readings],
        windows=[len(reading.windows) for reading in readings],
        truncated=[False] * len(items),
    )


def _read(runtime: Runtime, item: dict[str, str], stride: int | None) -> tuple[_Reading, list[Row]]:
    tokenizer = runtime.tokenizer
    (question,) = tokenizer.ids([item["question"]])
    tokens = tokenizer.aligned(item["context"])
    overhead = tokenizer.pair_overhead + len(question)
    if runtime.info.context_length is not None and runtime.info.context_length <= overhead:
        raise InvalidRequest(
            f"`question` has {len(question)} tokens; {runtime.name} reads {runtime.info.context_length} in all, and "
            "the context has to fit beside it. Ask a shorter question."
        )
    size = room(runtime, overhead)
    spans = windows(len(tokens.ids), size, overlap_of(stride, size))
    rows = [Row(tokenizer.inputs(question, tokens.ids[start:end]), "logits") for start, end in spans]
    offset = tokenizer.pair.start_of(1, question)
    return _Reading(item["context"], tokens, spans, offset, len(tokens.ids) + overhead), rows


def _answers(reading: _Reading, arrays: list[np.ndarray], params: dict[str, Any]) -> list[Answer]:
    """The `top_k` best spans over all windows, at least one answer."""
    scores: dict[tuple[int, int], float] = {}  # (start, end) in characters → best score of any window
    null_score = 1.0
    for (first, last), logits in zip(reading.windows, arrays, strict=True):
        spans, null = _spans(logits, reading.offset, last - first, params["top_k"] + 10)
        null_score = min(null_score, null)
        for start, end, score in spans:
            shown = [span for span in reading.tokens.spans[first + start : first + end + 1] if span[0] < span[1]]
            if shown:
                place = (shown[0][0], max(end for _, end in shown))
                scores[place] = max(score, scores.get(place, 0.0))
    answers: list[Answer] = [
        {"answer": reading.context[start:end], "score": score, "start": start, "end": end}
        for (start, end), score in scores.items()
    ]
    if params["handle_impossible_answer"] or not answers:
        answers.append({"answer": "", "score": null_score, "start": 0, "end": 0})
    answers.sort(key=lambda answer: -answer["score"])
    return answers[: params["top_k"]]


def _spans(logits: np.ndarray, offset: int, length: int, count: int) -> tuple[list[tuple[int, int, float]], float]:
    """The best `count` spans of one window and the score of "no answer".

    `logits`: (tokens, 2), start and end. Spans are (first, last, score) in tokens of the window's context.
    Probabilities are over the context's tokens and the first token of the row, which stands for "no answer".
    """
    seen = np.concatenate([logits[:1], logits[offset : offset + length]])
    starts, ends = softmax(seen[:, 0]), softmax(seen[:, 1])
    null = float(starts[0] * ends[0])
    starts, ends = starts[1:], ends[1:]
    reach = min(MAX_ANSWER_TOKENS, length)
    # (length, reach): row s holds the spans that begin at token s, of 1 to `reach` tokens
    padded = np.concatenate([ends, np.zeros(reach, ends.dtype)])
    grid = (
        starts[:, None] * np.lib.stride_tricks.sliding_window_view(padded, reach)[:length] if length else ends[:, None]
    )
    flat = grid.ravel()
    order = np.argsort(-flat, kind="stable")[:count]
    spans = [(int(at // reach), int(at // reach + at % reach), float(flat[at])) for at in order]
    return [(first, last, score) for first, last, score in spans if last < length], null
