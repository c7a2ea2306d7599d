"""Where an ONNX file keeps its tensors, read from the protobuf itself: no ONNX library in the front process.

Only the path ModelProto.graph(7) → GraphProto.initializer(5) → TensorProto.external_data(13) is walked, and of
that only the `location` entries are kept; all else is skipped by its length. What sits deeper (subgraphs,
attributes, functions) is checked in the model's own process before the graph is built.
"""

from __future__ import annotations

from collections.abc import Iterator

from core.errors import CorruptModel
from core.hub.files import Files, safe_path

MAX_WALK = 2 * 1024**3  # bytes; protobuf's own limit of a message
MAX_INITIALIZERS = 1_000_000
_CHUNK = 1 << 20  # bytes read at once
_GRAPH, _INITIALIZER, _EXTERNAL_DATA, _KEY, _VALUE = 7, 5, 13, 1, 2


class _Cursor:
    """Reads `files[path]` from front to back and knows where it is."""

    def __init__(self, files: Files, path: str) -> None:
        self._files, self._path = files, path
        self.size = files.sizes[path]
        self.position = 0
        self._start, self._chunk = 0, b""

    def fail(self) -> CorruptModel:
        return CorruptModel(f"{self._path} of {self._files.name} is not a sound ONNX file. Fetch it again.")

    def take(self, count: int) -> bytes:
        if count < 0 or self.position + count > self.size:
            raise self.fail()
        offset = self.position - self._start
        if not 0 <= offset <= len(self._chunk) - count:
            self._start, offset = self.position, 0
            self._chunk = self._files.read(self._path, self.position, max(count, _CHUNK))
            if len(self._chunk) < count:
                raise self.fail()
        self.position += count
        return self._chunk[offset : offset + count]

    def varint(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise self.fail()

    def fields(self, end: int) -> Iterator[tuple[int, int]]:
        """(number, end) of each length-delimited field up to `end`; whatever the caller leaves unread is skipped."""
        while self.position < end:
            tag = self.varint()
            kind = tag & 7
            if kind == 0:
                self.varint()
            elif kind in (1, 5):
                self.take(8 if kind == 1 else 4)
            elif kind == 2:
                length = self.varint()
                stop = self.position + length
                if stop > end:
                    raise self.fail()
                yield tag >> 3, stop
                self.position = stop
            else:
                raise self.fail()
        if self.position != end:
            raise self.fail()


def external_data(files: Files, path: str) -> tuple[str, ...]:
    """The files beside `path` that hold its tensors. Raises CorruptModel when one is missing or lies outside."""
    cursor = _Cursor(files, path)
    if cursor.size > MAX_WALK:
        raise cursor.fail()
    locations: set[str] = set()
    count = 0
    for number, graph_end in cursor.fields(cursor.size):
        if number != _GRAPH:
            continue
        for part, tensor_end in cursor.fields(graph_end):
            if part != _INITIALIZER:
                continue
            count += 1
            if count > MAX_INITIALIZERS:
                raise cursor.fail()
            locations.update(_locations(cursor, tensor_end))
    return _resolve(files, path, locations)


def _locations(cursor: _Cursor, end: int) -> Iterator[str]:
    """The `location` entries of one tensor."""
    for number, entry_end in cursor.fields(end):
        if number != _EXTERNAL_DATA:
            continue
        key = value = b""
        for part, stop in cursor.fields(entry_end):
            if stop - cursor.position > 4096:
                raise cursor.fail()
            if part == _KEY:
                key = cursor.take(stop - cursor.position)
            elif part == _VALUE:
                value = cursor.take(stop - cursor.position)
        if key == b"location":
            yield value.decode("utf-8", errors="replace")


def _resolve(files: Files, path: str, locations: set[str]) -> tuple[str, ...]:
    folder = path.rpartition("/")[0]
    found = []
    for location in sorted(locations):
        name = safe_path(location, files.name)
        each = f"{folder}/{name}" if folder else name
        if each not in files.sizes:
            raise CorruptModel(f"{path} of {files.name} keeps tensors in {name}, which is not there. Fetch it again.")
        found.append(each)
    return tuple(found)
