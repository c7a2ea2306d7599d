"""Causal models of transformers: greedy tokens are those of `generate`, alone and in company."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from core.types import Quantization, Runtime, Task
from core.worker.generation.base import Chunk
from core.worker.runtimes.base import LoadRequest
from core.worker.runtimes.transformers_decoder import TransformersDecoder, load
from core.worker.runtimes.transformers_one_by_one import OneByOne
from core.worker.runtimes.transformers_together import Together, of_like_length
from tests.core.worker.runtimes.writing import NOISE, Sequence_, greedy, reference, ties
from tests.fakes.decoders import CHAT_TEMPLATE, DECODERS, write_decoder

PROMPTS = [[7 + (3 * index * (row + 2)) % 400 for index in range(length)] for row, length in enumerate((9, 31, 2, 17))]
COUNTS = (25, 12, 20, 9)


def request(path: Path, **more: Any) -> LoadRequest:
    return LoadRequest(str(path), Runtime.TRANSFORMERS, (Task.TEXT_GENERATION,), threads=1, name="org/model", **more)


def loaded(path: Path, **more: Any) -> TransformersDecoder:
    return load(request(path, **more), lambda stage, data: None)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return functools.cache(lambda name: write_decoder(tmp_path_factory.mktemp(name), name))


@pytest.fixture(scope="module")
def decoder(directory):
    return functools.cache(lambda name: loaded(directory(name)))


@pytest.fixture(scope="module")
def model(directory):
    return functools.cache(lambda name: transformers.AutoModelForCausalLM.from_pretrained(directory(name)).eval())


def fresh(generator: TransformersDecoder) -> TransformersDecoder:
    for slot in range(generator.max_sequences):
        generator.trim(slot, 0)
    return generator


def company() -> list[Sequence_]:
    """Four of different lengths, which come and go at different steps."""
    return [
        Sequence_(prompt, count, joins_at, slot)
        for slot, (prompt, count, joins_at) in enumerate(zip(PROMPTS, COUNTS, (3, 0, 5, 11), strict=True))
    ]


@pytest.mark.parametrize("name", DECODERS)
def test_tokens_are_those_of_generate_alone_and_in_company(name: str, decoder, model) -> None:
    generator, plain = fresh(decoder(name)), model(name)
    assert isinstance(generator._slots, Together)
    expected = [reference(plain, prompt, count) for prompt, count in zip(PROMPTS, COUNTS, strict=True)]
    parted = 0
    for prompt, count, tokens in zip(PROMPTS, COUNTS, expected, strict=True):
        [alone] = greedy(fresh(generator), [Sequence_(prompt, count)])
        parted += ties(plain, prompt, alone, tokens)
    for prefill in (1000, 4):
        together = greedy(fresh(generator), company(), prefill=prefill)
        for prompt, ours, tokens in zip(PROMPTS, together, expected, strict=True):
            parted += ties(plain, prompt, ours, tokens)
    assert parted <= 1


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("bloom", {"n_layer": 2, "n_head": 4}),  # its positions are distances, made from the attention mask
        ("mpt", {"d_model": 64, "n_layers": 2, "n_heads": 4, "max_seq_len": 256}),
        ("opt", {"ffn_dim": 128, "word_embed_proj_dim": 64}),
        ("gemma2", {"head_dim": 16, "sliding_window": 12}),  # every other layer looks back 12 tokens
        ("mixtral", {}),
    ],
)
def test_other_causal_models_of_transformers_write_in_company(name: str, sizes: dict[str, Any], tmp_path: Path) -> None:
    generator = loaded(write_decoder(tmp_path, name, **sizes))
    assert isinstance(generator._slots, Together)
    plain = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    together = greedy(generator, company(), prefill=4)
    parted = [
        ties(plain, prompt, ours, reference(plain, prompt, len(ours)))
        for prompt, ours in zip(PROMPTS, together, strict=True)
    ]
    assert sum(parted) <= 1


@pytest.mark.parametrize("name", DECODERS)
def test_a_slot_that_is_cut_goes_on_as_if_it_were_new(name: str, decoder, model) -> None:
    generator, plain = fresh(decoder(name)), model(name)
    first, other = Sequence_(PROMPTS[1], 10), Sequence_(PROMPTS[0], 14, slot=1)
    greedy(generator, [first, other])
    assert generator.trim(0, 20) == 20  # in the middle of the first prompt
    prompt = [*PROMPTS[1][:20], *PROMPTS[3]]
    second = Sequence_(prompt, 8, read=20)
    more = Sequence_(other.tokens, 5, slot=1, read=other.read)
    for each, ours in zip((second, more), greedy(generator, [second, more]), strict=True):
        assert ties(plain, each.prompt, ours, reference(plain, each.prompt, each.count)) <= 1
    assert generator.trim(0, 0) == 0
    assert generator.trim(5, 10) == 0


@pytest.mark.parametrize("name", ["gpt2", "gpt_neo", "mistral"])
def test_many_come_and_go_within_the_models_positions(name: str, decoder, model) -> None:
    """Rows join longer and shorter than those that are there, until the columns must be moved together."""
    generator, plain = fresh(decoder(name)), model(name)
    rng = np.random.default_rng(5)
    runs = []
    for index in range(24):
        length = int(rng.integers(2, 90))
        runs.append(Sequence_(rng.integers(7, 500, length).tolist(), int(rng.integers(3, 40)), index * 12, index % 8))
    parted = 0
    for part in (runs[:8], runs[8:16], runs[16:]):
        for each in part:
            generator.trim(each.slot, 0)
        greedy(generator, part, prefill=32)
        parted += sum(
            ties(plain, each.prompt, each.written, reference(plain, each.prompt, each.count)) for each in part
        )
    long = Sequence_(rng.integers(7, 500, 200).tolist(), 56)  # up to the last position
    greedy(fresh(generator), [long, Sequence_(PROMPTS[2], 8, slot=1)])
    parted += ties(plain, long.prompt, long.written, reference(plain, long.prompt, long.count))
    assert parted <= 1


@pytest.mark.parametrize("name", ["gpt2", "llama"])
@pytest.mark.parametrize("quantization", list(Quantization))
def test_quantized_tokens_are_those_of_the_quantized_model(name: str, quantization: Quantization, directory) -> None:
    generator = loaded(directory(name), quantization=quantization)
    plain = generator._slots._forward._model
    expected = [reference(plain, prompt, count) for prompt, count in zip(PROMPTS, COUNTS, strict=True)]
    # LLM.int8() takes the columns with outliers out of the whole batch: what a row gives depends on its company
    noise = 0.1 if quantization is Quantization.INT8 else NOISE
    together = greedy(generator, company(), prefill=8)
    parted = 0
    for prompt, ours, tokens in zip(PROMPTS, together, expected, strict=True):
        parted += ties(plain, prompt, ours, tokens, noise)
        [alone] = greedy(fresh(generator), [Sequence_(prompt, len(tokens))])
        parted += ties(plain, prompt, alone, tokens)
    assert parted <= 2


def test_what_it_says_of_itself(directory, tmp_path: Path) -> None:
    generator = loaded(directory("llama"), context_length=100, max_sequences=3)
    assert generator.info.tasks == (Task.TEXT_GENERATION,)
    assert generator.info.context_length == 100
    assert generator.info.max_sequences == generator.max_sequences == 3
    assert generator.info.has_chat_template is False
    assert generator.max_cached_tokens == 300
    path = write_decoder(tmp_path, "gpt2", chat_template=CHAT_TEMPLATE)
    generator = loaded(path, context_length=9999)
    assert generator.info.context_length == 256
    assert generator.info.has_chat_template is True
    assert generator.codec.eos_ids == {2}


def test_a_pass_that_fails_leaves_every_slot_as_it_was(decoder, model, monkeypatch) -> None:
    generator, plain = fresh(decoder("llama")), model("llama")
    first = Sequence_(PROMPTS[0], 6)
    greedy(generator, [first])
    inner = generator._slots._forward._model
    layer = inner.model.layers[1].mlp
    last = Chunk(0, first.tokens[-1:], first.read, True)
    with monkeypatch.context() as patched:
        patched.setattr(layer, "forward", lambda hidden: (_ for _ in ()).throw(RuntimeError("no")))
        with pytest.raises(RuntimeError, match="no"):
            generator.step([last, Chunk(1, PROMPTS[1], 0, True)])
    both = generator.step([last, Chunk(1, PROMPTS[1], 0, True)])
    with torch.inference_mode():
        for scores, tokens in zip(both, (first.tokens, PROMPTS[1]), strict=True):
            assert scores is not None
            np.testing.assert_allclose(scores, plain(torch.tensor([tokens])).logits[0, -1], atol=1e-3)


@pytest.mark.parametrize("name", ["mamba", "openai-gpt"])
def test_models_with_a_state_of_another_kind_write_one_after_the_other(name: str, tmp_path: Path) -> None:
    sizes = {
        "mamba": {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 8},
        "openai-gpt": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64},
    }
    path = write_decoder(tmp_path, name, **sizes[name])
    generator = loaded(path)
    assert isinstance(generator._slots, OneByOne)
    plain = transformers.AutoModelForCausalLM.from_pretrained(path).eval()
    for prompt, ours in zip(PROMPTS, greedy(generator, company(), prefill=4), strict=True):
        tokens = list(prompt)
        with torch.inference_mode():
            for token in ours:  # without any cache
                scores = plain(torch.tensor([tokens])).logits[0, -1]
                assert float(scores.max() - scores[token]) < 1e-3
                tokens.append(token)
    assert generator.trim(0, 5) == 0


def test_prompts_of_like_length_begin_together():
    lengths = (3, 60, 18, 45, 5, 2)
    chunks = [Chunk(slot, [1] * length, 0, True) for slot, length in enumerate(lengths)]
    groups = [[len(chunk.tokens) for chunk in group] for group in of_like_length(chunks)]
    assert groups == [[60, 45], [18, 5, 3], [2]]
    assert of_like_length([]) == []
