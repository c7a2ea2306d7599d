"""Headers of safetensors files: the sound ones read as the format's library reads them, the others refused."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import save

from core.errors import CorruptModel
from core.hub.files import open_directory
from core.hub.tensors import read_tensors, shards_of
from tests.fakes.repositories import CLASSIFIER, write_header, write_shards, write_tensors


def read(folder: Path, *names: str) -> Any:
    return read_tensors(open_directory("model", folder), names or ("model.safetensors",))


def test_counts_are_those_of_the_library(tmp_path: Path) -> None:
    write_tensors(tmp_path / "model.safetensors", CLASSIFIER)
    tensors = read(tmp_path)
    with safe_open(tmp_path / "model.safetensors", "numpy") as file:
        sizes = [file.get_tensor(name).size for name in file.keys()]  # noqa: SIM118 - not a dict
    assert tensors.parameters == sum(sizes)
    assert tensors.weight_bytes == 4 * sum(sizes)
    assert tensors.dtype == "float32"
    assert tensors.heads == {"classifier.weight", "classifier.bias"}


def test_shards_add_up_and_the_dtype_of_most_counts(tmp_path: Path) -> None:
    write_tensors(tmp_path / "a.safetensors", {"x": (10, 10)}, "float16")
    write_tensors(tmp_path / "b.safetensors", {"y": (3,)}, "float32")
    tensors = read(tmp_path, "a.safetensors", "b.safetensors")
    assert (tensors.parameters, tensors.weight_bytes, tensors.dtype) == (103, 212, "float16")


def test_a_long_header_is_read_whole(tmp_path: Path) -> None:
    names = {f"layer.{index}.{'weight' * 10}": (1,) for index in range(3000)}
    write_tensors(tmp_path / "model.safetensors", names)
    assert read(tmp_path).parameters == 3000


def test_a_header_may_be_as_long_as_a_pickle_begins(tmp_path: Path) -> None:
    """Its length stands first, and 128 bytes are 0x80, the first byte of a pickle."""
    header = json.dumps({"x": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}).encode().ljust(128)
    write_header(tmp_path / "model.safetensors", header, b"\0" * 16)
    assert read(tmp_path).parameters == 4


def entry(**changes: Any) -> dict[str, Any]:
    return {"x": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16], **changes}}


LIES: dict[str, tuple[Any, bytes]] = {
    "beyond the file": (entry(data_offsets=[0, 1 << 40], shape=[1 << 38]), b"\0" * 16),
    "shape larger than the bytes": (entry(shape=[4, 4]), b"\0" * 16),
    "shape smaller than the bytes": (entry(shape=[1]), b"\0" * 16),
    "shape that overflows": (entry(shape=[1 << 62, 4]), b"\0" * 16),
    "negative shape": (entry(shape=[-2, -2]), b"\0" * 16),
    "shape with a float": (entry(shape=[2.0, 2]), b"\0" * 16),
    "shape with a flag": (entry(shape=[True, 4]), b"\0" * 16),
    "offsets reversed": (entry(data_offsets=[16, 0]), b"\0" * 16),
    "offsets negative": (entry(data_offsets=[-16, 0]), b"\0" * 16),
    "three offsets": (entry(data_offsets=[0, 8, 16]), b"\0" * 16),
    "too many dimensions": (entry(shape=[1] * 60 + [4]), b"\0" * 16),
    "unknown dtype": (entry(dtype="F1024"), b"\0" * 16),
    "dtype is a list": (entry(dtype=["F32"]), b"\0" * 16),
    "no dtype": ({"x": {"shape": [4], "data_offsets": [0, 16]}}, b"\0" * 16),
    "entry is a number": ({"x": 3}, b""),
    "header is a list": ([], b""),
    "header is not JSON": (b"{'x': 1}", b""),
    "header is deep": (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, b""),
    "bytes after the last tensor": (entry(), b"\0" * 17),
    "a byte too few": (entry(), b"\0" * 15),
    "two tensors overlap": ({**entry(), "y": entry(data_offsets=[8, 24])["x"]}, b"\0" * 24),
    "a gap": ({**entry(), "y": entry(data_offsets=[20, 36])["x"]}, b"\0" * 36),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lying_header_is_refused(tmp_path: Path, lie: str) -> None:
    header, data = LIES[lie]
    write_header(tmp_path / "model.safetensors", header, data)
    with pytest.raises(CorruptModel, match="model"):
        read(tmp_path)


@pytest.mark.parametrize("length", [2**63, 2**64 - 1, 100_000_001, 10_000])
def test_a_header_longer_than_the_file_is_refused(tmp_path: Path, length: int) -> None:
    write_header(tmp_path / "model.safetensors", entry(), b"\0" * 16, length)
    with pytest.raises(CorruptModel):
        read(tmp_path)


@pytest.mark.parametrize("data", [b"", b"\0", b"\x80\x04\x95" + b"x" * 50, b"PK\x03\x04" + b"x" * 50, b"\0" * 8])
def test_other_files_of_that_name_are_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(data)
    with pytest.raises(CorruptModel):
        read(tmp_path)


def test_a_file_is_refused_wherever_it_is_cut(tmp_path: Path) -> None:
    for end in range(len(_SOUND)):
        (tmp_path / "model.safetensors").write_bytes(_SOUND[:end])
        with pytest.raises(CorruptModel):
            read(tmp_path)


@pytest.mark.parametrize("keep", [0.25, 0.5, 0.99])
def test_a_cut_file_is_refused(tmp_path: Path, keep: float) -> None:
    write_tensors(tmp_path / "model.safetensors", CLASSIFIER)
    whole = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[: int(len(whole) * keep)])
    with pytest.raises(CorruptModel):
        read(tmp_path)


_SOUND = save({"a": np.zeros((4, 4), np.float32), "classifier.weight": np.zeros((2, 4), np.float16)})


@settings(max_examples=500, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), min_size=1, max_size=4))
def test_mutated_headers_end_in_an_answer_or_in_corrupt_model(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int]]
) -> None:
    folder = tmp_path_factory.getbasetemp() / "mutated"
    folder.mkdir(exist_ok=True)
    data = bytearray(_SOUND)
    for position, value in changes:
        data[position % len(data)] = value
    (folder / "model.safetensors").write_bytes(data)
    try:
        tensors = read(folder)
    except CorruptModel:
        return
    assert tensors.weight_bytes <= len(data)


def test_shards_come_from_the_index(tmp_path: Path) -> None:
    write_shards(tmp_path, {"model-1.safetensors": {"a": (2,)}, "model-2.safetensors": {"b": (3,)}})
    files = open_directory("model", tmp_path)
    assert shards_of(files, "model.safetensors.index.json") == ("model-1.safetensors", "model-2.safetensors")


@pytest.mark.parametrize("name", ["../x.safetensors", "/etc/passwd", "a\\b", "a\0b", "sub/../../x", 3, None, ["x"], ""])
def test_an_index_leads_nowhere_else(tmp_path: Path, name: Any) -> None:
    (tmp_path / "x.json").write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(CorruptModel):
        shards_of(open_directory("model", tmp_path), "x.json")


@pytest.mark.parametrize("index", [{}, {"weight_map": {}}, {"weight_map": ["a"]}, [], 3, {"weight_map": {"a": "gone"}}])
def test_an_index_that_names_no_shards_is_refused(tmp_path: Path, index: Any) -> None:
    (tmp_path / "x.json").write_text(json.dumps(index))
    with pytest.raises(CorruptModel):
        shards_of(open_directory("model", tmp_path), "x.json")


def test_the_header_length_is_little_endian(tmp_path: Path) -> None:
    write_tensors(tmp_path / "model.safetensors", {"x": (2,)})
    data = (tmp_path / "model.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    (tmp_path / "model.safetensors").write_bytes(struct.pack(">Q", length) + data[8:])
    with pytest.raises(CorruptModel):
        read(tmp_path)
