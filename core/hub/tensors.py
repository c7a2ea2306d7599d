"""Headers of safetensors files, read and checked before a native library sees the file.

A file is 8 bytes of little-endian header length, the header as JSON, then the tensors' bytes. A header that
claims more than the file holds is refused here, where nothing but Python can be hurt by it.
"""

from __future__ import annotations

import json
import re
import struct
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeGuard

from core.errors import CorruptModel
from core.hub.files import Files, read_map, safe_path

MAX_HEADER = 100_000_000  # bytes; the limit of the format's own library
MAX_TENSORS = 1_000_000
MAX_RANK = 8
_FIRST_READ = 100_000  # bytes; most headers are smaller, so one read is enough
_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E4M3FN": 8, "F8_E8M0": 8, "I16": 16, "U16": 16,
    "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64, "C64": 64,
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip
# What a load brings to the precision it computes in; other kinds are read as they are stored.
FLOATS = frozenset(("F64", "F32", "F16", "BF16"))
_NAMES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I8": "int8", "U8": "uint8"}
# Parts of a tensor's name that tell a head from a bare encoder.
_HEADS = re.compile(r"(^|\.)(classifier|qa_outputs|cls|lm_head|vocab_projector|generator_lm_head|predictions|score)\.")
# Tables that are looked up in, and what gives a score for each token; bitsandbytes leaves them as they are.
_TABLES = re.compile(r"embed(?!dings_project|ding_hidden)|shared|relative_attention_bias|(^|\.)(wte|wpe)\.")
_OUTPUTS = re.compile(r"(^|\.)(lm_head|generator_lm_head|vocab_projector|predictions\.decoder)\.")


@dataclass(frozen=True, slots=True)
class Tensors:
    """What the headers of a model's weight files say together."""

    parameters: int
    weight_bytes: int
    dtype: str | None  # of most parameters
    heads: frozenset[str]  # names of the tensors outside of the encoder
    floats: int = 0  # parameters that a load brings to its own precision
    fixed_bytes: int = 0  # of the others
    linear: int = 0  # of the floats, those in the matrices that bitsandbytes quantises
    linear_rows: int = 0  # of those matrices


def read_tensors(files: Files, paths: Iterable[str]) -> Tensors:
    """The headers of the safetensors files at `paths`. Raises CorruptModel for the first that is not sound."""
    counts: Counter[str] = Counter()
    weight_bytes = linear = linear_rows = 0
    heads: set[str] = set()
    for path in paths:
        header, data_bytes = _read_header(files, path)
        counts += _check_header(header, data_bytes, f"{path} of {files.name}")
        weight_bytes += data_bytes
        heads.update(name for name in header if _HEADS.search(name))
        for rows, columns in _matrices(header):
            linear += rows * columns
            linear_rows += rows
    top = counts.most_common(1)
    dtype = _NAMES.get(top[0][0], top[0][0].lower()) if top else None
    fixed = sum(count * _BITS[kind] for kind, count in counts.items() if kind not in FLOATS) // 8
    floats = sum(count for kind, count in counts.items() if kind in FLOATS)
    return Tensors(counts.total(), weight_bytes, dtype, frozenset(heads), floats, fixed, linear, linear_rows)


def _matrices(header: dict[str, Any]) -> Iterator[tuple[int, int]]:
    """(rows, columns) of every matrix between two layers of numbers; `header` has been checked."""
    for name, entry in header.items():
        shape = entry["shape"]
        is_inner = name.endswith(".weight") and len(shape) == 2 and entry["dtype"] in FLOATS
        if is_inner and not _OUTPUTS.search(name) and not _TABLES.search(name):
            yield shape[0], shape[1]


def read_index(files: Files, index_path: str, shards: Sequence[str]) -> Tensors:
    """As `read_tensors`, of many shards that lie far away: the first one's header, and what their index says of all.

    The other headers are read when they are here. Raises CorruptModel.
    """
    index = read_map(files, index_path)
    first = read_tensors(files, shards[:1])
    names = [str(name) for name in index["weight_map"]]
    size = sum(files.sizes[shard] for shard in shards)
    metadata = index.get("metadata")
    stated = metadata.get("total_size") if isinstance(metadata, dict) else None
    if type(stated) is not int or not size // 2 < stated <= size:  # it may be wrong; the files' sizes cannot
        stated = size
    count = stated * first.parameters // max(first.weight_bytes, 1)
    heads = frozenset(name for name in names if _HEADS.search(name))
    return replace(first, parameters=count, weight_bytes=stated, heads=heads, floats=count, fixed_bytes=0, linear=0)


