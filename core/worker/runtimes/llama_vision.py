"""GGUF models that see: text by tokens, images by the rows of their tiles, in the same cache.

llama.cpp takes a batch of tokens or a batch of rows, so a step is several passes: texts of all sequences side by side,
then the tiles that come next. A tile is read when the last of its places has come, as one: some models let its rows
look at each other, and in others they share a place, so that half a tile could not be taken back.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

import llama_cpp
import numpy as np

from core.errors import CorruptModel, LoadFailed
from core.types import Task
from core.worker.generation.base import Chunk
from core.worker.generation.images import Span, spans
from core.worker.runtimes import llama_cpp as text
from core.worker.runtimes.base import ContextLost, LoadRequest, Progress
from core.worker.runtimes.llama_batch import RowBatch
from core.worker.runtimes.llama_projector import Picture, Projector, Tile
from core.worker.runtimes.llama_sight import LlamaSight


@dataclass(frozen=True, slots=True)
class _Seated:
    """A tile in a slot."""

    start: int  # index of its first row among the slot's tokens
    end: int
    place: int  # where it begins, as the model counts
    after: int  # where what comes behind it begins

    def shifted(self, index: int) -> int:
        """The place of the token at `index`, behind the tile."""
        return self.after + index - self.end


@dataclass(frozen=True, slots=True)
class _Run:
    """What one pass reads for a chunk: tokens, or a tile."""

    place: int
    tokens: Sequence[int] = ()
    tile: Tile | None = None


class _Reading:
    """A chunk on its way: what is left to read of it, and what its slot holds then."""

    def __init__(self, index: int, chunk: Chunk, seated: Sequence[_Seated], read: int) -> None:
        self.index = index  # in its step
        self.chunk = chunk
        self.seated = list(seated)
        self.read = read  # tokens of the slot, but for the rows of a tile that is not all there
        self.runs: deque[_Run] = deque()

    @property
    def is_last(self) -> bool:
        return not self.runs

    def lay_out(self, size: int, sight: LlamaSight) -> None:
        """The runs of the chunk, in order, for a vocabulary of `size` tokens."""
        done = 0
        for span in spans(self.chunk.tokens, size):
            self._add_text(done, span.start)
            done = span.start + span.count
            self._add_tiles(span, sight.shown(self.chunk.slot, span.number))
        self._add_text(done, len(self.chunk.tokens))

    def _add_text(self, start: int, end: int) -> None:
        if end > start:
            place = _place(self.seated, self.chunk.start + start)
            self.runs.append(_Run(place, tokens=self.chunk.tokens[start:end]))
            self.read = self.chunk.start + end

    def _add_tiles(self, span: Span, picture: Picture) -> None:
        for tile in picture.ending(span):
            start = self.chunk.start + span.start + tile.first - span.place
            place = _place(self.seated, start)
            self.seated.append(_Seated(start, start + tile.count, place, place + tile.span))
            self.runs.append(_Run(place, tile=tile))
            self.read = start + tile.count


class LlamaVision(text.LlamaCpp):
    """A loaded GGUF model with its projector."""

    vision: LlamaSight

    def __init__(self, request: LoadRequest, model: llama_cpp.llama_model_p, device: str) -> None:
        super().__init__(request, model, device)
        self._projector = Projector(request, model, device, request.threads or len(os.sched_getaffinity(0)))
        context, whole = self.info.context_length or 0, min(text.MICRO_BATCH, self.max_cached_tokens)
        self.vision = LlamaSight(
            self.codec, self._projector, self.name, context=context, slots=self.max_sequences, whole=whole
        )
        self._file = request.projector
        self.info = replace(self.info, tasks=(Task.IMAGE_TEXT_TO_TEXT, Task.TEXT_GENERATION))
        self._seated: list[list[_Seated]] = [[] for _ in range(self.max_sequences)]
        self._read = [0] * self.max_sequences  # tokens by slot, but for the rows of a tile that is not all there

    def step(self, chunks: Sequence[Chunk]) -> list[np.ndarray | None]:
        self._check(chunks)
        readings = [
            _Reading(index, chunk, self._seated[chunk.slot], self._read[chunk.slot])
            for index, chunk in enumerate(chunks)
        ]
        for reading in readings:
            self.vision.look(reading.chunk)  # before anything is read, since it may fail
            reading.lay_out(self.codec.size, self.vision)
        scores = self._run(readings)
        for reading in readings:
            slot = reading.chunk.slot
            self._held[slot] += len(reading.chunk.tokens)
            self._seated[slot], self._read[slot] = reading.seated, reading.read
        return scores

    def trim(self, slot: int, length: int) -> int:
        """See `Generator`. A tile that was read goes as a whole, so that fewer than `length` tokens may stay."""
        if length >= self._held[slot]:
            return self._held[slot]
        seated = self._seated[slot]
        length = next((each.start for each in seated if each.start < length < each.end), length)
        if length < self._read[slot]:
            if not self._forget(slot, _place(seated, length)):
                self._forget(slot, -1)
                length = 0
            self._seated[slot] = [each for each in seated if each.end <= length]
            self._read[slot] = length
        self._held[slot] = length
        return length

    def warm(self) -> None:
        """A token, and a small grey image. Raises LoadFailed or CorruptModel."""
        super().warm()
        picture = self._projector.lay_out(np.full((64, 64, 3), 128, np.uint8))
        if self.vision.lacks_tokens(picture):
            raise LoadFailed(
                f"{self.name} lacks the tokens that {self._file} puts around images, which was made for another model. "
                "Put the mmproj file of this model beside it, or load it for text-generation."
            )
        if not np.isfinite(self._projector.encode(picture, picture.tiles[0])).all():
            raise CorruptModel(f"{self._file} of {self.name} computes NaN: it is damaged. Fetch it again.")

    def close(self) -> None:
        self._projector.close()
        super().close()

    def _run(self, readings: Sequence[_Reading]) -> list[np.ndarray | None]:
        """All runs, in as few passes as their order allows. When it fails, nothing of them stays."""
        scores: list[np.ndarray | None] = [None] * len(readings)
        has_begun = False
        try:
            while any(reading.runs for reading in readings):
                texts = [reading for reading in readings if reading.runs and reading.runs[0].tile is None]
                if texts:
                    self._read_texts(texts, scores)
                    has_begun = True
                for reading in readings:
                    if reading.runs and reading.runs[0].tile is not None:
                        self._read_tile(reading, scores)
                        has_begun = True
        except ContextLost:
            raise
        except Exception:
            for reading in readings if has_begun else ():
                slot = reading.chunk.slot
                if not self._forget(slot, _place(self._seated[slot], self._read[slot])):
                    raise ContextLost("a step was given up half-way, and cannot be taken back") from None
            raise
        return scores

    def _read_texts(self, readings: Sequence[_Reading], scores: list[np.ndarray | None]) -> None:
        runs = [reading.runs.popleft() for reading in readings]
        chunks = [
            Chunk(reading.chunk.slot, run.tokens, run.place, reading.chunk.wants_logits and reading.is_last)
            for reading, run in zip(readings, runs, strict=True)
        ]
        ends = self._batch.fill(chunks)
        self._decode(self._batch.raw, chunks)
        for reading, chunk, end in zip(readings, chunks, ends, strict=True):
            if chunk.wants_logits:
                scores[reading.index] = self._logits(end)

    def _read_tile(self, reading: _Reading, scores: list[np.ndarray | None]) -> None:
        run = reading.runs.popleft()
        assert run.tile is not None
        if run.tile.count > self._batch.size:
            raise self._full()
        wants_logits = reading.chunk.wants_logits and reading.is_last
        batch = RowBatch(run.tile, run.place, reading.chunk.slot, wants_logits=wants_logits)
        if run.tile.is_seen_whole:
            llama_cpp.llama_set_causal_attn(self._context, False)
        try:
            self._decode(batch.raw, (Chunk(reading.chunk.slot, (), run.place, wants_logits),))
        finally:
            if run.tile.is_seen_whole:
                llama_cpp.llama_set_causal_attn(self._context, True)
        if wants_logits:
            scores[reading.index] = self._logits(run.tile.count - 1)


def _place(seated: Sequence[_Seated], index: int) -> int:
    """Where the token at `index` of a slot stands, as the model counts: a tile may take fewer places than rows."""
    before = next((each for each in reversed(seated) if each.end <= index), None)
    return index if before is None else before.shifted(index)


def load(request: LoadRequest, on_progress: Progress) -> LlamaVision:
    """The GGUF model at `request.file` with what sees for it, `request.projector`, warmed.

    Raises CorruptModel, LoadFailed or InsufficientMemory.
    """
    return text.open_model(request, on_progress, LlamaVision)
