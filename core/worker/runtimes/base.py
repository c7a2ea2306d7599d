"""What a runtime offers: token ids in, one array a row out. It knows no task's answer format and no text.

A runtime is used by one thread, the model thread; its tokenizer by another, the text thread.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from core.types import ModelInfo


class ContextLost(Exception):
    """The device's context is gone for good (device-side assert, illegal access): the process has to end."""


@dataclass(slots=True)
class Row:
    """One sequence of tokens to run: the unit of batching. Lengths are in tokens."""

    inputs: dict[str, list[int]]  # input_ids, attention_mask, maybe token_type_ids: equal lengths, no padding
    want: str  # "logits", "hidden" or "embedding"; rows of one batch share it
    positions: list[int] | None = None  # logits of these tokens only (fill-mask)
    owner: Any = field(default=None, compare=False)  # the request it belongs to; the batcher's business

    @property
    def length(self) -> int:
        return len(self.inputs["input_ids"])


class Runtime(Protocol):
    """A loaded model."""

    info: ModelInfo
    tokenizer: Any  # transformers tokenizer, fast or slow
    max_batch_tokens: int  # padded tokens one forward pass may hold
    overhead_tokens: int  # what a forward pass costs before its first token, in tokens; 0 pads nothing

    def forward(self, rows: list[Row]) -> list[np.ndarray]:
        """One pass over `rows`, padded together. Returns float32, padding cut off, one array for each row.

        want="logits": what the head gives: (labels,), (length, labels), QA (length, 2), or with `positions`
        (positions, vocabulary). want="hidden": last hidden state (length, width). want="embedding": the
        pooled vector (dimension,), not normalised unless the model's own files do so.
        Raises InsufficientMemory when the device is full; the batcher then splits the batch.
        """
        ...
