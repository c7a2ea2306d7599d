"""Keys and values of sequences, kept in place: a step writes one column, and nothing is copied.

All rows end at the same column. A shorter row is padded on its left, which the attention mask leaves out, so that
any causal model of transformers can be run over several sequences at once as it stands.

    row 0   . . . a b c d e |
    row 1   f g h i j k l m | <- the next step writes here
"""

from __future__ import annotations

from typing import Any

import torch
from transformers.cache_utils import Cache

_MORE = 64  # columns of room beyond those in use, at least


class KeyValues(Cache):
    """Tensors of every layer, (rows, heads, columns, width), of which the first `rows` and `length` are in use.

    A forward pass writes behind `length`; what it wrote counts once `commit` is called, so that a pass that fails
    changes nothing. Nor does anything else that runs out of memory.
    """

    def __init__(self, rows: int = 1) -> None:
        super().__init__(layers=[])
        self.rows = rows
        self.length = 0
        self.keys: list[torch.Tensor] = []
        self.values: list[torch.Tensor] = []
        self._room = (rows, 0)  # rows and columns of the tensors

    # what transformers asks of a cache

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Writes (rows, heads, new, width) behind the columns in use and returns all columns, the new ones included."""
        end = self.length + key_states.shape[-2]
        while layer_idx >= len(self.keys):
            keys, values = _empty(key_states, *self._room), _empty(value_states, *self._room)
            self.keys.append(keys)
            self.values.append(values)
        keys, values = self.keys[layer_idx][: self.rows], self.values[layer_idx][: self.rows]
        keys[:, :, self.length : end] = key_states
        values[:, :, self.length : end] = value_states
        return keys[:, :, :end], values[:, :, :end]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return self.length

    def get_mask_sizes(self, query_length: int, layer_idx: int) -> tuple[int, int]:
        return self.length + query_length, 0

    def get_max_length(self, layer_idx: int | None = None) -> int:
        return -1

    # what we ask of it

    @property
    def is_for_one(self) -> bool:
        """Whether the tensors have a single row."""
        return self._room[0] == 1

    def reserve(self, rows: int, columns: int, limit: int | None = None) -> None:
        """Room for `rows` and `columns` in all; grows by half at a time, up to `limit` columns."""
        have_rows, have_columns = self._room
        if rows <= have_rows and columns <= have_columns:
            return
        if columns > have_columns:
            have_columns = max(columns, min(columns + max(_MORE, columns // 2), limit or columns * 2))
        room = (max(rows, self.rows), have_columns)  # not of rows that have left: memory may be short
        self._room = (min(self._room[0], room[0]), self._room[1])  # what all have, should memory run out midway
        for tensors in (self.keys, self.values):
            for index, old in enumerate(tensors):
                if old.shape[0] >= room[0] and old.shape[2] >= room[1]:
                    continue  # by a call that memory ran out in
                new = _empty(old, *room)
                new[: self.rows, :, : self.length] = old[: self.rows, :, : self.length]
                tensors[index] = new
        self._room = room

    def commit(self, count: int) -> None:
        """The `count` columns that the last pass wrote are part of the sequences now."""
        self.length += count

    def move(self, by: int) -> None:
        """Moves all rows by some columns: to the right where that is positive, for which there must be room."""
        if by == 0:
            return
        source, target = (0, by) if by > 0 else (-by, 0)
        count = self.length - source
        tensors = (*self.keys, *self.values)
        copies = _scratch([tensor[:, :, source : source + count] for tensor in tensors])
        for tensor, copy in zip(tensors, copies, strict=True):
            copy.copy_(tensor[:, :, source : source + count])
            tensor[:, :, target : target + count] = copy
        self.length += by

    def put(self, row: int, other: KeyValues) -> None:
        """Writes the one row of `other`, which must not be longer, so that it ends where this one's rows end."""
        start = self.length - other.length
        for mine, its in ((self.keys, other.keys), (self.values, other.values)):
            for tensor, source in zip(mine, its, strict=True):
                tensor[row, :, :start] = 0  # never read, but no number times what was here may be NaN
                tensor[row, :, start : self.length] = source[0, :, : other.length]

    def take(self, row: int, start: int, end: int | None = None) -> KeyValues:
        """A copy of one row from the column `start` on, to `end` or that of all rows."""
        end = self.length if end is None else end
        taken = KeyValues()
        taken.length = end - start
        taken._room = (1, taken.length)
        for mine, its in ((self.keys, taken.keys), (self.values, taken.values)):
            its.extend(tensor[row : row + 1, :, start:end].clone() for tensor in mine)
        return taken

    def replace(self, row: int, by: int) -> None:
        """Row `by` takes the place of `row`."""
        for tensor in (*self.keys, *self.values):
            tensor[row, :, : self.length] = tensor[by, :, : self.length]


