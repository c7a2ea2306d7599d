"""A GGUF file from front to back: its numbers and texts, none longer than it may be."""

from __future__ import annotations

import struct
from typing import Any

from core.errors import CorruptModel
from core.hub.files import Files

MAX_STRING = 1 << 20  # bytes; a chat template is the longest that is met
MAX_TOKENS = 1 << 20
MAX_HEADER = 128 * 1024 * 1024  # bytes; most of it is the vocabulary
# Bytes of the first read, the second, and each that follows: far away each is a request. A vocabulary of 250,000
# tokens with its merges takes three.
_READS = 256 * 1024, 4 * 1024 * 1024, 16 * 1024 * 1024


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
        ahead = _READS[min(self._reads, len(_READS) - 1)]
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
        self._texts(count, None)

    def skip_tokens(self, count: int) -> None:
        """Texts of which no two may be the same, since llama.cpp ends the process then. For it they end at a NUL."""
        if count > MAX_TOKENS:
            raise self.fail(f"has a vocabulary of {count:,} tokens where {MAX_TOKENS:,} are the most")
        found: list[bytes] = []
        self._texts(count, found)
        if len({token.partition(b"\0")[0] for token in found}) < count:
            raise self.fail("has the same token twice in its vocabulary")

    def _texts(self, count: int, found: list[bytes] | None) -> None:
        """Goes behind the next `count` texts, keeping them in `found`. There may be hundreds of thousands of them, so
        that nothing is done for each but what has to be."""
        data, length_of = self._data, struct.Struct("<Q").unpack_from
        position, have = self.position, len(self._data)
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
            if found is not None:
                found.append(bytes(data[start:position]))
        self.position = position
