"""Keys and values as onnxruntime holds them. What a pass gives is what the next one takes: nothing is copied while
the same sequences go on together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from onnxruntime import OrtValue

from core.worker.runtimes.onnxruntime_graph import Past


@dataclass(frozen=True, slots=True, eq=False)
class Cache:
    """Several sequences side by side."""

    values: Sequence[OrtValue]  # one for each Past: (rows, heads, columns, head_dim)
    rows: int
    columns: int


@dataclass(frozen=True, slots=True)
class Held:
    """Where one sequence lies: `length` columns of a row, from `start` on."""

    cache: Cache
    row: int
    start: int
    length: int

    @property
    def end(self) -> int:
        return self.start + self.length

    def cut(self, length: int) -> Held:
        """Its beginning. Nothing moves until it is read on."""
        return Held(self.cache, self.row, self.start, length)


class Layout(Protocol):
    """How sequences of different lengths share a cache."""

    def is_whole(self, group: Sequence[Held], count: int) -> bool:
        """Whether `group` is all of one cache, row by row, so that it can read `count` tokens as it lies."""
        ...

    def start(self, held: Held, columns: int) -> int:
        """Where a sequence begins in a cache of so many columns."""
        ...

    def mask(self, group: Sequence[Held], count: int) -> np.ndarray:
        """Which columns count, (rows, columns), the `count` tokens that are read included."""
        ...


class EndsTogether:
    """Filled up on the left: what is read goes into the next column for all."""

    def is_whole(self, group: Sequence[Held], count: int) -> bool:
        return _is_all(group) and all(each.end == each.cache.columns for each in group)

    def start(self, held: Held, columns: int) -> int:
        return columns - held.length

    def mask(self, group: Sequence[Held], count: int) -> np.ndarray:
        starts = np.array([each.start for each in group])[:, None]
        return np.arange(group[0].cache.columns + count) >= starts


class BeginsTogether:
    """Filled up on the right: what is read goes behind each sequence's own last column.

    The operator GroupQueryAttention does so; it counts what a row has read from the mask.
    """

    def is_whole(self, group: Sequence[Held], count: int) -> bool:
        # columns to spare are only known to be taken well for a single token
        is_exact = all(each.length == each.cache.columns for each in group)
        return _is_all(group) and all(each.start == 0 for each in group) and (count == 1 or is_exact)

    def start(self, held: Held, columns: int) -> int:
        return 0

    def mask(self, group: Sequence[Held], count: int) -> np.ndarray:
        lengths = np.array([each.length for each in group])[:, None] + count
        return np.arange(lengths.max()) < lengths


def empty(pasts: Sequence[Past], device: str) -> Held:
    """A sequence of no tokens."""
    return Held(Cache([_value(past.zeros(1, 0), device) for past in pasts], 1, 0), 0, 0, 0)


def gathered(group: Sequence[Held], pasts: Sequence[Past], device: str, layout: Layout) -> list[Held]:
    """`group` side by side in a cache of its own, filled up with zeros."""
    columns = max(each.length for each in group)
    starts = [layout.start(each, columns) for each in group]
    values = []
    for index, past in enumerate(pasts):
        array = past.zeros(len(group), columns)
        for row, (each, start) in enumerate(zip(group, starts, strict=True)):
            array[row, :, start : start + each.length] = each.cache.values[index].numpy()[
                each.row, :, each.start : each.end
            ]
        values.append(_value(array, device))
    cache = Cache(values, len(group), columns)
    return [Held(cache, row, start, each.length) for row, (each, start) in enumerate(zip(group, starts, strict=True))]


def grown(group: Sequence[Held], values: Sequence[OrtValue], count: int) -> list[Held]:
    """`group` after a pass over `count` tokens that gave `values`."""
    cache = Cache(values, len(group), values[0].shape()[2])
    return [Held(cache, each.row, each.start, each.length + count) for each in group]


def _is_all(group: Sequence[Held]) -> bool:
    cache = group[0].cache
    return len(group) == cache.rows and all(
        each.cache is cache and each.row == index for index, each in enumerate(group)
    )


def _value(array: np.ndarray, device: str) -> Any:
    kind, _, index = device.partition(":")
    return OrtValue.ortvalue_from_numpy(array, kind, int(index or 0))