def _empty(like: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """Zeros, since what is masked is multiplied by nought all the same."""
    return torch.zeros((rows, like.shape[1], columns, like.shape[3]), dtype=like.dtype, device=like.device)


def _scratch(parts: list[torch.Tensor]) -> list[torch.Tensor]:
    """Room to copy each of `parts` into, one after the other: the same for all of a kind, and had at once, so that
    memory does not run out between two of them."""
    rooms: dict[tuple[torch.dtype, torch.device], torch.Tensor] = {}
    for part in sorted(parts, key=lambda part: -part.numel()):
        if (part.dtype, part.device) not in rooms:
            rooms[part.dtype, part.device] = torch.empty(part.numel(), dtype=part.dtype, device=part.device)
    return [rooms[part.dtype, part.device][: part.numel()].view(part.shape) for part in parts]


class Batch:
    """The sequences that are being written, side by side, and which slot each belongs to."""

    def __init__(self, limit: int) -> None:
        self.slots: list[int] = []
        self.starts: list[int] = []  # of each row: its first column
        self.cache = KeyValues()
        self._limit = limit  # columns that the model has positions for

    def length_of(self, slot: int) -> int:
        return self.cache.length - self.starts[self.slots.index(slot)]

    def join(self, slot: int, alone: KeyValues) -> None:
        """Adds the sequence in `alone`, which must not be used after it."""
        if not self.slots:
            self.cache, self.slots, self.starts = alone, [slot], [0]
            return
        wider = max(alone.length - self.cache.length, 0)
        self.cache.reserve(len(self.slots) + 1, self.cache.length + wider + 1, self._limit)
        self.cache.move(wider)
        self.starts = [start + wider for start in self.starts]
        self.cache.put(len(self.slots), alone)
        self.slots.append(slot)
        self.starts.append(self.cache.length - alone.length)
        self.cache.rows = len(self.slots)

    def leave(self, slot: int, *, keep: bool) -> KeyValues | None:
        """Takes a sequence out; returns it if it is to be kept."""
        row = self.slots.index(slot)
        last = len(self.slots) - 1
        kept = self._kept(row) if keep else None
        if last == 0:
            self.cache, self.slots, self.starts = KeyValues(), [], []
            return kept
        if row != last:
            self.cache.replace(row, last)
            self.slots[row], self.starts[row] = self.slots[last], self.starts[last]
        self.slots.pop()
        self.starts.pop()
        self.cache.rows = last
        return kept

    def _kept(self, row: int) -> KeyValues:
        if self.cache.is_for_one:
            self.cache.move(-self.starts[row])
            return self.cache
        return self.cache.take(row, self.starts[row])

    def make_room(self) -> None:
        """Room for one more column; first without the padding that all rows share, where that is worth a copy."""
        shared = min(self.starts)
        if shared and (shared > self.cache.length // 2 or self.cache.length + 1 > self._limit):
            self.cache.move(-shared)
            self.starts = [start - shared for start in self.starts]
        self.cache.reserve(len(self.slots), self.cache.length + 1, self._limit)

    def mask(self, device: str) -> torch.Tensor | None:
        """(rows, columns + 1) bool, true where there is a token; None where there is one everywhere."""
        if not any(self.starts):
            return None
        columns = torch.arange(self.cache.length + 1, device=device)
        return columns >= torch.tensor(self.starts, device=device).unsqueeze(1)
