"""Encoder-decoders as ONNX graphs, held against plain transformers."""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import transformers
from onnx import TensorProto, helper, numpy_helper

from core.core import Core
from core.errors import CorruptModel, InsufficientMemory, LoadFailed
from core.fleet.launcher import Launcher
from core.hub import Hub
from core.types import ModelSpec, Runtime, Task
from core.worker.generation.base import Chunk
from core.worker.runtimes import onnxruntime_halves
from core.worker.runtimes.onnxruntime_seq2seq import OnnxSeq2Seq
from tests.core.worker.conftest import open_model
from tests.core.worker.runtimes.writing import Sequence_, begun, expected, greedy
from tests.fakes.decoders import ENCODER_DECODERS, write_decoder
from tests.fakes.hub import FakeHub
from tests.fakes.onnx_decoders import quantize, write_data
from tests.fakes.onnx_seq2seq import write_halves, write_onnx_seq2seq

TEXTS = (
    "김민수는 서울에서 일한다.",
    "The quick brown fox jumps over the lazy dog. " * 4,
    "Hi",
    "영화가 정말 재미있었고",
)
COUNTS = (14, 9, 20, 5)
TEXT2TEXT = Task.TEXT2TEXT_GENERATION

pytestmark = pytest.mark.filterwarnings("ignore:.*sacremoses:UserWarning")


def loaded(path: Path, task: Task = TEXT2TEXT, **more: Any) -> OnnxSeq2Seq:
    tasks = dict.fromkeys((task, TEXT2TEXT))
    return open_model(path, *tasks, runtime=Runtime.ONNXRUNTIME, **{"threads": 1, **more})


@pytest.fixture(scope="module")
def directory(tmp_path_factory) -> Callable[..., Path]:
    """`directory(architecture, is_merged)`: a model with its graphs. Read only."""

    @functools.cache
    def get(architecture: str, is_merged: bool = True) -> Path:
        return write_onnx_seq2seq(tmp_path_factory.mktemp("export") / "m", architecture, is_merged=is_merged)

    return get


@pytest.fixture
def own(directory, tmp_path: Path) -> Path:
    """A T5 of this test alone, its decoder in two graphs."""
    return Path(shutil.copytree(directory("t5", False), tmp_path / "own"))


def reference(path: Path) -> Any:
    return transformers.AutoModelForSeq2SeqLM.from_pretrained(path, attn_implementation="eager").eval()


@pytest.mark.parametrize("is_merged", [True, False])
@pytest.mark.parametrize("name", ENCODER_DECODERS)
def test_tokens_are_those_of_generate_alone_and_in_company(name: str, is_merged: bool, directory) -> None:
    path = directory(name, is_merged)
    generator, model = loaded(path), reference(path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    begin = 2 if name == "bart" else 1
    wanted = [expected(model, tokenizer, text, count, begin) for text, count in zip(TEXTS, COUNTS, strict=True)]
    for text, count, tokens in zip(TEXTS, COUNTS, wanted, strict=True):
        assert generator.codec.encode(text) == tokenizer(text).input_ids
        assert greedy(generator, [begun(generator, text, count)]) == [tokens]
        assert greedy(generator, [begun(generator, text, count)], prefill=1) == [tokens]
    company = [
        begun(generator, text, count, joins_at, slot)
        for slot, (text, count, joins_at) in enumerate(zip(TEXTS, COUNTS, (3, 0, 5, 7), strict=True))
    ]
    assert greedy(generator, company) == wanted
    assert generator.trim(0, 10) == 0


@pytest.mark.parametrize("is_merged", [True, False])
@pytest.mark.parametrize("name", ENCODER_DECODERS)
def test_scores_are_those_of_the_model(name: str, is_merged: bool, directory) -> None:
    """Of tokens that it would not write itself, so that each step differs from the one before."""
    path = directory(name, is_merged)
    generator, model = loaded(path), reference(path)
    prompt = generator.codec.encode(TEXTS[1])
    written = [*generator.begin(0, prompt), *range(20, 40, 3)]
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([prompt]), decoder_input_ids=torch.tensor([written])).logits[0]
    for at, token in enumerate(written):
        (row,) = generator.step([Chunk(0, [token], at, True)])
        allowed = np.isfinite(row)  # Marian never writes its padding
        assert allowed.sum() >= len(row) - 1
        np.testing.assert_allclose(row[allowed], logits[at].numpy()[allowed], atol=2e-3)


