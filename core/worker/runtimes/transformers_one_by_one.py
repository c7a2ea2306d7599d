"""Slots of models that remember in a way of their own, as Mamba does: one goes through the model after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from core.worker.generation.base import Chunk
from core.worker.runtimes.transformers_forward import Forward


@dataclass(slots=True)
class _Alone:
    """A slot of a model with a state of its own kind."""

    state: Any = None  # as the model gave it; None where it gives none
    tokens: list[int] = field(default_factory=list)  # read so far
    waiting: list[int] = field(default_factory=list)  # of the prompt, for its last token
    answered: tuple[int, np.ndarray] | None = None  # the scores after so many tokens


class OneByOne:
    """For models whose state is no list of keys and values: one sequence after the other, and nothing to be cut.

    A prompt goes through in one piece, since not all such models can go on from a state with more than one token.
    """

    _STATES = ("past_key_values", "cache_params")

    def __init__(self, forward: Forward) -> None:
        self._forward = forward
        self._state = next((name for name in self._STATES if name in forward.takes), None)
        self._slots: dict[int, _Alone] = {}

    def step(self, chunks: Sequence[Chunk]) -> list[np.ndarray | None]:
        return [self._one(chunk) for chunk in chunks]

    def trim(self, slot: int, length: int) -> int:
        alone = self._slots.get(slot)
        if alone is None or length != len(alone.tokens) + len(alone.waiting):
            self._slots.pop(slot, None)
            return 0
        return length

    def _one(self, chunk: Chunk) -> np.ndarray | None:
        alone = self._slots.setdefault(chunk.slot, _Alone())
        end = chunk.start + len(chunk.tokens)
        if alone.answered and alone.answered[0] == end:  # a step that failed for another slot is run again
            return alone.answered[1]
        if len(alone.tokens) + len(alone.waiting) < end:
            alone.waiting += chunk.tokens
        if not chunk.wants_logits:
            return None
        pieces = [alone.waiting] if alone.state is None else [[token] for token in alone.waiting]
        whole = [*alone.tokens, *alone.waiting]
        try:
            for piece in pieces:
                scores = self._run(alone, piece)
        except BaseException:  # nobody knows what its state is now: all is read again
            alone.tokens, alone.waiting, alone.state = [], whole, None
            raise
        alone.waiting = []
        alone.answered = (end, scores)
        return scores

    def _run(self, alone: _Alone, piece: list[int]) -> np.ndarray:
        before = len(alone.tokens)
        alone.tokens += piece
        if self._state is not None and alone.state is not None:
            positions = [list(range(before, len(alone.tokens)))]
            scores, outputs = self._forward([piece], positions, **{self._state: alone.state})
        else:
            scores, outputs = self._forward([alone.tokens], [list(range(len(alone.tokens)))])
        alone.state = outputs.get(self._state) if self._state is not None else None
        return scores[0]
