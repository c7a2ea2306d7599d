"""Classifiers of pictures: as repositories of transformers, as exports, and as a graph alone."""

import asyncio
from pathlib import Path

import pytest

from core.core import Core
from core.errors import CorruptModel, InvalidRequest
from core.hub import Hub
from core.settings import Settings
from core.types import ModelSpec, Runtime, Task
from tests.fakes.images import LABELS, picture, write_classifier, write_export, write_graph


def inspect(root: Path, source: str, **fields):
    hub = Hub(models_dir=root, starter_dir=root / "none", offline=True)
    return asyncio.run(hub.inspect(ModelSpec("m", source, **fields)))


def test_a_classifier_of_transformers_is_told_from_its_head(tmp_path):
    write_classifier(tmp_path / "vit", "vit")
    found = inspect(tmp_path, "vit")
    assert (found.runtime, found.tasks, found.labels) == (Runtime.TRANSFORMERS, (Task.IMAGE_CLASSIFICATION,), LABELS)
    assert {each.path for each in found.files} == {"config.json", "model.safetensors", "preprocessor_config.json"}


def test_an_export_is_chosen_by_its_file(tmp_path):
    write_export(write_classifier(tmp_path / "vit", "vit"))
    found = inspect(tmp_path, "vit", file="model.onnx")
    assert (found.runtime, found.tasks, found.labels) == (Runtime.ONNXRUNTIME, (Task.IMAGE_CLASSIFICATION,), LABELS)


@pytest.mark.parametrize("source", ["vision.onnx", "vision"])
def test_a_graph_alone_is_taken_for_a_classifier_and_says_so(tmp_path, source):
    write_graph(tmp_path / ("vision.onnx" if source == "vision.onnx" else "vision/any.onnx"))
    found = inspect(tmp_path, source)
    assert (found.runtime, found.tasks) == (Runtime.ONNXRUNTIME, (Task.IMAGE_CLASSIFICATION,))
    assert found.spec.file == ("vision.onnx" if source == "vision.onnx" else "any.onnx")
    assert found.anatomy.tensor_bytes == 3 * 3 * 4 + 2 * 8  # the maps, and the axes of the mean
    assert "taken for a classifier of pictures" in found.warnings[0]
    assert "ImageNet" in found.warnings[1]


def test_of_several_graphs_one_has_to_be_named(tmp_path):
    for name in ("a", "b"):
        write_graph(tmp_path / f"vision/{name}.onnx")
    with pytest.raises(InvalidRequest, match=r"a\.onnx, b\.onnx"):
        inspect(tmp_path, "vision")
    assert inspect(tmp_path, "vision", file="b.onnx").spec.file == "b.onnx"


def test_a_graph_alone_is_no_model_of_text(tmp_path):
    write_graph(tmp_path / "vision/any.onnx")
    with pytest.raises(CorruptModel, match=r"config\.json"):
        inspect(tmp_path, "vision", task=Task.TEXT_CLASSIFICATION)


async def test_a_file_alone_is_loaded_and_asked(tmp_path):
    write_graph(tmp_path / "vision.onnx")
    core = Core(Settings(_env_file=None, models_dir=tmp_path, data_dir=tmp_path / "data", offline=True))
    await core.start()
    try:
        job = await core.load(ModelSpec("vision", "vision.onnx"))
        info = await job.done
        reply = await core.predict("vision", [picture(1), picture(2)], {"top_k": 2})
    finally:
        await core.stop()
    assert info.labels == ("LABEL_0", "LABEL_1", "LABEL_2")
    assert [len(each) for each in reply.outputs] == [2, 2]
    with pytest.raises(InvalidRequest, match="reads an image"):
        await core.run(Task.IMAGE_CLASSIFICATION, ["a text"], {}, "vision")