def test_what_the_models_settings_forbid_is_not_written(directory, tmp_path: Path) -> None:
    path = Path(shutil.copytree(directory("t5"), tmp_path / "m"))
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    free = expected(reference(path), tokenizer, TEXTS[3], 12, 1)
    settings = json.loads((path / "generation_config.json").read_text())
    settings |= {"bad_words_ids": [[free[0]]], "no_repeat_ngram_size": 2}
    (path / "generation_config.json").write_text(json.dumps(settings))
    wanted = expected(reference(path), tokenizer, TEXTS[3], 12, 1)
    generator = loaded(path)
    assert greedy(generator, [begun(generator, TEXTS[3], 12)]) == [wanted]
    assert wanted != free


def test_what_it_says_of_itself(directory, tmp_path: Path) -> None:
    generator = loaded(directory("bart"), Task.SUMMARIZATION, max_sequences=3, max_cached_tokens=400)
    info = generator.info
    assert info.tasks == (Task.SUMMARIZATION, TEXT2TEXT)
    assert (info.runtime, info.device, info.dtype, info.model_type) == (Runtime.ONNXRUNTIME, "cpu", "float32", "bart")
    assert info.has_chat_template is None
    assert (generator.max_sequences, generator.max_cached_tokens) == (3, 400)
    assert info.context_length == 255  # of 256 positions, since two tokens come before the answer
    assert len(greedy(generator, [Sequence_(generator.begin(0, [7] * 255), 255)])[0]) == 255
    assert loaded(directory("t5"), context_length=64).info.context_length == 64


def test_a_task_of_the_models_own_has_its_prefix(own: Path) -> None:
    config = json.loads((own / "config.json").read_text())
    own_words = {"task_specific_params": {"summarization": {"prefix": "summarize: "}}}
    (own / "config.json").write_text(json.dumps({**config, **own_words}))
    codec, plain = loaded(own, Task.SUMMARIZATION).codec, loaded(own).codec
    assert codec.encode("Hi you") == plain.encode("summarize: Hi you") == codec.encode("summarize: Hi you")


def test_a_precision_is_that_of_all_its_graphs(own: Path) -> None:
    folder = own / "onnx"
    for graph in list(folder.iterdir()):
        quantize(graph, folder / f"{graph.stem}_quantized.onnx")
    plain, int8 = loaded(own), loaded(own, file="onnx/decoder_model_quantized.onnx")
    same = loaded(own, file="onnx/encoder_model_quantized.onnx")
    rows = []
    for generator in (plain, int8, same):
        start = generator.begin(0, generator.codec.encode(TEXTS[1]))
        rows.append(generator.step([Chunk(0, start, 0, True)])[0])
    np.testing.assert_array_equal(rows[1], rows[2])
    assert 0.9 < np.corrcoef(rows[0], rows[1])[0, 1] < 1 - 1e-7
    (folder / "encoder_model_quantized.onnx").unlink()
    with pytest.raises(LoadFailed, match="of the same precision"):
        loaded(own, file="onnx/decoder_model_quantized.onnx")


def test_float16_agrees_to_its_precision(directory, tmp_path: Path) -> None:
    path = write_decoder(tmp_path, "bart")
    write_halves(path / "onnx", reference(path).half(), is_merged=False)
    half, full = loaded(path), loaded(directory("bart"))
    assert half.info.dtype == "float16"
    for at, tokens in enumerate(([2, 0], [30], [40])):
        rows = []
        for generator in (half, full):
            if not at:
                generator.begin(0, generator.codec.encode(TEXTS[0]))
            rows.append(generator.step([Chunk(0, tokens, at + bool(at), True)])[0])
        assert np.abs(rows[0] - rows[1]).max() < 0.02 * np.abs(rows[1]).max()


def test_a_pass_that_fails_leaves_every_slot_as_it_was(directory, monkeypatch) -> None:
    generator = loaded(directory("t5"))
    first, second = begun(generator, TEXTS[0], 6), begun(generator, TEXTS[1], 6, slot=1)
    wanted = greedy(generator, [begun(generator, TEXTS[0], 6), begun(generator, TEXTS[1], 6, slot=1)])
    for slot in (0, 1):
        generator.begin(slot, generator.codec.encode(TEXTS[slot]))
    run, left = onnxruntime_halves.Graph.run, [1]

    def fail_second(graph, feed, outputs):
        if not left:
            raise RuntimeError("Failed to allocate memory for requested buffer of size 1")
        left.pop()
        return run(graph, feed, outputs)

    monkeypatch.setattr(onnxruntime_halves.Graph, "run", fail_second)
    with pytest.raises(InsufficientMemory, match="org/tiny was writing 2 answers"):
        generator.step([Chunk(0, first.prompt, 0, True), Chunk(1, second.prompt, 0, True)])
    monkeypatch.undo()
    assert greedy(generator, [first, second]) == wanted


