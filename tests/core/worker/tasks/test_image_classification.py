"""Labels of pictures, held against plain transformers and numbers by hand."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import transformers
from onnx import TensorProto, helper

from core.errors import InvalidImage, LoadFailed
from core.types import Quantization, Runtime, Task
from tests.core.worker.conftest import ask, open_model
from tests.fakes.images import LABELS, SIDE, opened, picture, write_classifier, write_export, write_graph

TASK = Task.IMAGE_CLASSIFICATION
PICTURES = [picture(seed, *size) for seed, size in enumerate([(48, 40), (32, 32), (200, 31), (17, 90)])]


@pytest.fixture(scope="module", params=["vit", "resnet"])
def directory(request, tmp_path_factory):
    return write_classifier(tmp_path_factory.mktemp("images") / request.param, request.param)


def expected(directory, **options) -> list[dict[str, float]]:
    """Scores by label of plain transformers, one picture at a time."""
    model = transformers.AutoModelForImageClassification.from_pretrained(directory, **options).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(directory, backend="pil")
    answers = []
    for image in PICTURES:
        with torch.no_grad():
            scores = model(**processor(images=opened(image), return_tensors="pt")).logits[0].softmax(-1).tolist()
        answers.append(dict(zip(LABELS, scores, strict=True)))
    return answers


@pytest.mark.parametrize("rows", [1, 3, 100])
def test_scores_equal_plain_transformers_whatever_the_batch(directory, rows):
    answers = ask(open_model(directory, TASK), TASK, PICTURES, rows=rows)
    for answer, scores in zip(answers, expected(directory), strict=True):
        assert {each["label"]: each["score"] for each in answer} == pytest.approx(scores, abs=1e-5)
        assert [each["score"] for each in answer] == sorted((each["score"] for each in answer), reverse=True)


def test_top_k_cuts_the_list(directory):
    [answer] = ask(open_model(directory, TASK), TASK, PICTURES[:1], top_k=2)
    assert len(answer) == 2


def test_four_bits_are_those_of_plain_transformers(tmp_path):
    directory = write_classifier(tmp_path / "vit", "vit")
    runtime = open_model(directory, TASK, quantization=Quantization.NF4)
    quantized = transformers.BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype="float32"
    )
    for answer, scores in zip(
        ask(runtime, TASK, PICTURES), expected(directory, quantization_config=quantized, device_map="cpu"), strict=True
    ):
        assert {each["label"]: each["score"] for each in answer} == pytest.approx(scores, abs=1e-3)


def test_an_export_is_run_with_its_processor(tmp_path):
    directory = write_classifier(tmp_path / "vit", "vit")
    write_export(directory)
    runtime = open_model(directory, TASK, runtime=Runtime.ONNXRUNTIME)
    for answer, scores in zip(ask(runtime, TASK, PICTURES), expected(directory), strict=True):
        assert {each["label"]: each["score"] for each in answer} == pytest.approx(scores, abs=1e-4)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("rows", ["n", 1, 3])
def test_a_graph_alone_is_shown_the_middle_as_for_imagenet(tmp_path, channels_last, rows):
    maps = write_graph(tmp_path / "model.onnx", channels_last=channels_last, rows=rows)
    runtime = open_model(tmp_path, TASK, runtime=Runtime.ONNXRUNTIME, file="model.onnx")
    answers = ask(runtime, TASK, PICTURES, function_to_apply="none")
    for image, answer in zip(PICTURES, answers, strict=True):
        whole = opened(image)
        scale = 256 / 224 * max(SIDE / whole.width, SIDE / whole.height)
        size = round(whole.width * scale), round(whole.height * scale)
        left, top = (size[0] - SIDE) // 2, (size[1] - SIDE) // 2
        cut = whole.resize(size, 2).crop((left, top, left + SIDE, top + SIDE))
        mean = np.asarray(cut, np.float64).mean((0, 1)) / 255
        scores = (mean - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225] @ maps
        found = {each["label"]: each["score"] for each in answer}
        assert [found[f"LABEL_{index}"] for index in range(3)] == pytest.approx(scores.tolist(), abs=1e-4)


def test_scores_that_are_shares_already_are_left_alone(tmp_path):
    write_graph(tmp_path / "model.onnx", ends_with_softmax=True)
    runtime = open_model(tmp_path, TASK, runtime=Runtime.ONNXRUNTIME, file="model.onnx")
    [answer] = ask(runtime, TASK, PICTURES[:1])
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    [shares] = session.run(None, {"pixels": runtime.pixels(PICTURES[0])[None]})
    assert [each["score"] for each in answer] == pytest.approx(sorted(shares[0].tolist(), reverse=True), abs=1e-6)


def test_a_graph_of_text_is_refused_by_what_it_takes(tmp_path):
    ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["n", "length"])
    out = helper.make_tensor_value_info("same", TensorProto.INT64, ["n", "length"])
    graph = helper.make_graph([helper.make_node("Identity", ["input_ids"], ["same"])], "text", [ids], [out])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), tmp_path / "m.onnx")
    with pytest.raises(LoadFailed, match="input_ids"):
        open_model(tmp_path, TASK, runtime=Runtime.ONNXRUNTIME, file="m.onnx")


def test_what_is_no_picture_is_told(directory):
    with pytest.raises(InvalidImage):
        ask(open_model(directory, TASK), TASK, [{"data": b"\x89PNG\r\n\x1a\n", "key": "0" * 64}])
