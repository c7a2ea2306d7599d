"""What llama.cpp reads in one pass: tokens of any sequences, or the rows of one tile of an image."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import llama_cpp
import numpy as np

from core.worker.generation.base import Chunk

if TYPE_CHECKING:
    from core.worker.runtimes.llama_projector import Tile


class TokenBatch:
    """A llama_batch over arrays of ours, filled anew for each step."""

    def __init__(self, size: int, slots: int) -> None:
        self.size = size
        self._tokens = np.zeros(size, np.int32)
        self._positions = np.zeros(size, np.int32)
        self._counts = np.ones(size, np.int32)  # sequences that each token belongs to
        self._owners = np.zeros(size, np.uintp)  # addresses in _slots
        self._wants = np.zeros(size, np.int8)
        self._slots = np.arange(slots, dtype=np.int32)
        self._addresses = [self._slots.ctypes.data + self._slots.itemsize * slot for slot in range(slots)]
        self._range = np.arange(size, dtype=np.int32)
        raw: Any = llama_cpp.llama_batch()
        self.raw = raw
        raw.token = self._tokens.ctypes.data_as(ctypes.POINTER(llama_cpp.llama_token))
        raw.pos = self._positions.ctypes.data_as(ctypes.POINTER(llama_cpp.llama_pos))
        raw.n_seq_id = self._counts.ctypes.data_as(ctypes.POINTER(ctypes.c_int32))
        raw.seq_id = self._owners.ctypes.data_as(ctypes.POINTER(ctypes.POINTER(llama_cpp.llama_seq_id)))
        raw.logits = self._wants.ctypes.data_as(ctypes.POINTER(ctypes.c_int8))

    def fill(self, chunks: Sequence[Chunk]) -> list[int]:
        """The chunks one behind the other. Returns where the last token of each is."""
        ends = []
        at = 0
        for chunk in chunks:
            end = at + len(chunk.tokens)
            self._tokens[at:end] = chunk.tokens
            np.add(self._range[: end - at], chunk.start, out=self._positions[at:end])
            self._owners[at:end] = self._addresses[chunk.slot]
            self._wants[at:end] = 0
            self._wants[end - 1] = chunk.wants_logits
            ends.append(end - 1)
            at = end
        self.raw.n_tokens = at
        return ends


class RowBatch:
    """A llama_batch of a tile's rows."""

    def __init__(self, tile: Tile, place: int, slot: int, *, wants_logits: bool) -> None:
        assert tile.rows is not None
        self._rows = np.ascontiguousarray(tile.rows, np.float32)
        self._places = np.ascontiguousarray(tile.places_at(place), np.int32)
        self._counts = np.ones(tile.count, np.int32)
        self._slot = np.array([slot], np.int32)
        self._owners = np.full(tile.count, self._slot.ctypes.data, np.uintp)
        self._wants = np.zeros(tile.count, np.int8)
        self._wants[-1] = wants_logits
        raw: Any = llama_cpp.llama_batch()
        self.raw = raw
        raw.n_tokens = tile.count
        raw.embd = self._rows.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        raw.pos = self._places.ctypes.data_as(ctypes.POINTER(llama_cpp.llama_pos))
        raw.n_seq_id = self._counts.ctypes.data_as(ctypes.POINTER(ctypes.c_int32))
        raw.seq_id = self._owners.ctypes.data_as(ctypes.POINTER(ctypes.POINTER(llama_cpp.llama_seq_id)))
        raw.logits = self._wants.ctypes.data_as(ctypes.POINTER(ctypes.c_int8))
