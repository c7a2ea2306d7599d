"""The nodes of an ONNX graph, of which there are thousands, nearly all as plainly written as they could be."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

MAX_ELEMENTS = 1 << 48
_SMALL = 128  # bytes of an attribute that is remembered
NODE, _ATTRIBUTE, _TENSOR = 1, 5, 5  # of a GraphProto, a NodeProto, an AttributeProto
_NODE_TAG = NODE << 3 | 2
_UNREAD = ((0, 0, 0, 0),)  # instead of the fields of what is not plainly written
DIMS, TYPE, RAW, EXTERNAL = 1, 2, 9, 13  # of a TensorProto
PARTS_OF_ATTRIBUTE = {
    5: "TensorProto",
    6: "GraphProto",
    10: "TensorProto",
    11: "GraphProto",
    22: "SparseTensorProto",
    23: "SparseTensorProto",
}
# The first bytes of the tags of the parts of an attribute, and the same with the bit that says that the tag goes on,
# since a tag may be written longer than it has to be. Where none of them is, there is no part.
_PART = rb"[\x2a\xaa2\xb2R\xd2Z\xda\xba]"
_MAY_BE_PART = re.compile(_PART)
# The same behind the first byte of an attribute's tag: most nodes need no closer look.
_PART_OF_NODE = re.compile(rb"[\x2a\xaa].*?" + _PART, re.DOTALL)


class Tensor(NamedTuple):
    """A tensor as it says of itself."""

    elements: int
    data_type: int
    raw: int | None  # bytes of its numbers, where they are in it
    outside: Mapping[str, str] = MappingProxyType({})  # where else they are


def nodes(data: bytes, at: int, end: int) -> Iterator[tuple[int, int]]:
    """Where the nodes begin and end that follow one another from `at`."""
    while at + 3 < end and data[at] == _NODE_TAG:
        length, at = data[at + 1], at + 2
        if length >= 0x80:
            length, at = length & 0x7F | data[at] << 7, at + 1
        if length >= 1 << 14 or at + length > end:
            return
        yield at, at + length
        at += length


def plain_tensors(data: bytes, start: int, stop: int) -> list[Tensor] | None:
    """The tensors among a node's attributes; None where it has to be walked, for a graph in it or data outside."""
    tensors: list[Tensor] = []
    if not _PART_OF_NODE.search(data, start, stop):
        return tensors
    for number, kind, begin, end in _plain_fields(data, start, stop) or _UNREAD:
        if number == _ATTRIBUTE and kind == 2:
            read = _known_attribute if end - begin <= _SMALL else _plain_attribute
            found = read(data[begin:end])
            if found is None:
                return None
            tensors += found
        elif number == 0:
            return None
    return tensors


def _plain_attribute(data: bytes) -> tuple[Tensor, ...] | None:
    """The tensors of one attribute; None where it has to be walked."""
    tensors: list[Tensor] = []
    if not _MAY_BE_PART.search(data):
        return ()
    for number, kind, start, stop in _plain_fields(data, 0, len(data)) or _UNREAD:
        tensor = _plain_tensor(data, start, stop) if number == _TENSOR and kind == 2 else None
        if tensor is not None:
            tensors.append(tensor)
        elif number == 0 or (number in PARTS_OF_ATTRIBUTE and kind == 2):
            return None
    return tuple(tensors)


_known_attribute = functools.lru_cache(maxsize=256)(_plain_attribute)  # graphs say the same small ones all the time


def _plain_tensor(data: bytes, start: int, stop: int) -> Tensor | None:
    """A tensor whose numbers are in it; None where they may be elsewhere."""
    elements, data_type, raw = 1, 0, None
    for number, kind, value, end in _plain_fields(data, start, stop) or _UNREAD:
        if number == DIMS and kind == 0 and elements <= MAX_ELEMENTS:
            elements *= value
        elif number == TYPE and kind == 0:
            data_type = value
        elif number == RAW and kind == 2:
            raw = end - value
        elif number in (0, DIMS, EXTERNAL):
            return None
    return Tensor(elements, data_type, raw)


def _plain_fields(data: bytes, at: int, end: int) -> list[tuple[int, int, int, int]] | None:
    """(number, kind, a varint's value or where it begins, where it ends) of each field of a message; None where a
    number in it takes more than two bytes, or it is no message."""
    fields = []
    try:
        while at < end:
            tag = data[at]
            at += 1
            if tag >= 0x80:
                tag = tag & 0x7F | data[at] << 7
                at += 1
            kind = tag & 7
            if not 8 <= tag < 1 << 14:
                return None
            if kind in (1, 5):
                at += 8 if kind == 1 else 4
                continue
            value = data[at]
            at += 1
            if value >= 0x80:
                value = value & 0x7F | data[at] << 7
                at += 1
            if value >= 1 << 14 or kind not in (0, 2):
                return None
            if kind == 2:
                fields.append((tag >> 3, kind, at, at + value))
                at += value
            else:
                fields.append((tag >> 3, kind, value, at))
    except IndexError:
        return None
    return fields if at == end else None
