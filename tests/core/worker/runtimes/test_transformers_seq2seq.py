"""Encoder-decoders of transformers: greedy tokens are those of `generate`, and prompts are read as it reads them."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from core.errors import LoadFailed
from core.types import Quantization, Runtime, Task
from core.worker.generation.base import Chunk
from core.worker.runtimes.base import LoadRequest
from core.worker.runtimes.transformers_seq2seq import TransformersSeq2Seq, load
from tests.core.worker.runtimes.writing import Sequence_, begun, expected, greedy
from tests.fakes.decoders import ENCODER_DECODERS, write_decoder

TEXTS = (
    "김민수는 서울에서 일한다.",
    "The quick brown fox jumps over the lazy dog. " * 4,
    "Hi",
    "영화가 정말 재미있었고",
)
COUNTS = (14, 9, 20, 5)

pytestmark = pytest.mark.filterwarnings("ignore:.*sacremoses:UserWarning")


def loaded(path: Path, task: Task = Task.TEXT2TEXT_GENERATION, **more: Any) -> TransformersSeq2Seq:
    tasks = tuple(dict.fromkeys((task, Task.TEXT2TEXT_GENERATION)))
    request = LoadRequest(str(path), Runtime.TRANSFORMERS, tasks, threads=1, name="org/model", **more)
    return load(request, lambda stage, data: None)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return functools.cache(lambda name: write_decoder(tmp_path_factory.mktemp(name), name))


@pytest.mark.parametrize("name", ENCODER_DECODERS)
def test_tokens_are_those_of_generate_alone_and_in_company(name: str, directory) -> None:
    generator = loaded(directory(name))
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory(name))
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(directory(name)).eval()
    begin = 2 if name == "bart" else 1
    wanted = [expected(model, tokenizer, text, count, begin) for text, count in zip(TEXTS, COUNTS, strict=True)]
    assert len({tuple(each) for each in wanted}) == len(wanted)  # the prompt does matter
    for text, count, tokens in zip(TEXTS, COUNTS, wanted, strict=True):
        assert generator.codec.encode(text) == tokenizer(text).input_ids
        assert greedy(generator, [begun(generator, text, count)]) == [tokens]
    company = [
        begun(generator, text, count, joins_at, slot)
        for slot, (text, count, joins_at) in enumerate(zip(TEXTS, COUNTS, (3, 0, 5, 7), strict=True))
    ]
    assert greedy(generator, company) == wanted
    text = "".join(map((stream := generator.codec.stream()).push, wanted[0])) + stream.flush()
    assert text == tokenizer.decode(wanted[0], skip_special_tokens=True, clean_up_tokenization_spaces=False)
    assert generator.trim(0, 10) == 0


@pytest.mark.parametrize("quantization", list(Quantization))
@pytest.mark.parametrize("name", ["t5", "bart"])
def test_quantized_tokens_are_those_of_the_quantized_model(name: str, quantization: Quantization, directory) -> None:
    generator = loaded(directory(name), quantization=quantization)
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory(name))
    wanted = expected(generator._model, tokenizer, TEXTS[0], 10, 2 if name == "bart" else 1)
    assert greedy(generator, [begun(generator, TEXTS[0], 10)]) == [wanted]


def test_what_the_models_settings_forbid_is_not_written(directory, tmp_path: Path) -> None:
    path = write_decoder(tmp_path, "marian")
    settings = json.loads((path / "generation_config.json").read_text())
    plain = loaded(directory("marian"))
    first = begun(plain, TEXTS[0], 12)
    [free] = greedy(plain, [first])
    settings |= {"bad_words_ids": [[free[0]], free[3:5]], "no_repeat_ngram_size": 2, "min_length": 8}
    (path / "generation_config.json").write_text(json.dumps(settings))
    generator = loaded(path)
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(path).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    inputs = tokenizer(TEXTS[0], return_tensors="pt")
    model.generation_config.forced_eos_token_id = None
    wanted = model.generate(**inputs, do_sample=False, num_beams=1, max_new_tokens=12)[0, 1:].tolist()
    sequence = begun(generator, TEXTS[0], len(wanted))
    assert greedy(generator, [sequence]) == [wanted]
    assert free[0] not in wanted
    assert len(wanted) >= 7


def test_what_it_says_of_itself(directory) -> None:
    generator = loaded(directory("bart"), Task.SUMMARIZATION, max_sequences=3)
    assert generator.info.tasks == (Task.SUMMARIZATION, Task.TEXT2TEXT_GENERATION)
    assert generator.info.has_chat_template is None
    assert generator.info.context_length == 255  # of 256 positions, since two tokens come before the answer
    longest = Sequence_(generator.begin(0, [7] * 255), 255)
    assert len(greedy(generator, [longest])[0]) == 255
    assert loaded(directory("t5"), context_length=64).info.context_length == 64


def test_a_task_of_the_models_own_has_its_prefix(tmp_path: Path) -> None:
    own = {"summarization": {"prefix": "summarize: "}, "translation_en_to_de": {"prefix": "x"}}
    path = write_decoder(tmp_path, "t5", task_specific_params=own)
    codec, plain = loaded(path, Task.SUMMARIZATION).codec, loaded(path).codec
    assert codec.encode("Hi you") == plain.encode("summarize: Hi you") == codec.encode("summarize: Hi you")
    assert plain.encode("Hi you") != codec.encode("Hi you")
    assert plain.encode_chat("Hi")[-1] == 1


def test_a_pass_that_fails_leaves_every_slot_as_it_was(directory, monkeypatch) -> None:
    generator = loaded(directory("t5"))
    first, second = begun(generator, TEXTS[0], 6), begun(generator, TEXTS[1], 6, slot=1)
    [alone] = greedy(generator, [begun(generator, TEXTS[0], 6)])
    first.tokens, second.tokens = list(first.prompt), list(second.prompt)
    chunks = [Chunk(0, first.prompt, 0, True), Chunk(1, second.prompt, 0, True)]
    generator.begin(0, generator.codec.encode(TEXTS[0]))
    calls = iter([None, RuntimeError("no")])

    def failing(*args: Any) -> None:
        if (error := next(calls)) is not None:
            raise error

    hook = generator._model.lm_head.register_forward_pre_hook(failing)
    with pytest.raises(RuntimeError, match="no"):
        generator.step(chunks)
    hook.remove()
    assert greedy(generator, [Sequence_(first.prompt, 6), Sequence_(second.prompt, 6, slot=1)])[0] == alone


def test_a_causal_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LoadFailed, match="writes no text"):
        loaded(write_decoder(tmp_path, "gpt2"))


def test_torch_keeps_no_gradients(directory) -> None:
    generator = loaded(directory("t5"))
    generator.begin(0, generator.codec.encode("Hi"))
    assert not generator._slots[0].encoded.last_hidden_state.requires_grad
    assert torch.is_inference(generator._slots[0].encoded.last_hidden_state)
