"""Decoders as ONNX graphs, held against plain transformers."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import transformers
from onnx import TensorProto, helper, numpy_helper

from core.core import Core
from core.errors import CorruptModel, InsufficientMemory, LoadFailed
from core.fleet.launcher import Launcher
from core.hub import Hub
from core.types import ModelSpec, Prompt, Runtime, Sampling, Task
from core.worker.generation.base import Chunk
from core.worker.runtimes import onnxruntime_decoder
from tests.core.worker.conftest import open_model
from tests.fakes.decoders import CHAT_TEMPLATE, POSITIONS
from tests.fakes.hub import FakeHub
from tests.fakes.onnx_decoders import (
    four_bits,
    from_four_bits,
    merge,
    quantize,
    write_data,
    write_fused,
    write_graph,
    write_onnx_decoder,
)

PROMPTS = [list(range(20, 31)), [100, 7, 8], list(range(200, 235)), [40]]
NEW = 24  # tokens of an answer


def open_decoder(path: Path, **options: Any) -> Any:
    return open_model(
        path, Task.TEXT_GENERATION, runtime=Runtime.ONNXRUNTIME, **{"threads": 1, "max_sequences": 4, **options}
    )


@pytest.fixture(scope="session")
def export_dir(tmp_path_factory):
    """`export_dir(architecture, kind)`: a directory with `onnx/model.onnx` of that kind. Read only."""
    made: dict[tuple[str, str], Path] = {}

    def get(architecture: str = "llama", kind: str = "plain") -> Path:
        if (architecture, kind) not in made:
            path = tmp_path_factory.mktemp("export") / kind
            if kind == "plain":
                write_onnx_decoder(path, architecture)
            else:
                shutil.copytree(get(architecture), path)
                _remake(path / "onnx" / "model.onnx", kind, reference(path))
            made[architecture, kind] = path
        return made[architecture, kind]

    return get


def reference(path: Path) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(path, attn_implementation="eager").eval()


def greedy(model: Any, prompt: Sequence[int]) -> list[int]:
    ids = torch.tensor([list(prompt)])
    options = {"do_sample": False, "max_new_tokens": NEW, "eos_token_id": None, "pad_token_id": 0}
    made = model.generate(ids, attention_mask=torch.ones_like(ids), **options)
    return made[0, len(prompt) :].tolist()


def _remake(graph: Path, kind: str, model: Any) -> None:
    apart = graph.with_name("apart.onnx")
    match kind:
        case "no positions":
            write_graph(graph, model, positions=False)
        case "float16":
            write_graph(graph, model, dtype=torch.float16)
        case "external data":
            write_data(graph, "model.onnx_data")
        case "int8":
            quantize(graph, apart)
            apart.rename(graph)
        case "fused":
            write_fused(graph, model)
        case "merged":
            merge(graph, graph, graph)
        case "merged, one by one":
            write_graph(apart, model, causal=False)
            merge(graph, apart, graph)


@pytest.fixture(scope="session")
def answer(export_dir):
    """`answer(architecture, prompt)`: the next NEW tokens by `generate` of transformers."""
    models: dict[str, Any] = {}

    def get(architecture: str, prompt: Sequence[int]) -> list[int]:
        if architecture not in models:
            models[architecture] = reference(export_dir(architecture))
        return greedy(models[architecture], prompt)

    return get


def write_on(runtime: Any, slot: int, tokens: Sequence[int], start: int = 0, count: int = NEW) -> list[int]:
    """The likeliest tokens after `tokens`, which are read first."""
    answer: list[int] = []
    unread = list(tokens)
    while len(answer) < count:
        (scores,) = runtime.step([Chunk(slot, unread, start, True)])
        assert scores.dtype == np.float32
        start += len(unread)
        unread = [int(scores.argmax())]
        answer += unread
    return answer


def in_company(runtime: Any, prompts: Sequence[Sequence[int]], chunk: int) -> list[list[int]]:
    """Answers to `prompts`, a new one in each second step, prompts read by `chunk` tokens."""
    held = [0] * len(prompts)
    texts = [list(prompt) for prompt in prompts]
    for step in range(10_000):
        chunks = []
        for slot in range(min(len(prompts), 1 + step // 2)):
            unread = texts[slot][held[slot] :]
            if len(texts[slot]) < len(prompts[slot]) + NEW:
                chunks.append(Chunk(slot, unread[:chunk], held[slot], len(unread) <= chunk))
        if not chunks:
            break
        for each, scores in zip(chunks, runtime.step(chunks), strict=True):
            assert (scores is not None) == each.wants_logits
            held[each.slot] += len(each.tokens)
            if scores is not None:
                texts[each.slot].append(int(scores.argmax()))
    return [text[len(prompt) :] for text, prompt in zip(texts, prompts, strict=True)]


KINDS = ["plain", "no positions", "external data", "merged", "merged, one by one", "fused"]


@pytest.mark.parametrize(
    ("architecture", "kind"),
    [*(("llama", kind) for kind in KINDS), ("gpt2", "plain"), ("gpt2", "no positions"), ("gpt2", "merged")],
)
def test_answers_are_those_of_transformers(architecture, kind, export_dir, answer):
    runtime = open_decoder(export_dir(architecture, kind))
    expected = [answer(architecture, prompt) for prompt in PROMPTS]
    assert [write_on(runtime, slot, prompt) for slot, prompt in enumerate(PROMPTS)] == expected
    for slot in range(4):
        assert runtime.trim(slot, 0) == 0
    assert in_company(runtime, PROMPTS, 5) == expected
    assert [runtime.length(slot) for slot in range(4)] == [len(prompt) + NEW - 1 for prompt in PROMPTS]


@pytest.fixture
def passes(monkeypatch):
    """`passes(runtime)`: a list that grows by the rows of each pass."""

    def watch(runtime):
        rows = []
        run = runtime._run
        monkeypatch.setattr(
            runtime, "_run", lambda feed, values: (rows.append(len(feed["input_ids"])), run(feed, values))[1]
        )
        return rows

    return watch


@pytest.mark.parametrize("kind", ["plain", "merged", "float16", "no positions", "int8", "fused"])
def test_tokens_go_together_where_the_graph_says_the_same_then(kind, export_dir, passes):
    runtime = open_decoder(export_dir("llama", kind))
    for slot, length in enumerate((200, 2, 18, 21)):
        runtime.step([Chunk(slot, range(50, 50 + length), 0, False)])
    rows = passes(runtime)
    runtime.step([Chunk(slot, [5], runtime.length(slot), True) for slot in range(4)])
    # two tokens beside two hundred would mostly be padding
    assert sorted(rows) == ([1] * 4 if kind in ("no positions", "int8") else [1, 3])


def test_what_goes_on_together_stays_where_it_is(export_dir, monkeypatch):
    runtime = open_decoder(export_dir())
    for slot in range(3):
        runtime.step([Chunk(slot, range(50, 60 + slot), 0, False)])
    copied = []
    gather = onnxruntime_decoder.gathered
    monkeypatch.setattr(
        onnxruntime_decoder, "gathered", lambda group, *more: (copied.append(len(group)), gather(group, *more))[1]
    )
    for _ in range(3):
        runtime.step([Chunk(slot, [5], runtime.length(slot), True) for slot in (2, 0, 1)])
    assert copied == [3]
    runtime.step([Chunk(slot, [5], runtime.length(slot), True) for slot in (2, 0)])
    assert copied == [3, 2, 1]  # the two that go on, and the one that stays behind
    runtime.step([Chunk(1, [5], runtime.length(1), True)])
    assert copied == [3, 2, 1]


@pytest.mark.parametrize("kind", ["plain", "no positions", "merged, one by one", "fused"])
def test_a_slot_goes_on_from_its_beginning(kind, export_dir, answer):
    runtime = open_decoder(export_dir("llama", kind))
    first, other = PROMPTS[0], PROMPTS[0][:6] + [9, 10, 11]
    in_company(runtime, PROMPTS, 64)  # slots share a cache now
    assert runtime.trim(0, 6) == 6
    assert write_on(runtime, 0, other[6:], 6) == answer("llama", other)
    assert runtime.trim(0, 5) == 5
    assert runtime.trim(0, 900) == 5
    assert write_on(runtime, 0, first[5:], 5) == answer("llama", first)
    assert runtime.trim(2, len(PROMPTS[2])) == len(PROMPTS[2])
    assert runtime.trim(0, 0) == 0
    assert write_on(runtime, 0, other) == answer("llama", other)
    assert runtime.trim(3, 0) == 0
    assert runtime.trim(3, 4) == 0


@pytest.mark.parametrize(("kind", "copies"), [("plain", [3]), ("fused", [])])
def test_slots_that_forget_go_on_in_company(kind, copies, export_dir, answer, monkeypatch):
    """Rows that were cut end in different columns; what is behind them makes no difference."""
    runtime = open_decoder(export_dir("llama", kind))
    in_company(runtime, PROMPTS[:3], 64)
    runtime.step([Chunk(slot, [5], runtime.length(slot), False) for slot in range(3)])  # side by side now
    texts = [prompt[:length] for prompt, length in zip(PROMPTS, (7, 2, 35), strict=False)]
    held = [runtime.trim(slot, len(text) - 1) for slot, text in enumerate(texts)]
    assert held == [6, 1, 34]
    copied = []
    gather = onnxruntime_decoder.gathered
    monkeypatch.setattr(
        onnxruntime_decoder, "gathered", lambda group, *more: (copied.append(len(group)), gather(group, *more))[1]
    )
    written: list[list[int]] = [[], [], []]
    unread = [text[-1] for text in texts]
    for step in range(NEW):
        chunks = [Chunk(slot, [unread[slot]], held[slot] + step, True) for slot in range(3)]
        for slot, scores in enumerate(runtime.step(chunks)):
            unread[slot] = int(scores.argmax())
            written[slot].append(unread[slot])
    assert written == [answer("llama", text) for text in texts]
    assert copied == copies


def test_int8_says_what_its_graph_says(export_dir):
    """Held against the graph itself, run from numpy arrays."""
    path = export_dir("llama", "int8")
    session = onnxruntime.InferenceSession(str(path / "onnx" / "model.onnx"), providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs() if each.name.startswith("past")]

    def answer_of(prompt):
        text, unread, pasts = list(prompt), list(prompt), [np.zeros((1, 2, 0, 16), np.float32)] * len(names)
        while len(text) < len(prompt) + NEW:
            ids = np.array([unread])
            start = len(text) - len(unread)
            feed = {
                "attention_mask": np.ones((1, len(text)), np.int64),
                "position_ids": np.arange(start, len(text))[None],
            }
            logits, *pasts = session.run(None, {"input_ids": ids, **feed, **dict(zip(names, pasts, strict=True))})
            unread = [int(logits[0, -1].argmax())]
            text += unread
        return text[len(prompt) :]

    runtime = open_decoder(path)
    assert in_company(runtime, PROMPTS, 64) == [answer_of(prompt) for prompt in PROMPTS]


def test_four_bits_say_what_their_weights_say(own):
    model = reference(own)
    write_fused(own / "onnx" / "model_q4.onnx", model, q4=True)
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if "_proj" in name:
                weights.copy_(torch.from_numpy(from_four_bits(*four_bits(weights.numpy()))))
    runtime = open_decoder(own, file="onnx/model_q4.onnx")
    assert in_company(runtime, PROMPTS, 5) == [greedy(model, prompt) for prompt in PROMPTS]


def test_a_graph_that_gives_the_last_logits_alone(own, answer):
    def keep_last(graph):
        next(node for node in graph.node if "logits" in node.output).output[0] = "all"
        graph.input.append(helper.make_tensor_value_info("num_logits_to_keep", TensorProto.INT64, []))
        for name, value in (("end", 2**62), ("one", 1)):
            graph.initializer.append(helper.make_tensor(name, TensorProto.INT64, [1], [value]))
        graph.node.append(helper.make_node("Neg", ["num_logits_to_keep"], ["before_end"]))
        graph.node.append(helper.make_node("Reshape", ["before_end", "one"], ["begin"]))
        graph.node.append(helper.make_node("Slice", ["all", "begin", "end", "one"], ["logits"]))

    rewrite(own, keep_last)
    assert in_company(open_decoder(own), PROMPTS, 5) == [answer("llama", prompt) for prompt in PROMPTS]


def test_float16_agrees_to_its_precision(export_dir):
    runtime = open_decoder(export_dir("llama", "float16"))
    model = reference(export_dir("llama"))
    with torch.no_grad():
        expected = model(torch.tensor([PROMPTS[2]])).logits[0, -1].numpy()
    (scores,) = runtime.step([Chunk(0, PROMPTS[2], 0, True)])
    assert runtime.info.dtype == "float16"
    np.testing.assert_allclose(scores, expected, atol=0.02 * np.abs(expected).max())


def test_what_a_model_says_of_itself(export_dir, tmp_path):
    path = tmp_path / "model"
    shutil.copytree(export_dir("llama"), path)
    (path / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    (path / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 6]}))
    runtime = open_decoder(path, context_length=100, max_cached_tokens=150)
    assert runtime.info.tasks == (Task.TEXT_GENERATION,)
    assert (runtime.info.runtime, runtime.info.device, runtime.info.dtype) == (Runtime.ONNXRUNTIME, "cpu", "float32")
    assert (runtime.info.context_length, runtime.max_cached_tokens, runtime.max_sequences) == (100, 150, 4)
    assert runtime.info.has_chat_template is True
    assert runtime.codec.eos_ids == {2, 6}
    assert runtime.codec.render([{"role": "user", "content": "a"}]).endswith("<|im_start|>assistant\n")
    assert open_decoder(export_dir("gpt2")).info.context_length == POSITIONS


def test_a_step_that_fails_changes_nothing(export_dir, answer, monkeypatch):
    runtime = open_decoder(export_dir())
    prompts = PROMPTS[:3]
    for slot, prompt in enumerate(prompts):
        runtime.step([Chunk(slot, prompt[:-1], 0, False)])
    run, left = runtime._run, [1]

    def fail_second(feed, values):
        if not left:
            raise RuntimeError("Failed to allocate memory for requested buffer of size 1")
        left.pop()
        return run(feed, values)

    monkeypatch.setattr(runtime, "_run", fail_second)
    chunks = [Chunk(slot, prompt[-1:], len(prompt) - 1, True) for slot, prompt in enumerate(prompts)]
    with pytest.raises(InsufficientMemory, match="org/tiny was reading 4 tokens of 4 answers"):
        runtime.step([*chunks, Chunk(3, [5], 0, True)])
    monkeypatch.undo()
    assert [runtime.length(slot) for slot in range(4)] == [10, 2, 34, 0]
    for slot, prompt in enumerate(prompts):
        assert write_on(runtime, slot, prompt[-1:], len(prompt) - 1) == answer("llama", prompt)


def test_a_chunk_in_the_wrong_place_is_a_bug(export_dir):
    with pytest.raises(ValueError, match="slot 2 holds 0 tokens, not 3"):
        open_decoder(export_dir()).step([Chunk(2, [5], 3, True)])


async def test_it_runs_as_it_comes_from_the_hub(export_dir, tmp_path, answer):
    """Its files are links into the Hub's cache then, the external data too."""
    repository = tmp_path / "hub" / "org" / "tiny"
    shutil.copytree(export_dir("llama", "external data"), repository)
    (repository / "model.safetensors").unlink()
    with FakeHub(tmp_path / "hub") as fake:
        hub = Hub(
            models_dir=tmp_path / "none",
            starter_dir=tmp_path / "none",
            endpoint=fake.endpoint,
            cache_dir=tmp_path / "cache",
        )
        inspection = await hub.inspect(ModelSpec("tiny", "org/tiny"))
        path = await hub.fetch(inspection, lambda progress: None)
    assert (inspection.runtime, inspection.tasks) == (Runtime.ONNXRUNTIME, (Task.TEXT_GENERATION,))
    assert (path / "onnx" / "model.onnx_data").is_symlink()
    assert not (path / "model.safetensors").exists()
    runtime = open_decoder(path, file=inspection.spec.file)
    assert write_on(runtime, 0, PROMPTS[0]) == answer("llama", PROMPTS[0])