def shards_of(files: Files, index_path: str) -> tuple[str, ...]:
    """The weight files that an index names, beside it. Raises CorruptModel when one is missing or outside."""
    weight_map = read_map(files, index_path).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map or len(weight_map) > MAX_TENSORS:
        raise CorruptModel(f"{index_path} of {files.name} has no weight_map. Fetch the model again.")
    folder = index_path.rpartition("/")[0]
    names: set[str] = set()
    for name in weight_map.values():
        if not isinstance(name, str):
            raise CorruptModel(f"{index_path} of {files.name} maps a tensor to something that is not a file.")
        names.add(safe_path(name, files.name))
    shards = tuple(sorted(f"{folder}/{name}" if folder else name for name in names))
    missing = [shard for shard in shards if shard not in files.sizes]
    if missing:
        raise CorruptModel(f"{files.name} lacks the weight file {missing[0]}, one of {len(shards)}. Fetch it again.")
    return shards


def _read_header(files: Files, path: str) -> tuple[dict[str, Any], int]:
    """The header of one file and how many bytes of tensors follow it."""
    size = files.sizes[path]
    start = files.read(path, 0, _FIRST_READ)
    where = f"{path} of {files.name}"
    length = struct.unpack("<Q", start[:8])[0] if len(start) >= 8 else size
    if length > min(MAX_HEADER, size - 8):
        raise CorruptModel(f"{where} is cut, or no safetensors file whatever its name says. Fetch it again.")
    raw = start[8 : 8 + length]
    if len(raw) < length:
        raw += files.read(path, 8 + len(raw), length - len(raw))
    try:
        header = json.loads(raw)
    except (ValueError, RecursionError):
        header = None
    if len(raw) != length or not isinstance(header, dict) or len(header) > MAX_TENSORS:
        raise CorruptModel(f"The header of {where} is not sound. Fetch the file again.")
    return {name: entry for name, entry in header.items() if name != "__metadata__"}, size - 8 - length


def _check_header(header: dict[str, Any], data_bytes: int, where: str) -> Counter[str]:
    """Parameters by dtype, once every tensor lies inside the file and is as long as its shape says."""
    counts: Counter[str] = Counter()
    spans: list[tuple[int, int]] = []
    for name, entry in header.items():
        parsed = _parse_entry(entry)
        if parsed is None:
            raise CorruptModel(f"{where}: the entry of tensor {name[:80]!r} is not sound. Fetch the file again.")
        dtype, elements, begin, end = parsed
        if end > data_bytes or (end - begin) * 8 != elements * _BITS[dtype]:
            raise CorruptModel(f"{where}: tensor {name[:80]!r} does not fit the file. Fetch the file again.")
        counts[dtype] += elements
        spans.append((begin, end))
    spans.sort()
    position = 0
    for begin, end in spans:
        if begin != position:
            raise CorruptModel(f"{where}: its tensors overlap or leave gaps. Fetch the file again.")
        position = end
    if position != data_bytes:
        raise CorruptModel(f"{where} has {data_bytes:,} bytes of tensors where {position:,} are named. Fetch it again.")
    return counts


def _parse_entry(entry: Any) -> tuple[str, int, int, int] | None:
    """(dtype, elements, begin, end) of one tensor, or None when any of it is of the wrong kind."""
    if not isinstance(entry, dict):
        return None
    dtype, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in _BITS or not _are_counts(shape) or len(shape) > MAX_RANK:
        return None
    if not _are_counts(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        return None
    elements = 1
    for extent in shape:
        elements *= extent
    return dtype, elements, offsets[0], offsets[1]


def _are_counts(values: Any) -> TypeGuard[list[int]]:
    return isinstance(values, list) and all(type(value) is int and 0 <= value < 2**63 for value in values)
