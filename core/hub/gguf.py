"""Headers of GGUF files, read and checked before a native library sees the file.

A file is the magic, a version, the counts of tensors and of key-values, the key-values, an entry for each tensor,
then the tensors' bytes. Whatever is counted or measured in it is held against a bound and against the file's own
size here, where nothing but Python can be hurt by it.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from core.hub.files import Files
from core.hub.gguf_cursor import MAX_STRING, Cursor
from core.hub.gguf_types import ARRAY, FILE_TYPES, SCALARS, STRING, TENSOR_TYPES

MAX_PAIRS = 65_536
MAX_TENSORS = 65_536
MAX_DIMENSIONS = 4
MAX_KEY = 65_535  # bytes; the format's own limit
MAX_NAME = 63  # bytes of a tensor's name; ggml's own limit
MAX_ALIGNMENT = 4096
MAX_ELEMENTS = 1 << 62
_KEPT_ARRAY = 4096  # numbers, one for each layer
_KEPT_TEXT = 4096  # characters
_VERSIONS = (2, 3)
_TOKENS = "tokenizer.ggml.tokens"
# Patches of a side that become one token, where the file does not say.
_SIDES = {"qwen2vl_merger": 2, "qwen2.5vl_merger": 2, "qwen3vl_merger": 2, "gemma3": 4}
_MOST_MERGED = 64
_DYNAMIC_TOKENS = 4096  # of an image that keeps its shape, as llama.cpp bounds it for these


@dataclass(frozen=True, slots=True)
class Projector:
    """What an mmproj file says of itself: what sees for a model that reads text."""

    kind: str  # as llama.cpp names the way from the image's numbers to the model's
    sees: bool  # an mmproj file may also be one that only hears
    patches: int  # of an image, at most
    merged: int  # patches that become one token
    embedding_length: int | None
    feed_forward_length: int | None


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """What one file says of itself. Parts of a split model behind the first say little but their tensors."""

    version: int
    architecture: str  # as llama.cpp names it; empty in a part behind the first
    kind: str  # general.type: model, adapter, mmproj …
    name: str | None
    license: str | None
    context_length: int | None  # tokens
    embedding_length: int | None
    feed_forward_length: int | None
    block_count: int | None  # layers
    head_count: int | None
    head_counts_kv: tuple[int, ...]  # one for all layers, or one each
    key_length: int | None  # of one head
    value_length: int | None
    vocabulary: int | None  # tokens
    chat_template: str | None
    file_type: str | None  # Q4_K_M, F16 …
    part: int  # from 0
    parts: int  # 1: not split
    tensors: int
    parameters: int
    tensor_bytes: int
    layer_bytes: int  # of the tensors that belong to a layer
    projector: Projector | None  # of an mmproj file

    @property
    def cache_bytes(self) -> int | None:
        """Of the keys and values of one token in all layers, as float16; None when the header does not say."""
        if None in (self.block_count, self.key_length, self.value_length) or not self.head_counts_kv:
            return None
        heads = sum(self.head_counts_kv)
        layers = (self.block_count or 0) if len(self.head_counts_kv) == 1 else 1
        return 2 * heads * layers * ((self.key_length or 0) + (self.value_length or 0))


def read_gguf(files: Files, path: str) -> GgufHeader:
    """The header of the file at `path`. Raises CorruptModel when any of it cannot be."""
    cursor = Cursor(files, path)
    if cursor.take(4) != b"GGUF":
        raise cursor.fail("is no GGUF file whatever its name says")
    version = cursor.number("I")
    if version not in _VERSIONS:
        known = " and ".join(map(str, _VERSIONS))
        raise cursor.fail(f"is of GGUF version {version}, and versions {known} are read: it is damaged, or has to be "
                          "converted again")  # fmt: skip
    tensors, pairs = cursor.number("Q"), cursor.number("Q")
    if tensors > MAX_TENSORS or pairs > MAX_PAIRS:
        raise cursor.fail(f"claims {tensors:,} tensors and {pairs:,} key-values; at most {MAX_TENSORS:,} are read")
    values: dict[str, Any] = {}
    for _ in range(pairs):
        key = cursor.text(MAX_KEY)
        if key in values:
            raise cursor.fail(f"says {key[:80]!r} twice")
        values[key] = _kept(key, _read_value(cursor, cursor.number("I"), is_vocabulary=key == _TOKENS))
    return _header(cursor, version, values, _read_tensors(cursor, tensors, _alignment(cursor, values)))


def _read_value(cursor: Cursor, kind: int, *, is_vocabulary: bool) -> Any:
    """A number, a flag or a text; of an array its numbers when they are few, else how many elements it has."""
    if kind in SCALARS:
        return cursor.number(SCALARS[kind])
    if kind == STRING:
        return cursor.text(MAX_STRING)
    if kind != ARRAY:
        raise cursor.fail(f"holds a value of kind {kind}, and there is no such kind")
    inner, count = cursor.number("I"), cursor.number("Q")
    if inner not in SCALARS and inner != STRING:
        raise cursor.fail(f"holds an array of kind {inner}, and there is no such array")
    width = 8 if inner == STRING else struct.calcsize(f"<{SCALARS[inner]}")
    if count > (cursor.size - cursor.position) // width:
        raise cursor.fail(f"holds an array of {count:,} elements, more than the whole file has room for")
    if inner == STRING and is_vocabulary:
        cursor.skip_tokens(count)
    elif inner == STRING:
        cursor.skip_texts(count)
    elif count <= _KEPT_ARRAY:
        return struct.unpack(f"<{count}{SCALARS[inner]}", cursor.take(count * width))
    else:
        cursor.need(count * width)
    return _Length(count)


def _kept(key: str, value: Any) -> Any:
    """`value` as far as it is of use here, so that a file of many long ones fills no memory."""
    if isinstance(value, tuple) and not key.endswith(".head_count_kv"):
        return _Length(len(value))
    if isinstance(value, str) and key != "tokenizer.chat_template":
        return value[:_KEPT_TEXT]
    return value


@dataclass(frozen=True, slots=True)
class _Length:
    """What is kept of an array that was passed over."""

    count: int


def _alignment(cursor: Cursor, values: dict[str, Any]) -> int:
    alignment = values.get("general.alignment", 32)
    if type(alignment) is not int or not 0 < alignment <= MAX_ALIGNMENT or alignment & (alignment - 1):
        raise cursor.fail(f"aligns its tensors to {str(alignment)[:40]} bytes; a power of two up to "
                          f"{MAX_ALIGNMENT:,} is right")  # fmt: skip
    return alignment


@dataclass(frozen=True, slots=True)
class _Tensors:
    names: frozenset[str]
    counts: Counter[str]  # elements by kind
    total: int  # bytes
    of_layers: int  # bytes


def _read_tensors(cursor: Cursor, count: int, alignment: int) -> _Tensors:
    """What the tensors are, once they lie in the file one behind the other."""
    names: set[str] = set()
    counts: Counter[str] = Counter()
    total, of_layers, expected, end = 0, 0, 0, 0
    for _ in range(count):
        name = cursor.text(MAX_NAME)
        kind, elements, size, offset = _read_entry(cursor, name)
        if name in names:
            raise cursor.fail(f"has the tensor {name[:80]!r} twice")
        if offset != expected:  # as llama.cpp asks for it, so nothing overlaps either
            raise cursor.fail(f"has the tensor {name[:80]!r} at {offset:,} where {expected:,} is its place")
        names.add(name)
        counts[kind] += elements
        total += size
        of_layers += size if name.startswith("blk.") else 0
        end = offset + size
        expected = _aligned(end, alignment)
    start = _aligned(cursor.position, alignment)
    if count and start + end > cursor.size:
        raise cursor.fail(f"is cut: it has {cursor.size:,} bytes and its tensors end at {start + end:,}")
    return _Tensors(frozenset(names), counts, total, of_layers)


def _read_entry(cursor: Cursor, name: str) -> tuple[str, int, int, int]:
    """(kind, elements, bytes, offset) of one tensor."""
    dimensions = cursor.number("I")
    if dimensions > MAX_DIMENSIONS:
        raise cursor.fail(f"has a tensor of {dimensions:,} dimensions, {name[:80]!r}")
    shape = [cursor.number("Q") for _ in range(dimensions)]
    number = cursor.number("I")
    if number not in TENSOR_TYPES:
        raise cursor.fail(f"has the tensor {name[:80]!r} of type {number}: it is damaged, or newer than this version")
    kind, block, width = TENSOR_TYPES[number]
    elements = 1
    for extent in shape:
        elements *= extent
    if not 0 < elements < MAX_ELEMENTS or (shape and shape[0] % block):
        raise cursor.fail(f"has a tensor of the impossible shape {str(shape)[:120]}, {name[:80]!r}")
    return kind, elements, elements // block * width, cursor.number("Q")


def _aligned(value: int, alignment: int) -> int:
    return -(-value // alignment) * alignment


def _header(cursor: Cursor, version: int, values: dict[str, Any], tensors: _Tensors) -> GgufHeader:
    architecture = _text(values, "general.architecture") or ""

    def number(name: str) -> int | None:
        value = values.get(f"{architecture}.{name}")
        return value if type(value) is int and 0 < value < 2**31 else None

    heads = number("attention.head_count")
    embedding = number("embedding_length")
    of_head = embedding // heads if heads and embedding else None
    tokens = values.get(_TOKENS)
    part, parts = values.get("split.no", 0), values.get("split.count", 1)
    if type(part) is not int or type(parts) is not int or parts < 0 or not 0 <= part < max(parts, 1):
        raise cursor.fail("does not say properly which part of a split model it is")
    return GgufHeader(
        version=version,
        architecture=architecture[:64],
        kind=_text(values, "general.type") or "model",
        name=_text(values, "general.name"),
        license=_text(values, "general.license"),
        context_length=number("context_length"),
        embedding_length=embedding,
        feed_forward_length=number("feed_forward_length"),
        block_count=number("block_count"),
        head_count=heads,
        head_counts_kv=_counts(values.get(f"{architecture}.attention.head_count_kv", heads)),
        key_length=number("attention.key_length") or of_head,
        value_length=number("attention.value_length") or of_head,
        vocabulary=tokens.count if isinstance(tokens, _Length) else number("vocab_size"),
        chat_template=_text(values, "tokenizer.chat_template", MAX_STRING),
        file_type=_file_type(values, tensors.counts),
        part=part,
        parts=max(parts, 1),
        tensors=len(tensors.names),
        parameters=tensors.counts.total(),
        tensor_bytes=tensors.total,
        layer_bytes=tensors.of_layers,
        projector=_projector(values, number) if architecture == "clip" else None,
    )


def _projector(values: dict[str, Any], number: Callable[[str], int | None]) -> Projector:
    kind = _text(values, "clip.projector_type") or _text(values, "clip.vision.projector_type") or ""
    stated = number("vision.projector.scale_factor") or number("vision.spatial_merge_size") or _SIDES.get(kind, 1)
    merged = min(stated, _MOST_MERGED) ** 2
    side = (number("vision.image_size") or 0) // (number("vision.patch_size") or 1)
    return Projector(
        kind=kind[:64],
        sees=values.get("clip.has_vision_encoder") is True,
        patches=_DYNAMIC_TOKENS * merged if "vl_merger" in kind else side * side,
        merged=merged,
        embedding_length=number("vision.embedding_length"),
        feed_forward_length=number("vision.feed_forward_length"),
    )


def _text(values: dict[str, Any], key: str, limit: int = 200) -> str | None:
    value = values.get(key)
    return value[:limit] if isinstance(value, str) and value else None


def _counts(value: Any) -> tuple[int, ...]:
    values = value if isinstance(value, tuple) else (value,)
    return values if all(type(each) is int and 0 <= each < 2**31 for each in values) else ()


def _file_type(values: dict[str, Any], counts: Counter[str]) -> str | None:
    """How the file was quantised, as it says, or the kind of most of its parameters."""
    stated = FILE_TYPES.get(values.get("general.file_type", -1))
    return stated or (counts.most_common(1)[0][0] if counts else None)
