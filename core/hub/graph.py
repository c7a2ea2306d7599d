"""Where an ONNX file keeps its tensors, read from the protobuf itself: no ONNX library in the front process.

Every message that can hold a tensor is walked, subgraphs and functions too; of the tensors only the `location` of
their external data is kept, and everything else is skipped by its length.
"""

from __future__ import annotations

from collections.abc import Iterator

from core.errors import CorruptModel
from core.hub.files import Files, safe_path

MAX_WALK = 2 * 1024**3  # bytes; protobuf's own limit of a message
MAX_TENSORS = 1_000_000
MAX_DEPTH = 100  # messages inside one another
_CHUNK = 1 << 20  # bytes read at once

# Message → number of a field → message in it. A test holds the numbers against the onnx package.
PARTS: dict[str, dict[int, str]] = {
    "ModelProto": {7: "GraphProto", 20: "TrainingInfoProto", 25: "FunctionProto"},
    "GraphProto": {1: "NodeProto", 5: "TensorProto", 15: "SparseTensorProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {
        5: "TensorProto",
        6: "GraphProto",
        10: "TensorProto",
        11: "GraphProto",
        22: "SparseTensorProto",
        23: "SparseTensorProto",
    },
    "FunctionProto": {7: "NodeProto", 11: "AttributeProto"},
    "SparseTensorProto": {1: "TensorProto", 2: "TensorProto"},
    "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto"},
    "TensorProto": {13: "StringStringEntryProto"},
}
_KEY, _VALUE = 1, 2


class _Cursor:
    """Reads `files[path]` from front to back and knows where it is."""

    def __init__(self, files: Files, path: str) -> None:
        self._files, self._path = files, path
        self.size = files.sizes[path]
        self.position = 0
        self._start, self._chunk = 0, b""
        # far away each read is a request, so there the whole of a graph is one
        self._ahead = _CHUNK if files.directory is not None else self.size

    def fail(self) -> CorruptModel:
        return CorruptModel(f"{self._path} of {self._files.name} is not a sound ONNX file. Fetch it again.")

    def take(self, count: int) -> bytes:
        if count < 0 or self.position + count > self.size:
            raise self.fail()
        offset = self.position - self._start
        if not 0 <= offset <= len(self._chunk) - count:
            self._start, offset = self.position, 0
            self._chunk = self._files.read(self._path, self.position, max(count, self._ahead))
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
            if tag >> 3 == 0:  # no such field in any protobuf; what follows would be read as something else
                raise self.fail()
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
    folder = path.rpartition("/")[0]
    found = []
    for location in sorted(_locations(cursor)):
        name = safe_path(location, files.name)
        each = f"{folder}/{name}" if folder else name
        if each not in files.sizes:
            raise CorruptModel(f"{path} of {files.name} keeps tensors in {name}, which is not there. Fetch it again.")
        found.append(each)
    return tuple(found)


def _locations(cursor: _Cursor) -> set[str]:
    """The `location` of every tensor that lies elsewhere."""
    locations: set[str] = set()
    tensors = 0
    # a stack of our own: how deep a file nests is not for it to decide
    pending = [("ModelProto", cursor.fields(cursor.size))]
    while pending:
        message, fields = pending[-1]
        number, end = next(fields, (0, 0))
        part = PARTS[message].get(number)
        if not number:
            pending.pop()
        elif part == "StringStringEntryProto":
            locations.update(_location(cursor, end))
        elif part is not None:
            tensors += part == "TensorProto"
            if len(pending) >= MAX_DEPTH or tensors > MAX_TENSORS:
                raise cursor.fail()
            pending.append((part, cursor.fields(end)))
    return locations


def _location(cursor: _Cursor, end: int) -> Iterator[str]:
    """The value of a pair whose key is `location`."""
    key = value = b""
    for number, stop in cursor.fields(end):
        if stop - cursor.position > 4096:
            raise cursor.fail()
        if number == _KEY:
            key = cursor.take(stop - cursor.position)
        elif number == _VALUE:
            value = cursor.take(stop - cursor.position)
    if key == b"location":
        yield value.decode("utf-8", errors="replace")
