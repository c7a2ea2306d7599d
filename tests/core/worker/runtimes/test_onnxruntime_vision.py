"""Models that look at images as ONNX graphs: greedy tokens are those of transformers' `generate`."""

from __future__ import annotations

import functools
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import transformers
from onnx import TensorProto, helper

from core.errors import CorruptModel, InsufficientMemory, LoadFailed
from core.types import Runtime
from core.worker import runtimes
from core.worker.runtimes import onnxruntime_vision
from core.worker.runtimes.base import LoadRequest
from core.worker.runtimes.onnxruntime_vision import OnnxVision
from tests.core.worker.runtimes.test_transformers_vision import (
    MORE,
    ONE,
    SQUARE,
    TASKS,
    TEXT,
    TWO,
    WIDE,
    Expected,
    Talk,
    begun,
    drawn,
    encoded,
    processed,
)
from tests.core.worker.runtimes.writing import Sequence_, greedy
from tests.fakes.onnx_decoders import merge, write_data
from tests.fakes.onnx_vision import GRAPHS, STEMS, write_onnx_vision
from tests.fakes.vision import own_processor, picture

CHATS, COUNTS = (ONE, TEXT, TWO, MORE), (12, 20, 14, 8)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return functools.cache(lambda name: write_onnx_vision(tmp_path_factory.mktemp(name), name))


@pytest.fixture(scope="module")
def seeing(directory):
    return functools.cache(lambda name: loaded(directory(name)))


def loaded(path: Path, **more: Any) -> OnnxVision:
    given = {"threads": 1, "max_sequences": 4, "name": "org/model", **more}
    found = runtimes.load(LoadRequest(str(path), Runtime.ONNXRUNTIME, TASKS, **given), lambda stage, data: None)
    assert isinstance(found, OnnxVision)
    return found


@pytest.mark.parametrize("name", GRAPHS)
def test_prompts_are_laid_out_as_the_processor_does(name: str, seeing, own) -> None:
    generator, processor = seeing(name), own(name)
    image_token = processor.tokenizer.convert_tokens_to_ids(processor.image_token)
    for chat in CHATS:
        ids, size = encoded(generator, chat), generator.codec.size
        theirs = processed(processor, chat)["input_ids"][0].tolist()
        assert [image_token if each >= size else each for each in ids] == theirs
    seen = [each for each in encoded(generator, ONE) if each >= generator.codec.size]
    assert generator.vision.preview(SQUARE)["tokens"] == len(seen)


@pytest.mark.parametrize("name", GRAPHS)
def test_tokens_are_those_of_generate_alone_and_in_company(name: str, seeing, own, plain) -> None:
    generator = seeing(name)
    assert generator._batches  # so that company is kept at all
    expected = [Expected(plain(name), own(name), chat, count) for chat, count in zip(CHATS, COUNTS, strict=True)]
    parted = 0
    for chat, count, theirs in zip(CHATS, COUNTS, expected, strict=True):
        [alone] = greedy(generator, [begun(generator, chat, count)])
        parted += theirs.parted(alone)
    for prefill in (1000, 7):
        company = [
            begun(generator, chat, count, joins_at, slot)
            for slot, (chat, count, joins_at) in enumerate(zip(CHATS, COUNTS, (2, 0, 4, 0), strict=True))
        ]
        for ours, theirs in zip(greedy(generator, company, prefill=prefill), expected, strict=True):
            parted += theirs.parted(ours)
    assert parted <= 1


@pytest.mark.parametrize("name", GRAPHS)
def test_what_is_seen_matters_to_what_is_said(name: str, seeing) -> None:
    chats = [[("user", [image, "what is it?"])] for image in (SQUARE, WIDE)]
    said = [greedy(seeing(name), [begun(seeing(name), chat, 12)]) for chat in chats]
    assert said[0] != said[1]
    assert seeing(name).vision._at_hand == {}  # what is read is not held


@pytest.fixture
def tower(monkeypatch):
    """Counts the passes through the tower."""

    def watch(generator: OnnxVision) -> list[int]:
        calls: list[int] = []
        real = generator.vision._model._session.run

        class Session:
            def run(self, *given: Any) -> Any:
                calls.append(1)
                return real(*given)

        monkeypatch.setattr(generator.vision._model, "_session", Session())
        return calls

    return watch


