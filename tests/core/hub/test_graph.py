"""Where ONNX files keep their tensors, held against files that the onnx library writes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from core.errors import CorruptModel
from core.hub.files import open_directory
from core.hub.graph import PARTS, external_data, read_graph_tensors


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


def external(name: str, location: str) -> onnx.TensorProto:
    """A tensor that lies elsewhere."""
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    return tensor


def hidden_places() -> dict[str, onnx.ModelProto]:
    """A model for each place of a graph where a tensor can hide."""
    empty = helper.make_graph([], "graph", [], [])
    constant = helper.make_node("Constant", [], ["y"], value=external("c", "hidden"))
    inner = helper.make_graph([constant], "inner", [], [])
    branch = helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=empty)
    deep = helper.make_graph([helper.make_node("Loop", ["x"], ["y"], body=helper.make_graph([branch], "b", [], []))],
                             "deep", [], [])  # fmt: skip
    sparse = onnx.SparseTensorProto(values=external("v", "hidden"), dims=[1])
    in_function = helper.make_model(empty)
    in_function.functions.add(name="f").node.append(constant)
    in_training = helper.make_model(empty)
    in_training.training_info.add().algorithm.CopyFrom(inner)
    with_sparse = helper.make_graph([], "graph", [], [], sparse_initializer=[sparse])
    return {
        "constant": helper.make_model(inner),
        "subgraphs": helper.make_model(deep),
        "sparse": helper.make_model(with_sparse),
        "function": in_function,
        "training": in_training,
    }


@pytest.mark.parametrize("place", ["constant", "subgraphs", "sparse", "function", "training"])
def test_no_place_of_a_graph_is_overlooked(tmp_path: Path, place: str) -> None:
    (tmp_path / "model.onnx").write_bytes(hidden_places()[place].SerializeToString())
    with pytest.raises(CorruptModel, match="hidden"):
        locations(tmp_path)
    (tmp_path / "hidden").write_bytes(b"\0" * 4)
    assert locations(tmp_path) == ("hidden",)


def test_the_numbers_are_those_of_onnx() -> None:
    """Every field of every message that leads to a TensorProto is walked."""
    for message in (getattr(onnx, name) for name in PARTS):
        fields = message.DESCRIPTOR.fields
        leads = {
            field.number: field.message_type.name
            for field in fields
            if field.message_type and field.message_type.name in PARTS
        }
        walked = {number: part for number, part in PARTS[message.__name__].items() if part in PARTS}
        assert walked == leads, message.__name__
    assert onnx.TensorProto.DESCRIPTOR.fields_by_name["external_data"].number == 13


def test_nesting_has_an_end(tmp_path: Path) -> None:
    graph = b""
    for _ in range(5000):  # by hand: protobuf itself writes and reads at most a hundred
        graph = _field(1, _field(5, _field(6, graph)))
    (tmp_path / "model.onnx").write_bytes(_field(7, graph))
    with pytest.raises(CorruptModel):
        locations(tmp_path)


def _field(number: int, raw: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(raw)) + raw


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


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


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "int64"])
def test_tensors_are_as_large_as_the_library_says(tmp_path: Path, dtype: str) -> None:
    arrays = [np.ones((3, 5), dtype), np.ones((), dtype), np.ones((0, 4), dtype)]
    tensors = [numpy_helper.from_array(array, f"c{index}") for index, array in enumerate(arrays)]
    onnx.save(helper.make_model(helper.make_graph([], "graph", [], [], tensors)), tmp_path / "model.onnx")
    found = read_graph_tensors(open_directory("m", tmp_path), "model.onnx")
    assert found.total_bytes == sum(array.nbytes for array in arrays)
    assert found.floats == (16 if dtype.startswith("float") else 0)
    assert found.fixed_bytes == (0 if dtype.startswith("float") else found.total_bytes)


def lying(**fields: object) -> onnx.ModelProto:
    tensor = numpy_helper.from_array(np.ones((4, 4), np.float32), "c")
    for name, value in fields.items():
        if name == "dims":
            del tensor.dims[:]
            tensor.dims.extend(value)  # type: ignore[arg-type]
        else:
            setattr(tensor, name, value)
    return helper.make_model(helper.make_graph([], "graph", [], [], [tensor]))


@pytest.mark.parametrize(
    "lie", [{"dims": [4, 5]}, {"dims": [1 << 40, 1 << 40]}, {"dims": [-4, -4]}, {"data_type": 11}, {"raw_data": b"x"}]
)
def test_a_tensor_of_another_size_than_its_bytes_is_refused(tmp_path: Path, lie: dict[str, object]) -> None:
    onnx.save(lying(**lie), tmp_path / "model.onnx")
    with pytest.raises(CorruptModel):
        locations(tmp_path)


@pytest.mark.parametrize(("offset", "size"), [("0", 3), ("1", 4), ("4096", 4), ("-1", 9), ("9" * 30, 9), ("x", 9)])
def test_a_tensor_beyond_the_end_of_its_file_is_refused(tmp_path: Path, offset: str, size: int) -> None:
    tensor = external("c", "data")
    tensor.external_data.add(key="offset", value=offset)
    onnx.save(helper.make_model(helper.make_graph([], "graph", [], [], [tensor])), tmp_path / "model.onnx")
    (tmp_path / "data").write_bytes(b"\0" * size)
    with pytest.raises(CorruptModel):
        locations(tmp_path)


def every_tensor(message: object) -> Iterator[onnx.TensorProto]:
    """The tensors in a message as the library reads it, wherever they are."""
    for field, value in message.ListFields():  # type: ignore[attr-defined]
        if field.message_type is not None:
            for each in [value] if hasattr(value, "ListFields") else value:
                if field.message_type.name == "TensorProto":
                    yield each
                yield from every_tensor(each)


def crowded(count: int = 1500) -> onnx.ModelProto:
    """Nodes as exporters write them, one behind the other; some hold a graph, or keep their numbers elsewhere."""
    chance = random.Random(5)
    inner = helper.make_graph([helper.make_node("Constant", [], ["y"], value=external("c", "inner"))], "inner", [], [])
    made = []
    for index in range(count):
        outputs = [f"/model/layers.{index}/a{'x' * chance.choice([0, 20, 42, 150, 300])}"]
        match chance.randrange(8):
            case 0 | 1:
                array = np.ones(
                    (chance.randrange(4), chance.choice([1, 3, 20_000])), chance.choice(["int64", "float32"])
                )
                made.append(helper.make_node("Constant", [], outputs, value=numpy_helper.from_array(array)))
            case 2:
                made.append(helper.make_node("Constant", [], outputs, value=external("c", f"data{index % 7}")))
            case 3:
                made.append(helper.make_node("If", ["x"], outputs, then_branch=inner, else_branch=inner))
            case 4:
                made.append(helper.make_node("Transpose", ["x"], outputs, perm=[0, 42, -1]))
            case 5:
                made.append(helper.make_node("Gather", ["x" * 42, "*"], outputs, axis=-1, note="*2RZ", scale=1.5))
            case _:
                made.append(helper.make_node("Add", ["x", "y"], outputs))
    return helper.make_model(helper.make_graph(made, "graph", [], []))


def test_among_thousands_of_nodes_none_is_overlooked(tmp_path: Path) -> None:
    model = crowded()
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    found = read_graph_tensors(open_directory("m", tmp_path), "model.onnx")
    tensors = list(every_tensor(model))
    assert found.count == len(tensors)
    inside = [numpy_helper.to_array(each).nbytes for each in tensors if not each.external_data]
    assert found.total_bytes == sum(inside) + 4 * (len(tensors) - len(inside))
    assert found.locations.keys() == {"inner", *(f"data{index}" for index in range(7))}


def test_whatever_the_library_finds_in_a_damaged_graph_is_found(tmp_path: Path) -> None:
    whole, chance = crowded(12).SerializeToString(), random.Random(3)
    outcomes = {"read": 0, "refused": 0}
    for number in range(500):
        at, width = chance.randrange(len(whole)), chance.choice([1, 1, 2])
        changed = whole[:at] + chance.randbytes(width) + whole[at + width :]
        try:
            model = onnx.ModelProto.FromString(changed)
        except DecodeError:
            continue
        path = tmp_path / f"{number}.onnx"  # what was read last is remembered by name, size and time
        path.write_bytes(changed)
        try:
            found = read_graph_tensors(open_directory("m", tmp_path), path.name)
        except CorruptModel:
            outcomes["refused"] += 1
            continue
        finally:
            path.unlink()
        outcomes["read"] += 1
        asked = {pair.value for each in every_tensor(model) for pair in each.external_data if pair.key == "location"}
        assert asked <= found.locations.keys()
    assert outcomes["read"] > 150
