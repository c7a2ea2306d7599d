"""What a runtime offers: token ids in, one array a row out. It knows no task's answer format and no text.

A runtime is used by one thread, the model thread (by as many as it says with `passes`); its tokenizer by another, the
text thread.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from core.types import ModelInfo, Quantization, Task
from core.types import Runtime as RuntimeName
from core.worker.tokenizers import Tokenizer

Progress = Callable[[str, dict[str, Any]], None]  # stage ("loading", "warming") and its data


class ContextLost(Exception):
    """The device's context is gone for good (device-side assert, illegal access): the process has to end."""


@dataclass(frozen=True, slots=True)
class LoadRequest:
    """All that a runtime needs to load a model that lies in a local directory."""

    path: str
    runtime: RuntimeName
    tasks: tuple[Task, ...]  # first: the one that chooses the head
    file: str | None = None  # a weight file inside `path`
    device: str = "auto"  # auto, cpu, cuda, cuda:N
    layers: Mapping[str, int] | None = None  # of a decoder on several GPUs, how many each has; `device` is the first
    dtype: str | None = None  # float32, float16, bfloat16
    quantization: Quantization | None = None
    context_length: int | None = None  # tokens; only ever below the model's own
    max_batch_tokens: int | None = None
    allow_pickle: bool = False
    gpu_layers: int | None = None  # of a GGUF model
    projector: str | None = None  # what sees for a GGUF model, its mmproj file inside `path`
    max_sequences: int = 8  # answers generated at once
    max_cached_tokens: int | None = None  # of all sequences together
    threads: int | None = None
    passes: int = 1  # forward passes at once, where a runtime can
    name: str = "this model"  # for messages


@dataclass(frozen=True, slots=True)
class Embedding:
    """How the model's own files turn token vectors into one vector a text."""

    dimension: int
    pooling: str  # as sentence-transformers names it: mean, cls, max, … several joined by "+"
    normalizes: bool = False
    prompts: Mapping[str, str] = field(default_factory=dict)  # name → text put before the input
    default_prompt: str | None = None  # name
    pools_prompt: bool = True  # whether the tokens of a prompt count in the pooling
    lowers: bool = False  # texts are read in lower case


@dataclass(slots=True)
class Row:
    """One sequence of tokens to run: the unit of batching. Lengths are in tokens."""

    inputs: dict[str, list[int]]  # input_ids, attention_mask, maybe token_type_ids: equal lengths, no padding
    want: str  # "logits" or "embedding"; rows of one batch share it
    positions: list[int] | None = None  # logits of these tokens only (fill-mask)
    unpooled: int = 0  # leading tokens that the pooling leaves out (a prompt)
    owner: Any = field(default=None, compare=False)  # the request it belongs to; the batcher's business

    @property
    def length(self) -> int:
        return len(self.inputs["input_ids"])


class Runtime(Protocol):
    """A loaded model."""

    name: str
    info: ModelInfo
    tokenizer: Tokenizer
    problem_type: str | None  # of a classification head: regression, (single|multi)_label_classification
    embedding: Embedding | None  # None when the model cannot embed
    max_batch_tokens: int  # padded tokens one forward pass may hold
    pads: bool  # whether rows of a pass are padded to the longest
    passes: int  # forward passes that may run at once, each on a thread of its own
    overhead_tokens: int  # what a forward pass costs before its first token, in tokens; 0 pads nothing

    def forward(self, rows: list[Row]) -> list[np.ndarray]:
        """One pass over `rows`, padded together. Returns float32, padding cut off, one array for each row.

        want="logits": what the head gives: (labels,), (length, labels), QA (length, 2), or with `positions`
        (positions, vocabulary). want="embedding": the pooled vector (dimension,), before any last normalisation.
        Raises InsufficientMemory when the device is full; the batcher then splits the batch. Raises ContextLost.
        """
        ...


def padded(rows: list[Row], pad_id: int) -> dict[str, np.ndarray]:
    """The inputs of `rows` side by side, int64 (rows, longest), padded on the right."""
    longest = max(row.length for row in rows)
    batch = {}
    for key in rows[0].inputs:
        filler = pad_id if key == "input_ids" else 0
        array = np.full((len(rows), longest), filler, np.int64)
        for index, row in enumerate(rows):
            array[index, : row.length] = row.inputs[key]
        batch[key] = array
    return batch