@pytest.mark.parametrize("name", ["smolvlm", "qwen2_vl"])
def test_a_question_on_the_same_picture_does_not_run_the_tower_again(name: str, directory, own, plain, tower) -> None:
    generator = loaded(directory(name))
    assert not generator.vision._kept
    assert not generator.vision._at_hand  # of what it was warmed with
    assert not generator.vision.reader._pixels
    calls, talk = tower(generator), Talk(generator)
    [first] = talk.ask(ONE)
    once = len(calls)  # a pass for each tile
    assert once
    assert first.usage.prompt_tokens == processed(own(name), ONE)["input_ids"].shape[1]
    on = [*ONE, ("assistant", ["it is red"]), ("user", ["are you sure?"])]
    [second] = talk.ask(on)
    assert second.cached_tokens > sum(each >= generator.codec.size for each in first.prompt)
    assert Expected(plain(name), own(name), on, 8).parted(drawn(second)) == 0
    elsewhere = [("user", ["say: ", SQUARE, "what shape?"])]
    [third] = talk.ask(elsewhere)  # in another chat, which begins with other words
    assert Expected(plain(name), own(name), elsewhere, 8).parted(drawn(third)) == 0
    assert len(calls) == once
    wide, both = [("user", [WIDE, "what is it?"])], [("user", [SQUARE, "and ", WIDE, "?"])]
    for job, chat in zip(talk.ask(wide, both, TEXT), (wide, both, TEXT), strict=True):
        assert Expected(plain(name), own(name), chat, 8).parted(drawn(job)) == 0
    seen = len(calls)
    assert seen > once
    talk.ask(both, wide)
    assert len(calls) == seen
    assert generator.vision._at_hand == {}


@pytest.mark.parametrize("name", ["smolvlm", "qwen2_vl"])
def test_a_slot_that_is_cut_goes_on_as_if_it_were_new(name: str, seeing, own, plain) -> None:
    generator, chat = seeing(name), [*TWO[:2], ("user", ["or the same?"])]
    first, second = begun(generator, TWO, 4), encoded(generator, chat)
    greedy(generator, [first])
    same = next(index for index, (a, b) in enumerate(zip(first.prompt, second, strict=False)) if a != b)
    assert generator.trim(0, same) == same
    [ours] = greedy(generator, [Sequence_(second, 8, read=same)])
    assert Expected(plain(name), own(name), chat, 8).parted(ours) == 0


def test_a_merged_decoder_that_reads_one_by_one(directory, own, plain, tmp_path: Path) -> None:
    """With `use_cache_branch`, as older exports have it."""
    shutil.copytree(directory("qwen2_vl"), tmp_path / "m")
    graph = tmp_path / "m" / "onnx" / "decoder_model_merged.onnx"
    merge(graph, graph, graph)
    generator = loaded(tmp_path / "m")
    generator._reads_on = False
    for chat in (TWO, TEXT):
        [ours] = greedy(generator, [begun(generator, chat, 10)], prefill=9)
        assert Expected(plain("qwen2_vl"), own("qwen2_vl"), chat, 10).parted(ours) == 0


def test_another_precision_and_tensors_beside_the_graphs(own, tmp_path: Path) -> None:
    path = write_onnx_vision(tmp_path, "llava", precision="_fp16", dtype=torch.float16)
    for stem in STEMS:
        write_data(path / "onnx" / f"{stem}_fp16.onnx", f"{stem}_fp16.onnx_data")
    generator = loaded(path, file="onnx/vision_encoder_fp16.onnx")  # any of the three names them all
    assert generator.info.dtype == "float16"
    model = transformers.AutoModelForImageTextToText.from_pretrained(path, dtype=torch.float16).eval()
    for chat in (ONE, TEXT):
        [ours] = greedy(generator, [begun(generator, chat, 8)])
        Expected(model, own_processor(path), chat, 8).parted(ours, noise=0.2)


