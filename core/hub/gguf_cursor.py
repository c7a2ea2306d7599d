"""A GGUF file from front to back: its numbers and texts, none longer than it may be."""

from __future__ import annotations

import itertools
import operator
import struct
from collections.abc import Iterator
from typing import Any

from core.errors import CorruptModel
from core.hub.files import Files

MAX_STRING = 1 << 20  # bytes; a chat template is the longest that is met
MAX_TOKENS = 1 << 20
MAX_HEADER = 128 * 1024 * 1024  # bytes; most of it is the vocabulary
# Bytes of the first read, the second, and each that follows. Far away each is a request: a vocabulary of 250,000
# tokens with its merges takes three. On this machine many small ones are the faster.
_FAR_READS = 256 * 1024, 4 * 1024 * 1024, 16 * 1024 * 1024
_NEAR_READS = (256 * 1024,)
_BATCH = 1024  # texts that are told apart at once
_WINDOW = 64  # bytes for each of them, with its length
_ZEROS = b"\0" * 7
_LAST = operator.itemgetter(-1)
_ONE_MORE = bytes([*range(1, 256), 0])


class Cursor:
    """Reads `files[path]` from front to back. Never more than MAX_HEADER bytes, and never beyond the file's end."""

    def __init__(self, files: Files, path: str) -> None:
        self._files, self._path = files, path
        self.size = files.sizes[path]
        self.position = 0
        self._data = bytearray()  # the file's beginning, as far as it has been read
        self._reads = 0

    def fail(self, why: str) -> CorruptModel:
        return CorruptModel(f"{self._path} of {self._files.name} {why}. Fetch the file again.")

    def need(self, count: int) -> int:
        """Has the next `count` bytes in memory. Returns where they begin, and goes behind them."""
        start = self.position
        end = start + count
        if end > len(self._data):
            self._extend(end)
        self.position = end
        return start

    def _extend(self, end: int) -> None:
        if end > self.size:
            raise self.fail("is cut: it ends inside of its own header")
        if end > MAX_HEADER:
            raise self.fail(f"has a header of more than {MAX_HEADER:,} bytes")
        have = len(self._data)
        reads = _FAR_READS if self._files.directory is None else _NEAR_READS
        ahead = reads[min(self._reads, len(reads) - 1)]
        self._reads += 1
        wanted = min(max(end - have, ahead), self.size - have, MAX_HEADER - have)
        self._data += self._files.read(self._path, have, wanted)
        if len(self._data) < end:
            raise self.fail("is cut: it ends inside of its own header")

    def take(self, count: int) -> bytes:
        start = self.need(count)
        return bytes(self._data[start : start + count])

    def number(self, form: str) -> Any:
        start = self.need(struct.calcsize(f"<{form}"))
        return struct.unpack_from(f"<{form}", self._data, start)[0]

    def text(self, limit: int) -> str:
        length = self.number("Q")
        if length > limit:
            raise self.fail(f"holds a text of {length:,} bytes where {limit:,} are the most")
        return self.take(length).decode("utf-8", errors="replace")

    def skip_texts(self, count: int) -> None:
        for batch in _batches(count):
            self._cut(batch) or self._walk(batch)

    def skip_tokens(self, count: int) -> None:
        """Texts of which no two may be the same, since llama.cpp ends the process then. For it they end at a NUL."""
        if count > MAX_TOKENS:
            raise self.fail(f"has a vocabulary of {count:,} tokens where {MAX_TOKENS:,} are the most")
        found: set[bytes] = set()
        for batch in _batches(count):
            pieces = self._cut(batch)
            tokens = [piece[:-1] for piece in pieces] if pieces else self._walk(batch)
            has_nul = b"\0" in b"".join(tokens)
            found.update([token.partition(b"\0")[0] for token in tokens] if has_nul else tokens)
        if len(found) < count:
            raise self.fail("has the same token twice in its vocabulary")

    def _cut(self, count: int) -> list[bytes]:
        """The next `count` texts, each with a byte behind it, when they are in memory already and none is longer than
        254 bytes; else none.

        There may be hundreds of thousands of texts. Of so short a one the length is a byte and seven zeros, which
        texts do not hold: what is cut there is told apart at once, and then held against the lengths.
        """
        window = bytes(memoryview(self._data)[self.position : self.position + count * _WINDOW])
        pieces = window.split(_ZEROS, count)  # a length; texts, each with the length of the next; the rest
        rest = pieces.pop()
        try:
            lengths, sizes = bytes(map(_LAST, pieces)), bytes(map(len, pieces))
        except (IndexError, ValueError):  # an empty piece, or a long one
            return []
        if len(pieces) < count or sizes != b"\1" + lengths[:-1].translate(_ONE_MORE) or len(rest) < lengths[-1]:
            return []
        self.position += sum(lengths) + 8 * count
        return [*pieces[1:], rest[: lengths[-1]] + b"\0"]

    def _walk(self, count: int) -> list[bytes]:
        """The next `count` texts, one by one."""
        data, length_of = self._data, struct.Struct("<Q").unpack_from
        position, have = self.position, len(self._data)
        found = []
        for _ in range(count):
            start = position + 8
            if start > have:
                self._extend(start)
                have = len(data)
            (length,) = length_of(data, position)
            if length > MAX_STRING:
                raise self.fail(f"holds a text of {length:,} bytes where {MAX_STRING:,} are the most")
            position = start + length
            if position > have:
                self._extend(position)
                have = len(data)
            found.append(bytes(data[start:position]))
        self.position = position
        return found


def _batches(count: int) -> Iterator[int]:
    """`count` in numbers of at most `_BATCH`."""
    whole, left = divmod(count, _BATCH)
    yield from itertools.repeat(_BATCH, whole)
    if left:
        yield left