async def test_it_writes_in_a_process_of_its_own(export_dir, settings, answer):
    core = Core(settings.model_copy(update={"models_dir": export_dir("llama").parent}), Launcher())
    await core.start()
    try:
        await (await core.load(ModelSpec("tiny", "plain", runtime=Runtime.ONNXRUNTIME), admin=True)).done
        sampling = Sampling(temperature=0, max_tokens=NEW, ignore_eos=True)
        asked = (core.complete(Prompt(ids=tuple(prompt)), sampling, "tiny") for prompt in PROMPTS)
        completions = await asyncio.gather(*asked)
    finally:
        await core.stop()
    codec = transformers.AutoTokenizer.from_pretrained(export_dir("llama"))
    for prompt, completion in zip(PROMPTS, completions, strict=True):
        text = codec.decode(answer("llama", prompt), skip_special_tokens=True)
        assert completion.texts[0].strip() == text.strip()
        assert completion.generated.usage.completion_tokens == NEW


@pytest.fixture
def own(export_dir, tmp_path):
    """A model's directory of this test alone, to be broken."""
    shutil.copytree(export_dir("llama"), tmp_path / "own")
    return tmp_path / "own"


def rewrite(path: Path, change) -> None:
    """The graph under `path`, changed by `change(graph)`."""
    model = onnx.load(path / "onnx" / "model.onnx")
    change(model.graph)
    onnx.save(model, path / "onnx" / "model.onnx")


