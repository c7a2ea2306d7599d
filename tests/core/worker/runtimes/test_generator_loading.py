"""Loading models that generate: what is refused, what is measured, and what a wrong repository is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from core.errors import CorruptModel, InvalidRequest, LoadFailed, PickleRefused, RemoteCodeRefused
from core.types import Runtime, Task
from core.worker.generation.base import Chunk
from core.worker.runtimes.base import LoadRequest
from core.worker.runtimes.generator_loading import token_bytes
from core.worker.runtimes.transformers_decoder import TransformersDecoder, load
from tests.fakes.decoders import make_decoder, write_decoder


def loaded(path: Path, **more: Any) -> TransformersDecoder:
    request = LoadRequest(str(path), Runtime.TRANSFORMERS, (Task.TEXT_GENERATION,), threads=1, name="org/model", **more)
    return load(request, lambda stage, data: None)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_decoder(tmp_path, "llama")


def test_a_pickle_is_only_loaded_where_that_is_allowed(path: Path) -> None:
    expected = loaded(path).step([Chunk(0, [7, 8, 9], 0, True)])[0]
    torch.save(load_file(path / "model.safetensors"), path / "pytorch_model.bin")
    (path / "model.safetensors").unlink()
    with pytest.raises(PickleRefused, match="org/model"):
        loaded(path)
    [scores] = loaded(path, allow_pickle=True).step([Chunk(0, [7, 8, 9], 0, True)])
    np.testing.assert_array_equal(scores, expected)


def test_code_of_the_repository_is_refused(path: Path) -> None:
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | {"trust_remote_code": True}))
    with pytest.raises(RemoteCodeRefused, match="org/model"):
        loaded(path)


def test_weights_that_do_not_fit_are_told(path: Path) -> None:
    weights = load_file(path / "model.safetensors")
    missing = {name: each for name, each in weights.items() if name != "model.layers.1.mlp.up_proj.weight"}
    save_file(missing, path / "model.safetensors", {"format": "pt"})
    with pytest.raises(LoadFailed, match="mlp.up_proj.weight"):
        loaded(path)
    save_file(weights | {"lm_head.weight": torch.zeros(400, 64)}, path / "model.safetensors", {"format": "pt"})
    with pytest.raises(CorruptModel, match="lm_head"):
        loaded(path)
    (path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(CorruptModel, match="org/model"):
        loaded(path)


def test_a_tokenizer_of_another_model_is_told(tmp_path: Path) -> None:
    with pytest.raises(CorruptModel, match="do not belong together"):
        loaded(write_decoder(tmp_path, "llama", vocab_size=300))


def test_an_encoder_is_no_causal_model(tmp_path: Path) -> None:
    with pytest.raises(LoadFailed, match="writes no text"):
        loaded(write_decoder(tmp_path, "t5"))


def test_a_context_below_all_use_is_refused(path: Path) -> None:
    with pytest.raises(InvalidRequest, match="at least 8"):
        loaded(path, context_length=4)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_other_precisions_are_close(path: Path, dtype: str) -> None:
    exact = loaded(path).step([Chunk(0, [7, 8, 9], 0, True)])[0]
    model = loaded(path, dtype=dtype)
    [scores] = model.step([Chunk(0, [7, 8, 9], 0, True)])
    assert model.info.dtype == dtype
    assert scores is not None
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, exact, atol=0.5)


def test_broken_weights_give_scores_that_say_so(path: Path) -> None:
    weights = load_file(path / "model.safetensors")
    weights["model.layers.0.mlp.up_proj.weight"][:] = float("nan")
    save_file(weights, path / "model.safetensors", {"format": "pt"})
    [scores] = loaded(path).step([Chunk(0, [7, 8, 9], 0, True)])
    assert scores is not None
    assert np.isnan(scores).any()


def test_one_answer_out_of_range_does_not_spoil_the_next_in_its_place(path: Path) -> None:
    """What a row leaves behind is masked, and must not be NaN times nought."""
    generator = loaded(path)
    generator.step([Chunk(0, [7, 8, 9], 0, False), Chunk(1, list(range(10, 50)), 0, False)])
    generator.step([Chunk(0, [7], 3, True), Chunk(1, [7], 40, True)])  # side by side
    batch = generator._slots._batch.cache
    with torch.inference_mode():
        for tensor in (*batch.keys, *batch.values):
            tensor[1] = float("nan")
    generator.trim(1, 0)
    plain = transformers.AutoModelForCausalLM.from_pretrained(path).eval()
    generator.step([Chunk(1, [5, 6], 0, True)])
    scores = generator.step([Chunk(0, [8], 4, True), Chunk(1, [7], 2, True)])
    with torch.inference_mode():
        for row, tokens in zip(scores, ([7, 8, 9, 7, 8], [5, 6, 7]), strict=True):
            np.testing.assert_allclose(row, plain(torch.tensor([tokens])).logits[0, -1], atol=1e-3)


@pytest.mark.parametrize("name", ["gpt2", "llama", "phi", "gptj", "gpt_neo"])
def test_what_a_token_takes_is_counted(name: str) -> None:
    model = make_decoder(name)
    cache = model(torch.tensor([[5, 6, 7]])).past_key_values
    held = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    assert token_bytes(model) == held // 3
