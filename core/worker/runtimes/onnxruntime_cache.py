"""Keys and values as onnxruntime holds them. What a pass gives is what the next one takes: nothing is copied while
the same sequences go on together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnxruntime import OrtValue

from core.worker.runtimes.onnxruntime_graph import Past


@dataclass(frozen=True, slots=True, eq=False)
class Cache:
    """Several sequences side by side; they end in the same column, which is the last."""

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

    def moved(self, cache: Cache, count: int) -> Held:
        """The same row of `cache`, after a pass over `count` tokens."""
        return Held(cache, self.row, self.start, self.length + count)


def empty(pasts: Sequence[Past], device: str) -> Held:
    """A sequence of no tokens."""
    return Held(Cache([_value(past.zeros(1, 0), device) for past in pasts], 1, 0), 0, 0, 0)


def is_whole(group: Sequence[Held]) -> bool:
    """Whether `group` is all of one cache, row by row, so that it can be run as it lies."""
    cache = group[0].cache
    return len(group) == cache.rows and all(
        each.cache is cache and each.row == index and each.end == cache.columns for index, each in enumerate(group)
    )


def gathered(group: Sequence[Held], pasts: Sequence[Past], device: str) -> list[Held]:
    """`group` side by side in a cache of its own, shorter ones filled up with zeros on the left."""
    columns = max(each.length for each in group)
    values = []
    for index, past in enumerate(pasts):
        array = past.zeros(len(group), columns)
        for row, each in enumerate(group):
            array[row, :, columns - each.length :] = each.cache.values[index].numpy()[
                each.row, :, each.start : each.end
            ]
        values.append(_value(array, device))
    cache = Cache(values, len(group), columns)
    return [Held(cache, row, columns - each.length, each.length) for row, each in enumerate(group)]


def _value(array: np.ndarray, device: str) -> Any:
    kind, _, index = device.partition(":")
    return OrtValue.ortvalue_from_numpy(array, kind, int(index or 0))
