"""What tensors an ONNX file has and where it keeps them, read from the protobuf itself: no ONNX library in the front
process.

Every message that can hold a tensor is walked, subgraphs and functions too; of the tensors their shapes are read and
where external data lie, and everything else is skipped by its length.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field

from core.errors import CorruptModel
from core.hub.files import Files, safe_path
from core.hub.graph_cursor import CHUNK, Cursor
from core.hub.graph_nodes import (
    DIMS,
    EXTERNAL,
    MAX_ELEMENTS,
    NODE,
    PARTS_OF_ATTRIBUTE,
    RAW,
    TYPE,
    Tensor,
    nodes,
    plain_tensors,
)

MAX_WALK = 2 * 1024**3  # bytes; protobuf's own limit of a message
MAX_TENSORS = 1_000_000
MAX_DEPTH = 100  # messages inside one another

# Message → number of a field → message in it. A test holds the numbers against the onnx package.
PARTS: dict[str, dict[int, str]] = {
    "ModelProto": {7: "GraphProto", 20: "TrainingInfoProto", 25: "FunctionProto"},
    "GraphProto": {1: "NodeProto", 5: "TensorProto", 15: "SparseTensorProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": PARTS_OF_ATTRIBUTE,
    "FunctionProto": {7: "NodeProto", 11: "AttributeProto"},
    "SparseTensorProto": {1: "TensorProto", 2: "TensorProto"},
    "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto"},
    "TensorProto": {13: "StringStringEntryProto"},
}
_KEY, _VALUE = 1, 2
# TensorProto.DataType → bits of an element; those that are floating-point numbers.
TYPE_BITS = {
    1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 9: 8, 10: 16, 11: 64, 12: 32, 13: 64, 14: 64, 15: 128, 16: 16,
    17: 8, 18: 8, 19: 8, 20: 8, 21: 4, 22: 4, 23: 4, 24: 8, 25: 2, 26: 2, 27: 6, 28: 6,
}  # fmt: skip
_FLOATS = (1, 10, 11, 16)


@dataclass(slots=True)
class GraphTensors:
    """All tensors of one file, and where the files lie that hold some of them."""

    count: int = 0  # of the tensors
    total_bytes: int = 0
    floats: int = 0  # floating-point numbers
    fixed_bytes: int = 0  # of the other tensors
    locations: dict[str, int] = field(default_factory=dict)  # path as the graph says it → bytes it has to have


def external_data(files: Files, path: str) -> tuple[str, ...]:
    """The files beside `path` that hold its tensors. Raises CorruptModel when one is missing or lies outside."""
    return _check_locations(files, path, read_graph_tensors(files, path))


def read_graph_tensors(files: Files, path: str) -> GraphTensors:
    """The tensors of the graph at `path`. Raises CorruptModel when any of them cannot be."""
    cursor = Cursor(files, path)
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


def _walk(cursor: Cursor) -> GraphTensors:
    """Every tensor, wherever it is."""
    found = GraphTensors()
    # a stack of our own: how deep a file nests is not for it to decide
    pending = [("ModelProto", cursor.fields(cursor.size))]
    while pending:
        message, fields = pending[-1]
        number, end = next(fields, (0, 0))
        part = PARTS[message].get(number)
        if not number:
            pending.pop()
        elif part is not None:
            if len(pending) >= MAX_DEPTH:
                raise cursor.fail()
            if part == "TensorProto":
                _add(cursor, _read_tensor(cursor, end), found)
            elif part == "GraphProto":
                pending.append((part, _graph(cursor, end, found)))
            else:
                pending.append((part, cursor.fields(end)))
    return found


def _graph(cursor: Cursor, end: int, found: GraphTensors) -> Iterator[tuple[int, int]]:
    """As `cursor.fields`, of a graph, but for its plainly written nodes, whose tensors are added to `found`."""
    while cursor.position < end:
        number, kind, stop = cursor.entry(end)
        if kind == 2 and not (number == NODE and _read_nodes(cursor, stop, end, found)):
            yield number, stop
            cursor.position = stop
    if cursor.position != end:
        raise cursor.fail()


def _read_nodes(cursor: Cursor, stop: int, end: int, found: GraphTensors) -> bool:
    """Adds the tensors of the node up to `stop`, and of those behind it that are in memory, to `found`: nearly all of
    a graph's thousands of nodes are plainly written. Ends at the first that is not; whether it came further."""
    start = cursor.position
    if stop - start > CHUNK:
        return False
    cursor.take(stop - start)
    data, at, limit = cursor.ahead(start, end)
    for body, behind in itertools.chain([(at, at + stop - start)], nodes(data, at + stop - start, limit)):
        tensors = plain_tensors(data, body, behind)
        if tensors is None:
            break
        for tensor in tensors:
            _add(cursor, tensor, found)
        cursor.position = start + behind - at
    else:
        return True
    if body == at:
        cursor.position = start
    return body != at


def _read_tensor(cursor: Cursor, end: int) -> Tensor:
    elements, data_type, raw = 1, 0, None
    outside: dict[str, str] = {}
    for number, kind, value in cursor.entries(end):
        if number == DIMS:
            for extent in [value] if kind == 0 else _varints(cursor, value):
                elements *= extent
                if elements > MAX_ELEMENTS:  # a negative extent is a large one
                    raise cursor.fail()
        elif number == TYPE and kind == 0:
            data_type = value
        elif number == RAW and kind == 2:
            raw = value - cursor.position
        elif number == EXTERNAL and kind == 2:
            outside.update(_pair(cursor, value))
    return Tensor(elements, data_type, raw, outside)


def _add(cursor: Cursor, tensor: Tensor, found: GraphTensors) -> None:
    """Adds `tensor` to `found`, unless its sizes cannot be."""
    elements, bits, outside = tensor.elements, TYPE_BITS.get(tensor.data_type, 0), tensor.outside
    size = (elements * bits + 7) // 8
    if elements > MAX_ELEMENTS or (tensor.raw not in (None, size) and bits and "location" not in outside):
        raise cursor.fail()
    found.count += 1
    if found.count > MAX_TENSORS:
        raise cursor.fail()
    found.total_bytes += size
    found.floats += elements if tensor.data_type in _FLOATS else 0
    found.fixed_bytes += 0 if tensor.data_type in _FLOATS else size
    if "location" in outside:
        offset = outside.get("offset", "0")
        if not (offset.isdecimal() and len(offset) < 20):
            raise cursor.fail()
        place = outside["location"]
        found.locations[place] = max(found.locations.get(place, 0), int(offset) + size)


def _varints(cursor: Cursor, end: int) -> Iterator[int]:
    while cursor.position < end:
        yield cursor.varint()


def _pair(cursor: Cursor, end: int) -> Iterator[tuple[str, str]]:
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