def drop(values, *beginnings):
    for value in [each for each in values if each.name.startswith(beginnings)]:
        values.remove(value)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("seqlens_k", "takes seqlens_k, which cannot be given"),
        ("encoder_hidden_states", "takes encoder_hidden_states, which cannot be given"),
        ("past_conv.0", r"takes past_conv\.0, which cannot be given"),
    ],
)
def test_inputs_that_are_not_known_are_named(name, said, own):
    rewrite(own, lambda graph: graph.input.append(helper.make_tensor_value_info(name, TensorProto.INT32, ["n"])))
    with pytest.raises(LoadFailed, match=said):
        open_decoder(own)


def test_a_graph_without_past_is_refused(own):
    def forget(graph):
        for value in [each for each in graph.input if each.name.startswith("past")]:
            graph.initializer.append(numpy_helper.from_array(np.zeros((1, 2, 0, 16), np.float32), value.name))
            graph.input.remove(value)
        drop(graph.output, "present")

    rewrite(own, forget)
    with pytest.raises(LoadFailed, match="takes input_ids, attention_mask, position_ids and no past_key_values"):
        open_decoder(own)


def test_a_graph_that_gives_no_logits_or_no_past_is_refused(own, export_dir):
    rewrite(own, lambda graph: drop(graph.output, "present.1.value"))
    with pytest.raises(LoadFailed, match=r"takes past_key_values\.1\.value and gives no present\.1\.value"):
        open_decoder(own)
    rewrite(own, lambda graph: drop(graph.output, "logits"))
    with pytest.raises(LoadFailed, match="and no logits"):
        open_decoder(own)