def test_a_decoder_takes_what_there_is_of_another_precision(tmp_path: Path) -> None:
    path = write_onnx_vision(tmp_path, "llava", precision="_fp16", dtype=torch.float16)
    write_onnx_vision(tmp_path, "llava")
    for stem in ("vision_encoder", "embed_tokens"):
        (path / "onnx" / f"{stem}.onnx").unlink()
    generator = loaded(path, file="onnx/decoder_model_merged.onnx")
    assert generator.info.dtype == "float32"
    model = transformers.AutoModelForImageTextToText.from_pretrained(path, dtype=torch.float32).eval()
    for chat in (ONE, TEXT):
        [ours] = greedy(generator, [begun(generator, chat, 8)])
        Expected(model, own_processor(path), chat, 8).parted(ours, noise=0.2)


def test_no_memory_for_an_image_fails_its_prompt_alone(directory, own, plain, monkeypatch) -> None:
    generator = loaded(directory("llava"))

    class Full:
        def run(self, *given: Any) -> Any:
            raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(generator.vision._model, "_session", Full())
        image, text = Talk(generator).ask(ONE, TEXT)
    assert isinstance(image.error, InsufficientMemory)
    assert Expected(plain("llava"), own("llava"), TEXT, 8).parted(drawn(text)) == 0
    [again] = Talk(generator).ask(ONE)
    assert Expected(plain("llava"), own("llava"), ONE, 8).parted(drawn(again)) == 0


def test_what_it_says_of_itself(seeing) -> None:
    info = seeing("llava").info
    assert (info.runtime, info.tasks, info.model_type) == (Runtime.ONNXRUNTIME, TASKS, "llava")
    assert (info.context_length, info.has_chat_template, info.dtype) == (512, True, "float32")


def test_an_image_is_made_smaller_than_a_graph_has_memory_for(directory, monkeypatch) -> None:
    monkeypatch.setattr(onnxruntime_vision, "MOST_PATCHES", 64)
    generator = loaded(directory("qwen2_vl"))
    ids = encoded(generator, [("user", [picture(1, 400, 400)])])
    assert sum(each >= generator.codec.size for each in ids) == 16  # four patches each


def graph(path: Path, inputs: list[tuple[str, int, list[Any]]], shape: list[int]) -> None:
    """One that gives zeros of `shape`, whatever it is given."""
    values = [helper.make_tensor_value_info(*each) for each in inputs]
    zeros = helper.make_tensor("zeros", TensorProto.FLOAT, shape, np.zeros(shape, np.float32).ravel())
    made = helper.make_graph(
        [helper.make_node("Constant", [], ["out"], value=zeros)],
        "zeros",
        values,
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, shape)],
    )
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


PIXELS = ("pixel_values", TensorProto.FLOAT, ["n", 3, 32, 32])


@pytest.mark.parametrize(
    ("stem", "inputs", "shape", "error", "said"),
    [
        ("vision_encoder", [PIXELS, ("audio", TensorProto.FLOAT, [1])], [1, 16, 64], LoadFailed, "takes audio"),
        ("vision_encoder", [("image", TensorProto.FLOAT, [1])], [1, 16, 64], LoadFailed, "takes image"),
        ("vision_encoder", [PIXELS], [1, 16, 63], CorruptModel, "gives rows of 63 numbers.* takes 64"),
        ("vision_encoder", [PIXELS], [1, 15, 64], CorruptModel, "as 15 rows and its processor leaves 16 places"),
        ("embed_tokens", [("ids", TensorProto.INT64, ["n", "m"])], [1, 1, 64], LoadFailed, "embed_tokens .* takes ids"),
        ("decoder_model_merged", [("input_ids", TensorProto.INT64, ["n"])], [1], LoadFailed, "takes input_ids"),
    ],
)
def test_graphs_that_cannot_be_run_say_so(stem, inputs, shape, error, said, directory, tmp_path: Path) -> None:
    shutil.copytree(directory("llava"), tmp_path / "m")
    graph(tmp_path / "m" / "onnx" / f"{stem}.onnx", inputs, shape)
    with pytest.raises(error, match=said):
        loaded(tmp_path / "m")


def test_a_graph_is_missing(directory, tmp_path: Path) -> None:
    shutil.copytree(directory("llava"), tmp_path / "m")
    (tmp_path / "m" / "onnx" / "embed_tokens.onnx").unlink()
    with pytest.raises(LoadFailed, match=r"has no vision_encoder\.onnx and embed_tokens\.onnx"):
        loaded(tmp_path / "m")
