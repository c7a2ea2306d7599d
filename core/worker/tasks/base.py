"""What a task offers: texts in, rows for the model; arrays from the model in, the answer out.

Runs on the text thread, beside the model thread: tokenising never waits for a forward pass.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from core.errors import InvalidRequest, RequestTooLarge
from core.worker.runtimes.base import Row, Runtime

MAX_ROWS = 8192  # of one request: what they take has to fit in memory together


@dataclass(slots=True)
class Prepared:
    """A request made ready for the model. All tuples have one element for each item of the request, in order."""

    rows: list[Row]
    finish: Callable[[list[np.ndarray]], Any]  # arrays in the order of `rows` → outputs, one for each item
    input_tokens: list[int]  # of each item as given, special tokens included, before any cut
    windows: list[int]  # windows each item was read in
    truncated: list[bool]  # whether the end of each item was not read


def room(runtime: Runtime, overhead: int, max_length: int | None = None) -> int:
    """Tokens of the text itself that one row holds beside `overhead` special ones. Raises InvalidRequest."""
    limits = [limit for limit in (runtime.info.context_length, max_length) if limit is not None]
    if not limits:
        return 10**9  # a model without positions reads any length
    if min(limits) <= overhead:
        raise InvalidRequest(f"`max_length` must be above {overhead}: that many special tokens stand around a text.")
    return min(limits) - overhead


def softmax(logits: np.ndarray) -> np.ndarray:
    """Over the last axis."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    # tanh does not overflow where exp(-x) would
    return 0.5 * (1.0 + np.tanh(0.5 * logits))


def check_rows(count: int) -> None:
    """Raises RequestTooLarge when a request needs more rows than one may have at once."""
    if count > MAX_ROWS:
        raise RequestTooLarge(
            f"This request would be read in {count:,} pieces; one may have {MAX_ROWS:,}. Send less text, fewer labels, "
            "or a smaller `stride`."
        )


def windows(count: int, size: int, overlap: int) -> list[tuple[int, int]]:
    """Windows (start, end) of at most `size` over `count` tokens, each sharing at least `overlap` with the next.

    The last one is moved back to be full: its tokens then see as much as any.
    """
    if count <= size:
        return [(0, count)]
    check_rows((count - size) // (size - overlap))
    starts = [*range(0, count - size, size - overlap), count - size]
    return [(start, start + size) for start in starts]


def overlap_of(stride: int | None, size: int) -> int:
    """Tokens that neighbouring windows of `size` share: `stride`, else a quarter. Raises InvalidRequest."""
    if stride is None:
        return size // 4
    if stride >= size:
        raise InvalidRequest(f"`stride` must be below {size}: it is the overlap of windows of {size} tokens.")
    return stride