def test_weights_that_are_not_numbers_are_told(own):
    def spoil(graph):
        largest = max(graph.initializer, key=lambda each: len(each.raw_data))
        array = np.full_like(numpy_helper.to_array(largest), np.nan)
        largest.CopyFrom(numpy_helper.from_array(array, largest.name))

    rewrite(own, spoil)
    with pytest.raises(CorruptModel, match="org/tiny computes NaN"):
        open_decoder(own)


def test_a_tokenizer_of_another_model_is_told(own):
    config = json.loads((own / "config.json").read_text())
    (own / "config.json").write_text(json.dumps({**config, "vocab_size": 100_000}))
    tokenizer = json.loads((own / "tokenizer.json").read_text())
    tokenizer["added_tokens"].append({**tokenizer["added_tokens"][-1], "id": 9_000, "content": "</end>"})
    (own / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(CorruptModel, match="do not belong together"):
        open_decoder(own)


@pytest.mark.parametrize("place", ["../outside", "link"])
def test_tensors_outside_the_directory_are_refused(place, own, tmp_path):
    write_data(own / "onnx" / "model.onnx", "inside")
    outside = tmp_path / "outside"
    shutil.move(own / "onnx" / "inside", outside)
    if place == "link":
        os.symlink(outside, own / "onnx" / "inside")
    else:
        shutil.copy(outside, own / "outside")

        def lead_out(graph):
            for tensor in graph.initializer:
                for entry in tensor.external_data:
                    if entry.key == "location":
                        entry.value = place

        model = onnx.load(own / "onnx" / "model.onnx", load_external_data=False)
        lead_out(model.graph)
        (own / "onnx" / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises((LoadFailed, CorruptModel)) as raised:
        open_decoder(own)
    assert str(tmp_path) not in raised.value.message


def test_a_damaged_graph_is_told(own):
    (own / "onnx" / "model.onnx").write_bytes(b"not a graph")
    with pytest.raises(CorruptModel, match="damaged"):
        open_decoder(own)
