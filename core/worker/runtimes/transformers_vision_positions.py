"""Positions of tokens where an image has three: of time, of the row, of the column (M-RoPE; Wang et al. 2024,
"Qwen2-VL", section 2.1). A text goes on behind an image from the larger of its sides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from core.worker.generation.base import Chunk
from core.worker.generation.images import spans

Grid = Callable[[int, int], tuple[int, int]]  # slot and an image's number to rows and columns of its places


@dataclass(frozen=True, slots=True)
class _Shown:
    start: int  # index of the image's first place
    first: int  # position there
    rows: int
    columns: int


class Positions:
    """Which images each slot has read, and where."""

    def __init__(self, grid: Grid, size: int) -> None:
        self._grid = grid
        self._size = size  # of the vocabulary
        self._slots: dict[int, list[_Shown]] = {}

    def note(self, chunks: Sequence[Chunk]) -> None:
        """The images that begin in `chunks`, which are about to be read; again, where a step is repeated."""
        for chunk in chunks:
            self.trim(chunk.slot, chunk.start)
            for span in spans(chunk.tokens, self._size):
                if span.place == 0:
                    start = chunk.start + span.start
                    first = self.at(chunk.slot, start, 1)[0][0]
                    rows, columns = self._grid(chunk.slot, span.number)
                    self._slots.setdefault(chunk.slot, []).append(_Shown(start, first, rows, columns))

    def trim(self, slot: int, length: int) -> None:
        """Forgets the images that begin behind `length` tokens."""
        shown = [each for each in self._slots.get(slot, ()) if each.start < length]
        self._slots[slot] = shown

    def at(self, slot: int, start: int, count: int) -> list[list[int]]:
        """Of `count` tokens from the index `start` on: their positions of time, of rows, of columns."""
        shown = self._slots.get(slot, [])
        found: list[tuple[int, int, int]] = []
        upcoming = next((index for index, each in enumerate(shown) if each.start > start), len(shown))
        for index in range(start, start + count):
            if upcoming < len(shown) and shown[upcoming].start == index:
                upcoming += 1
            found.append(_within(shown[upcoming - 1], index) if upcoming else (index, index, index))
        return [list(each) for each in zip(*found, strict=True)]


def _within(shown: _Shown, index: int) -> tuple[int, int, int]:
    place = index - shown.start
    if place < shown.rows * shown.columns:
        return shown.first, shown.first + place // shown.columns, shown.first + place % shown.columns
    after = shown.first + max(shown.rows, shown.columns) + place - shown.rows * shown.columns
    return after, after, after
