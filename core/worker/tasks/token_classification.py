"""A label for each token, or the entities that the tokens make up."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from core.errors import RequestTooLarge
from core.types import Entity
from core.worker.runtimes.base import Row, Runtime
from core.worker.tasks.base import Prepared, check_rows, overlap_of, room, softmax, windows
from core.worker.tasks.labels import Tag, tags_of
from core.worker.tokenizers import Aligned, Span

MAX_TOKENS = 262_144  # of one request: the answer may have a line for each


@dataclass(frozen=True, slots=True)
class _Piece:
    """A token or a word with its label."""

    label: int
    score: float
    spans: list[Span]


def prepare(runtime: Runtime, texts: list[str], params: dict[str, Any]) -> Prepared:
    """One row for each window of a text; neighbouring windows share `stride` tokens."""
    tokenizer = runtime.tokenizer
    size = room(runtime, tokenizer.single_overhead)
    overlap = overlap_of(params["stride"], size)
    tokens = [tokenizer.aligned(text) for text in texts]
    if (count := sum(len(each.ids) for each in tokens)) > MAX_TOKENS:
        raise RequestTooLarge(f"This request has {count:,} tokens; one may have {MAX_TOKENS:,}. Send it in parts.")
    spans: list[list[tuple[int, int]]] = []
    for each in tokens:
        spans.append(windows(len(each.ids), size, overlap) if each.ids else [])
        check_rows(sum(map(len, spans)))
    rows = [
        Row(tokenizer.inputs(each.ids[start:end]), "logits")
        for each, its_windows in zip(tokens, spans, strict=True)
        for start, end in its_windows
    ]
    tags = tags_of(runtime.info.labels)
    before = len(tokenizer.single.parts[0])  # special tokens before the text's own

    def finish(arrays: list[np.ndarray]) -> list[list[Entity]]:
        outputs, taken = [], 0
        for text, each, its_windows in zip(texts, tokens, spans, strict=True):
            logits = [
                array[before : before + end - start]
                for array, (start, end) in zip(arrays[taken : taken + len(its_windows)], its_windows, strict=True)
            ]
            taken += len(its_windows)
            scores = softmax(merged(logits, its_windows, len(runtime.info.labels)))
            outputs.append(_entities(text, each, scores, runtime.info.labels, tags, params["aggregation_strategy"]))
        return outputs

    return Prepared(
        rows=rows,
        finish=finish,
        input_tokens=[len(each.ids) + tokenizer.single_overhead for each in tokens],
        windows=[max(len(its_windows), 1) for its_windows in spans],
        truncated=[False] * len(texts),
    )


def merged(logits: list[np.ndarray], spans: list[tuple[int, int]], labels: int) -> np.ndarray:
    """One row of logits a token, (tokens, labels), from those of overlapping windows.

    Each token is taken from the window that shows it the most context on its poorer side, so neighbours hand
    over in the middle of what they share.
    """
    if not logits:
        return np.zeros((0, labels), np.float32)
    parts, taken = [], 0
    for index, (start, _) in enumerate(spans):
        end = spans[index][1]
        if index + 1 < len(spans):
            shared_from = spans[index + 1][0]
            end = shared_from + (end - shared_from + 1) // 2
        parts.append(logits[index][taken - start : end - start])
        taken = end
    return np.concatenate(parts)


def _entities(
    text: str, tokens: Aligned, scores: np.ndarray, labels: tuple[str, ...], tags: list[Tag], strategy: str
) -> list[Entity]:
    """Scores (tokens, labels) as the rows of the answer."""
    if strategy == "none":
        return [
            {"label": labels[label], "score": float(row[label]), "word": text[start:end], "start": start, "end": end}
            for row, label, (start, end) in zip(scores, scores.argmax(axis=-1), tokens.spans, strict=True)
        ]
    if strategy == "simple":
        pieces = [_piece(row, [span]) for row, span in zip(scores, tokens.spans, strict=True)]
    else:
        pieces = [
            _piece(_word_scores(scores[start:end], strategy), tokens.spans[start:end])
            for start, end in _words(tokens.continues)
        ]
    groups = (_entity(text, group, tags) for group in _grouped(pieces, tags) if tags[group[0].label].kind != "O")
    return [entity for entity in groups if entity["word"]]


def _piece(scores: np.ndarray, spans: list[Span]) -> _Piece:
    label = int(scores.argmax())
    return _Piece(label, float(scores[label]), spans)


def _words(continues: list[bool]) -> list[tuple[int, int]]:
    """Words as ranges of tokens."""
    starts = [index for index, goes_on in enumerate(continues) if index == 0 or not goes_on]
    return list(pairwise([*starts, len(continues)]))


def _word_scores(scores: np.ndarray, strategy: str) -> np.ndarray:
    """The scores (labels,) of a word from those of its tokens (tokens, labels)."""
    if strategy == "first":
        return scores[0]
    if strategy == "max":
        return scores[int(scores.max(axis=-1).argmax())]
    return scores.mean(axis=0)


def _grouped(pieces: list[_Piece], tags: list[Tag]) -> list[list[_Piece]]:
    """Neighbours of one entity together."""
    groups: list[list[_Piece]] = []
    for piece in pieces:
        tag = tags[piece.label]
        last = tags[groups[-1][-1].label] if groups else None
        if last is not None and last.kind == tag.kind and not tag.begins and not last.ends:
            groups[-1].append(piece)
        else:
            groups.append([piece])
    return groups


def _entity(text: str, group: list[_Piece], tags: list[Tag]) -> Entity:
    shown = [span for piece in group for span in piece.spans if span[0] < span[1]]
    start, end = (shown[0][0], max(end for _, end in shown)) if shown else (0, 0)
    return {
        "entity_group": tags[group[0].label].kind,
        "score": float(np.mean([piece.score for piece in group])),
        "word": text[start:end],
        "start": start,
        "end": end,
    }
