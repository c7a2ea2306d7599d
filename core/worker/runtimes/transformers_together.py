"""Slots of models that remember keys and values: their answers go through the model side by side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from core.worker.generation.base import Chunk
from core.worker.runtimes.keyvalues import Batch, KeyValues
from core.worker.runtimes.transformers_forward import Forward

# A pass more costs as much as so many tokens: LLaMA 135M in fp32 on 2 cores, some 45 ms a pass and 2 ms a token.
PASS_TOKENS = 16


class Together:
    """Answers that are being written go through the model in one batch, prompts that begin in others of like length.

    A prompt that goes on is read by itself. A slot is in the batch, or it is parked: read so far, or waiting for its
    next turn.
    """

    def __init__(self, forward: Forward, limit: int) -> None:
        self._forward = forward
        self._parked: dict[int, KeyValues] = {}
        self._batch = Batch(limit)
        self._limit = limit

    def step(self, chunks: Sequence[Chunk]) -> list[np.ndarray | None]:
        written = {chunk.slot: chunk for chunk in chunks if len(chunk.tokens) == 1 and chunk.start}
        self._arrange(written)
        scores: dict[int, np.ndarray] = {}
        begun: dict[int, KeyValues] = {}
        read: list[tuple[KeyValues, int]] = []
        for group in of_like_length([chunk for chunk in chunks if not chunk.start]):
            begun |= self._begin(group, scores)
        for chunk in chunks:
            if chunk.start and chunk.slot not in written:
                cache, scores[chunk.slot] = self._read(chunk)
                read.append((cache, len(chunk.tokens)))
        if written:
            scores |= self._write(written)
            self._batch.cache.commit(1)
        self._parked |= begun  # nothing fails any more
        for cache, count in read:
            cache.commit(count)
        return [scores[chunk.slot] if chunk.wants_logits else None for chunk in chunks]

    def trim(self, slot: int, length: int) -> int:
        if slot in self._batch.slots:
            parked = self._batch.leave(slot, keep=length > 0)
            if parked is not None:
                self._parked[slot] = parked
        if length == 0:
            self._parked.pop(slot, None)
        elif slot in self._parked:
            self._parked[slot].length = min(length, self._parked[slot].length)
        return self._parked[slot].length if slot in self._parked else 0

    def _arrange(self, written: dict[int, Chunk]) -> None:
        """The batch holds exactly the slots that are being written."""
        for slot in [slot for slot in self._batch.slots if slot not in written]:
            parked = self._batch.leave(slot, keep=True)
            assert parked is not None
            self._parked[slot] = parked
        for slot in written:
            if slot not in self._batch.slots:
                self._batch.join(slot, self._parked[slot])
                del self._parked[slot]  # only now: there may be no memory to join

    def _begin(self, chunks: list[Chunk], scores: dict[int, np.ndarray]) -> dict[int, KeyValues]:
        """Reads them side by side from the first column on. What stands behind a shorter one is seen by no token of
        it, so that no mask is needed."""
        length = max(len(chunk.tokens) for chunk in chunks)
        cache = KeyValues(len(chunks))
        cache.reserve(len(chunks), length)
        tokens = [[*chunk.tokens, *[chunk.tokens[-1]] * (length - len(chunk.tokens))] for chunk in chunks]
        ends = [len(chunk.tokens) - 1 for chunk in chunks]
        positions = [self._forward.positions(chunk.slot, 0, length) for chunk in chunks]
        of_rows, _ = self._forward(tokens, positions, ends, past_key_values=cache)
        scores.update(zip((chunk.slot for chunk in chunks), of_rows, strict=True))
        return {chunk.slot: cache.take(row, 0, len(chunk.tokens)) for row, chunk in enumerate(chunks)}

    def _read(self, chunk: Chunk) -> tuple[KeyValues, np.ndarray]:
        cache = self._parked.setdefault(chunk.slot, KeyValues())
        end = chunk.start + len(chunk.tokens)
        cache.reserve(1, end, self._limit)
        positions = [self._forward.positions(chunk.slot, chunk.start, len(chunk.tokens))]
        scores, _ = self._forward([list(chunk.tokens)], positions, past_key_values=cache)
        return cache, scores[0]

    def _write(self, written: dict[int, Chunk]) -> dict[int, np.ndarray]:
        batch = self._batch
        batch.make_room()
        tokens = [[written[slot].tokens[0]] for slot in batch.slots]
        positions = [self._forward.positions(slot, written[slot].start, 1) for slot in batch.slots]
        mask = batch.mask(self._forward.device)
        scores, _ = self._forward(tokens, positions, past_key_values=batch.cache, attention_mask=mask)
        return dict(zip(batch.slots, scores, strict=True))


def of_like_length(chunks: Sequence[Chunk]) -> list[list[Chunk]]:
    """Groups in each of which padding a chunk to the longest costs less than a pass of its own."""
    groups: list[list[Chunk]] = []
    for chunk in sorted(chunks, key=lambda chunk: -len(chunk.tokens)):
        if groups and len(groups[-1][0].tokens) - len(chunk.tokens) < PASS_TOKENS:
            groups[-1].append(chunk)
        else:
            groups.append([chunk])
    return groups
