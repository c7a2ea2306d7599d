"""An ONNX file from front to back: the fields of its messages, none longer than the one that it is in."""

from __future__ import annotations

from collections.abc import Iterator

from core.errors import CorruptModel
from core.hub.files import Files

CHUNK = 1 << 16  # bytes read at once …
_HOP = 1 << 10  # … and behind something that was passed over


class Cursor:
    """Reads `files[path]` from front to back and knows where it is."""

    def __init__(self, files: Files, path: str) -> None:
        self._files, self._path = files, path
        self.size = files.sizes[path]
        self.position = 0
        self._start, self._chunk = 0, b""
        # far away each read is a request, so there the whole of a graph is one
        self._is_near = files.directory is not None

    def fail(self) -> CorruptModel:
        return CorruptModel(f"{self._path} of {self._files.name} is not a sound ONNX file. Fetch it again.")

    def take(self, count: int) -> bytes:
        if count < 0 or self.position + count > self.size:
            raise self.fail()
        offset = self.position - self._start
        if not 0 <= offset <= len(self._chunk) - count:
            is_next = offset <= len(self._chunk)  # not behind the numbers of a large tensor
            ahead = (CHUNK if is_next else _HOP) if self._is_near else self.size
            self._start, offset = self.position, 0
            self._chunk = self._files.read(self._path, self.position, max(count, ahead))
            if len(self._chunk) < count:
                raise self.fail()
        self.position += count
        return self._chunk[offset : offset + count]

    def varint(self) -> int:
        offset = self.position - self._start
        if 0 <= offset < len(self._chunk) and self._chunk[offset] < 0x80:  # most are of one byte
            self.position += 1
            return self._chunk[offset]
        value = 0
        for shift in range(0, 70, 7):
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise self.fail()

    def fields(self, end: int) -> Iterator[tuple[int, int]]:
        """(number, end) of each length-delimited field up to `end`; whatever the caller leaves unread is skipped."""
        return ((number, stop) for number, kind, stop in self.entries(end) if kind == 2)

    def entries(self, end: int) -> Iterator[tuple[int, int, int]]:
        """(number, kind, value) of each field up to `end`: a varint's value, or where a length-delimited one ends."""
        while self.position < end:
            number, kind, value = self.entry(end)
            if kind in (0, 2):
                yield number, kind, value
            if kind == 2:
                self.position = value
        if self.position != end:
            raise self.fail()

    def entry(self, end: int) -> tuple[int, int, int]:
        """The next field, as `entries` gives it, before its content; of other kinds there is nothing to see."""
        tag = self.varint()
        kind = tag & 7
        if tag >> 3 == 0:  # no such field in any protobuf; what follows would be read as something else
            raise self.fail()
        value = self.varint() if kind in (0, 2) else 0
        if kind == 2:
            value += self.position
        elif kind in (1, 5):
            self.take(8 if kind == 1 else 4)
        if kind not in (0, 1, 2, 5) or (kind == 2 and value > end):
            raise self.fail()
        return tag >> 3, kind, value

    def ahead(self, start: int, end: int) -> tuple[bytes, int, int]:
        """What was read last; where in it the bytes from `start` to `end` begin, and where those in it end."""
        return self._chunk, start - self._start, min(len(self._chunk), end - self._start)