@pytest.mark.parametrize("graph", ["encoder_model", "decoder_model", "decoder_with_past_model"])
def test_inputs_that_are_not_known_are_named(graph: str, own: Path) -> None:
    path = own / "onnx" / f"{graph}.onnx"
    model = onnx.load(path)
    model.graph.input.append(helper.make_tensor_value_info("labels", TensorProto.INT64, ["n"]))
    onnx.save(model, path)
    with pytest.raises(LoadFailed, match=rf"{graph}\.onnx of org/tiny takes labels, so it cannot be run"):
        loaded(own)


def test_a_decoder_that_cannot_go_on_is_refused(own: Path) -> None:
    folder = own / "onnx"
    model = onnx.load(folder / "decoder_model.onnx")
    kept = [each for each in model.graph.output if each.name != "present.1.encoder.key"]
    del model.graph.output[:]
    model.graph.output.extend(kept)
    onnx.save(model, folder / "decoder_model.onnx")
    with pytest.raises(LoadFailed, match=r"does not give 1\.encoder\.key"):
        loaded(own)
    (folder / "decoder_with_past_model.onnx").rename(folder / "decoder_model_merged.onnx")  # and it is no such thing
    with pytest.raises(LoadFailed, match=r"does not give|each token would cost"):
        loaded(own)
    (folder / "decoder_model_merged.onnx").unlink()
    with pytest.raises(LoadFailed, match="of the same precision"):
        loaded(own)


def test_weights_that_are_not_numbers_are_told(own: Path) -> None:
    path = own / "onnx" / "decoder_with_past_model.onnx"
    model = onnx.load(path)
    largest = max(model.graph.initializer, key=lambda each: len(each.raw_data))
    array = np.full_like(numpy_helper.to_array(largest), np.nan)
    largest.CopyFrom(numpy_helper.from_array(array, largest.name))
    onnx.save(model, path)
    with pytest.raises(CorruptModel, match="org/tiny computes NaN"):
        loaded(own)


def test_a_damaged_graph_is_told(own: Path) -> None:
    (own / "onnx" / "encoder_model.onnx").write_bytes(b"not a graph")
    with pytest.raises(CorruptModel, match="damaged"):
        loaded(own)


async def test_it_comes_from_the_hub_and_translates_in_a_process_of_its_own(
    directory, tmp_path: Path, settings
) -> None:
    repository = tmp_path / "hub" / "org" / "tiny"
    shutil.copytree(directory("marian", False), repository)
    (repository / "model.safetensors").unlink()
    write_data(repository / "onnx" / "decoder_model.onnx", "decoder_model.onnx_data")
    with FakeHub(tmp_path / "hub") as fake:
        hub = Hub(
            models_dir=tmp_path / "none",
            starter_dir=tmp_path / "none",
            endpoint=fake.endpoint,
            cache_dir=tmp_path / "cache",
        )
        inspection = await hub.inspect(ModelSpec("tiny", "org/tiny"))
        path = await hub.fetch(inspection, lambda progress: None)
    assert (inspection.runtime, inspection.tasks[0]) == (Runtime.ONNXRUNTIME, Task.TRANSLATION)
    assert {each.name for each in (path / "onnx").iterdir()} == {
        *("encoder_model.onnx", "decoder_model.onnx", "decoder_model.onnx_data", "decoder_with_past_model.onnx")
    }
    core = Core(settings.model_copy(update={"models_dir": path.parent}), Launcher())
    await core.start()
    try:
        await (await core.load(ModelSpec("tiny", str(path)), admin=True)).done
        reply = await core.predict("tiny", [TEXTS[0], TEXTS[2]], {"max_new_tokens": 6})
    finally:
        await core.stop()
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory("marian", False))
    model = reference(directory("marian", False))
    model.generation_config.forced_eos_token_id = None  # an answer that is cut ends where it is
    for text, [answer] in zip((TEXTS[0], TEXTS[2]), reply.outputs, strict=True):
        written = model.generate(**tokenizer(text, return_tensors="pt"), do_sample=False, num_beams=1, max_new_tokens=6)
        said = tokenizer.decode(written[0], skip_special_tokens=True, clean_up_tokenization_spaces=False)
        assert answer["generated_text"].strip() == said.strip()
