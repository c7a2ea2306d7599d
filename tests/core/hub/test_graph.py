"""Where ONNX files keep their tensors, held against files that the onnx library writes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from core.errors import CorruptModel
from core.hub.files import open_directory
from core.hub.graph import external_data


def write_graph(path: Path, location: str | None = None, tensors: int = 2) -> None:
    """A graph that adds constants; with `location` they lie there instead of in the file."""
    constants = [numpy_helper.from_array(np.ones(300_000, np.float32), f"c{index}") for index in range(tensors)]
    for constant in constants if location is not None else []:
        constant.ClearField("raw_data")
        constant.data_location = TensorProto.EXTERNAL
        for key, value in (("offset", "0"), ("location", location), ("length", "1200000")):
            constant.external_data.add(key=key, value=value)
    names = ["x", *(each.name for each in constants)]
    node = helper.make_node("Sum", names, ["y"])
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [300_000]) for name in ("x", "y")]
    graph = helper.make_graph([node], "graph", values[:1], values[1:], constants)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(helper.make_model(graph), path)


def locations(folder: Path, name: str = "model.onnx") -> tuple[str, ...]:
    return external_data(open_directory("model", folder), name)


def test_a_graph_with_its_tensors_inside_needs_no_other_file(tmp_path: Path) -> None:
    write_graph(tmp_path / "model.onnx", tensors=8)
    assert locations(tmp_path) == ()


def test_external_files_are_found_beside_the_graph(tmp_path: Path) -> None:
    write_graph(tmp_path / "onnx/model.onnx", "model.onnx_data")
    (tmp_path / "onnx/model.onnx_data").write_bytes(b"\0" * 1_200_000)
    assert locations(tmp_path, "onnx/model.onnx") == ("onnx/model.onnx_data",)


@pytest.mark.parametrize("location", ["/etc/passwd", "../x", "a/../../x", "gone", "", "a\\b"])
def test_other_places_are_refused(tmp_path: Path, location: str) -> None:
    write_graph(tmp_path / "model.onnx", location)
    with pytest.raises(CorruptModel):
        locations(tmp_path)


def test_a_link_that_leads_out_is_as_if_missing(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    write_graph(tmp_path / "model/model.onnx", "data")
    (tmp_path / "model/data").symlink_to(tmp_path / "secret")
    with pytest.raises(CorruptModel):
        locations(tmp_path / "model")


@pytest.mark.parametrize("keep", [1, 4, 100, 1_000_000])
def test_a_cut_graph_is_refused(tmp_path: Path, keep: int) -> None:
    write_graph(tmp_path / "model.onnx")
    whole = (tmp_path / "model.onnx").read_bytes()
    (tmp_path / "model.onnx").write_bytes(whole[:keep])
    with pytest.raises(CorruptModel):
        locations(tmp_path)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_end_in_an_answer_or_in_corrupt_model(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    folder = tmp_path_factory.getbasetemp() / "bytes"
    folder.mkdir(exist_ok=True)
    (folder / "model.onnx").write_bytes(data)
    try:
        assert locations(folder) == ()
    except CorruptModel:
        return
