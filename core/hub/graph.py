"""What tensors an ONNX file has and where it keeps them, read from the protobuf itself: no ONNX library in the front
process.

Every message that can hold a tensor is walked, subgraphs and functions too; of the tensors their shapes are read and
where external data lie, and everything else is skipped by its length.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from core.errors import CorruptModel
from core.hub.files import Files, safe_path

MAX_WALK = 2 * 1024**3  # bytes; protobuf's own limit of a message
MAX_TENSORS = 1_000_000
MAX_DEPTH = 100  # messages inside one another
_CHUNK = 1 << 16  # bytes read at once

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
# The first bytes of the tags of the parts of an attribute, and the same with the bit that says that the tag goes on,
# since a tag may be written longer than it has to be. Where none of them is, there is no part.
_PART_OF_ATTRIBUTE = re.compile(rb"[\x2a\xaa2\xb2R\xd2Z\xda\xba]")
_ATTRIBUTE = 0x2A  # the tag of one in a NodeProto
_KEY, _VALUE = 1, 2
_DIMS, _TYPE, _RAW, _EXTERNAL = 1, 2, 9, 13  # of a TensorProto
MAX_ELEMENTS = 1 << 48
# TensorProto.DataType → bits of an element; those that are floating-point numbers.
TYPE_BITS = {
    1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 9: 8, 10: 16, 11: 64, 12: 32, 13: 64, 14: 64, 15: 128, 16: 16,
    17: 8, 18: 8, 19: 8, 20: 8, 21: 4, 22: 4, 23: 4, 24: 8, 25: 2, 26: 2, 27: 6, 28: 6,
}  # fmt: skip
_FLOATS = (1, 10, 11, 16)


@dataclass(slots=True)
class GraphTensors:
    """All tensors of one file, and where the files lie that hold some of them."""

    total_bytes: int = 0
    floats: int = 0  # floating-point numbers
    fixed_bytes: int = 0  # of the other tensors
    locations: dict[str, int] = field(default_factory=dict)  # path as the graph says it → bytes it has to have


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
            tag = self.varint()
            kind = tag & 7
            if tag >> 3 == 0:  # no such field in any protobuf; what follows would be read as something else
                raise self.fail()
            if kind == 0:
                yield tag >> 3, kind, self.varint()
            elif kind in (1, 5):
                self.take(8 if kind == 1 else 4)
            elif kind == 2:
                length = self.varint()
                stop = self.position + length
                if stop > end:
                    raise self.fail()
                yield tag >> 3, kind, stop
                self.position = stop
            else:
                raise self.fail()
        if self.position != end:
            raise self.fail()


def external_data(files: Files, path: str) -> tuple[str, ...]:
    """The files beside `path` that hold its tensors. Raises CorruptModel when one is missing or lies outside."""
    return _check_locations(files, path, read_graph_tensors(files, path))


def read_graph_tensors(files: Files, path: str) -> GraphTensors:
    """The tensors of the graph at `path`. Raises CorruptModel when any of them cannot be."""
    cursor = _Cursor(files, path)
    if cursor.size > MAX_WALK:
        raise cursor.fail()
    if files.directory is None:
        return _walk(cursor)
    status = (files.directory / path).stat()
    key = (str(files.directory / path), status.st_ino, status.st_mtime_ns, status.st_size)
    if key not in _read:  # a graph of thousands of nodes takes tens of milliseconds, and a load asks several times
        _read.clear()
        _read[key] = _walk(cursor)
    return _read[key]


_read: dict[tuple[str, int, int, int], GraphTensors] = {}  # the last one


def _check_locations(files: Files, path: str, tensors: GraphTensors) -> tuple[str, ...]:
    folder = path.rpartition("/")[0]
    found = []
    for location, need in sorted(tensors.locations.items()):
        name = safe_path(location, files.name)
        each = f"{folder}/{name}" if folder else name
        if each not in files.sizes:
            raise CorruptModel(f"{path} of {files.name} keeps tensors in {name}, which is not there. Fetch it again.")
        if need > files.sizes[each]:
            raise CorruptModel(
                f"{path} of {files.name} keeps {need:,} bytes in {name}, which has {files.sizes[each]:,}. "
                "Fetch it again."
            )
        found.append(each)
    return tuple(found)


def _walk(cursor: _Cursor) -> GraphTensors:
    """Every tensor, wherever it is."""
    found = GraphTensors()
    tensors = 0
    # a stack of our own: how deep a file nests is not for it to decide
    pending = [("ModelProto", cursor.fields(cursor.size))]
    while pending:
        message, fields = pending[-1]
        number, end = next(fields, (0, 0))
        part = PARTS[message].get(number)
        if not number:
            pending.pop()
        elif part is not None:
            tensors += part == "TensorProto"
            if len(pending) >= MAX_DEPTH or tensors > MAX_TENSORS:
                raise cursor.fail()
            if part == "TensorProto":
                _read_tensor(cursor, end, found)
            else:
                pending.append((part, _node(cursor, end) if part == "NodeProto" else cursor.fields(end)))
    return found


def _node(cursor: _Cursor, end: int) -> Iterator[tuple[int, int]]:
    """As `cursor.fields`, of a node, those attributes alone that may hold a tensor: a graph has thousands of nodes."""
    base = cursor.position
    if end - base > _CHUNK:
        return cursor.fields(end)
    data = cursor.take(end - base)
    spans = _attributes(data)
    if spans is None:
        cursor.position = base
        return cursor.fields(end)
    found = [(start, stop) for start, stop in spans if _PART_OF_ATTRIBUTE.search(data, start, stop)]
    return _visit(cursor, [(base + start, base + stop) for start, stop in found], end)


def _visit(cursor: _Cursor, spans: list[tuple[int, int]], end: int) -> Iterator[tuple[int, int]]:
    for start, stop in spans:
        cursor.position = start
        yield _ATTRIBUTE >> 3, stop
    cursor.position = end


def _attributes(data: bytes) -> list[tuple[int, int]] | None:
    """Where the attributes of a node begin and end; None where it is not as plainly written as it could be."""
    spans = []
    at, end = 0, len(data)
    while at + 1 < end:
        tag, length = data[at], data[at + 1]
        at += 2
        if tag & 7 != 2 or not 8 <= tag < 0x80:
            return None
        if length >= 0x80:
            if at >= end or data[at] >= 0x80:
                return None
            length = length & 0x7F | data[at] << 7
            at += 1
        if tag == _ATTRIBUTE:
            spans.append((at, at + length))
        at += length
    return spans if at == end else None


def _read_tensor(cursor: _Cursor, end: int, found: GraphTensors) -> None:
    """Adds one tensor to `found`."""
    elements, data_type, raw = 1, 0, None
    outside: dict[str, str] = {}
    for number, kind, value in cursor.entries(end):
        if number == _DIMS:
            for extent in [value] if kind == 0 else _varints(cursor, value):
                elements *= extent
                if elements > MAX_ELEMENTS:  # a negative extent is a large one
                    raise cursor.fail()
        elif number == _TYPE and kind == 0:
            data_type = value
        elif number == _RAW and kind == 2:
            raw = value - cursor.position
        elif number == _EXTERNAL and kind == 2:
            outside.update(_pair(cursor, value))
    size = (elements * TYPE_BITS.get(data_type, 0) + 7) // 8
    if raw is not None and data_type in TYPE_BITS and raw != size and "location" not in outside:
        raise cursor.fail()
    found.total_bytes += size
    found.floats += elements if data_type in _FLOATS else 0
    found.fixed_bytes += 0 if data_type in _FLOATS else size
    if "location" in outside:
        offset = outside.get("offset", "0")
        if not (offset.isdecimal() and len(offset) < 20):
            raise cursor.fail()
        place = outside["location"]
        found.locations[place] = max(found.locations.get(place, 0), int(offset) + size)


def _varints(cursor: _Cursor, end: int) -> Iterator[int]:
    while cursor.position < end:
        yield cursor.varint()


def _pair(cursor: _Cursor, end: int) -> Iterator[tuple[str, str]]:
    """A key and its value."""
    key = value = b""
    for number, stop in cursor.fields(end):
        if stop - cursor.position > 4096:
            raise cursor.fail()
        if number == _KEY:
            key = cursor.take(stop - cursor.position)
        elif number == _VALUE:
            value = cursor.take(stop - cursor.position)
    yield key.decode("utf-8", errors="replace"), value.decode("utf-8", errors="replace")
