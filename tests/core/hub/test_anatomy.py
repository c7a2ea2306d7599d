"""Sizes out of headers, held against the libraries that load such models."""

from __future__ import annotations

import json
from pathlib import Path

import llama_cpp
import onnx
import pytest
import torch
import transformers
from onnx import numpy_helper
from safetensors import safe_open
from transformers.pytorch_utils import Conv1D
from transformers.quantizers.base import get_keys_to_not_convert
from transformers.quantizers.quantizers_utils import should_convert_module

from core.errors import CorruptModel
from core.hub import Hub
from core.hub.files import open_directory
from core.hub.identify import identify
from core.types import FileProgress, Inspection, ModelSpec, Task
from tests.fakes.decoders import DECODERS, ENCODER_DECODERS, write_decoder
from tests.fakes.gguf import write_gguf
from tests.fakes.hub import FakeHub
from tests.fakes.models import ARCHITECTURES, write_model
from tests.fakes.onnx_decoders import write_data, write_onnx_decoder
from tests.fakes.repositories import CLASSIFIER, bert_config, write_repository, write_shards


def inspect(folder: Path, **fields: object) -> Inspection:
    spec = ModelSpec("m", "m", **fields)  # type: ignore[arg-type]
    return identify(open_directory("m", folder), spec, pickle_allowed=True)


def tensor_bytes(folder: Path) -> int:
    """By the format's own library."""
    total = 0
    for path in folder.glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            total += sum(file.get_tensor(name).nbytes for name in file.keys())  # noqa: SIM118 - not a dict
    return total


@pytest.mark.parametrize("architecture", [*DECODERS, *ENCODER_DECODERS])
def test_safetensors_are_the_sum_of_their_tensors(tmp_path: Path, architecture: str) -> None:
    anatomy = inspect(write_decoder(tmp_path, architecture)).anatomy
    assert anatomy.tensor_bytes == tensor_bytes(tmp_path)
    assert anatomy.floats * 4 + anatomy.fixed_bytes == anatomy.tensor_bytes


def test_shards_add_up_to_the_same(tmp_path: Path) -> None:
    whole = write_model(tmp_path / "whole", "bert", Task.FILL_MASK)
    shards = write_model(tmp_path / "shards", "bert", Task.FILL_MASK, sharded=True)
    assert len(list(shards.glob("*.safetensors"))) > 2
    assert inspect(shards).anatomy == inspect(whole).anatomy


def quantised_numbers(model: torch.nn.Module) -> int:
    """Numbers in the matrices that transformers gives to bitsandbytes."""
    kept = get_keys_to_not_convert(model)
    return sum(
        module.weight.numel()
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear | Conv1D) and should_convert_module(name, kept)
    )


@pytest.mark.parametrize("architecture", DECODERS)
def test_what_bitsandbytes_quantises(tmp_path: Path, architecture: str) -> None:
    anatomy = inspect(write_decoder(tmp_path, architecture)).anatomy
    assert anatomy.linear == quantised_numbers(transformers.AutoModelForCausalLM.from_pretrained(tmp_path))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_what_bitsandbytes_quantises_of_a_classifier(tmp_path: Path, architecture: str) -> None:
    anatomy = inspect(write_model(tmp_path, architecture, Task.TEXT_CLASSIFICATION)).anatomy
    model = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert anatomy.linear == quantised_numbers(model)


@pytest.mark.parametrize("architecture", DECODERS)
def test_keys_and_values_of_a_token(tmp_path: Path, architecture: str) -> None:
    anatomy = inspect(write_decoder(tmp_path, architecture)).anatomy
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    cache = model(torch.tensor([[1]]), use_cache=True).past_key_values
    assert anatomy.cache_numbers == sum(layer.keys.numel() + layer.values.numel() for layer in cache.layers)
    assert (anatomy.layers, anatomy.hidden) == (len(cache.layers), model.get_input_embeddings().embedding_dim)


@pytest.mark.parametrize("architecture", ENCODER_DECODERS)
def test_keys_and_values_of_a_written_token(tmp_path: Path, architecture: str) -> None:
    anatomy = inspect(write_decoder(tmp_path, architecture)).anatomy
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    one = torch.tensor([[1]])
    cache = model(input_ids=one, decoder_input_ids=one, use_cache=True).past_key_values.self_attention_cache
    assert anatomy.cache_numbers == sum(layer.keys.numel() + layer.values.numel() for layer in cache.layers)
    assert anatomy.cross_attends


@pytest.mark.parametrize(("quantized", "parts"), [(False, 1), (True, 1), (False, 3)])
def test_a_gguf_file_is_what_llama_cpp_reports(tmp_path: Path, quantized: bool, parts: int) -> None:
    path = write_gguf(tmp_path / "m.gguf", quantized=quantized, parts=parts)
    anatomy = inspect(tmp_path).anatomy
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), llama_cpp.llama_model_default_params())
    try:
        assert anatomy.tensor_bytes == llama_cpp.llama_model_size(model)
        assert anatomy.layers == llama_cpp.llama_model_n_layer(model)
    finally:
        llama_cpp.llama_model_free(model)
    assert 0 < anatomy.layer_bytes < anatomy.tensor_bytes
    assert anatomy.cache_numbers == 2 * 2 * 2 * 16  # layers, heads, key and value, width


def graph_bytes(path: Path) -> int:
    """All tensors, by the onnx library, external ones read."""
    return sum(numpy_helper.to_array(tensor).nbytes for tensor in onnx.load(path).graph.initializer)


@pytest.mark.parametrize("data", [None, "model.onnx_data"])
def test_initialisers_inside_and_outside(tmp_path: Path, data: str | None) -> None:
    folder = write_onnx_decoder(tmp_path, "llama")
    [path] = folder.rglob("model.onnx")
    if data:
        write_data(path, data)
    anatomy = inspect(folder).anatomy
    constants = anatomy.tensor_bytes - graph_bytes(path)
    assert 0 <= constants < 4096, "tensors of nodes"
    assert anatomy.cache_numbers == 2 * 2 * 2 * 16


@pytest.mark.parametrize("nonsense", [{}, {"hidden_size": -1}, {"hidden_size": "64", "num_hidden_layers": 1 << 60}])
def test_a_configuration_may_say_nothing(tmp_path: Path, nonsense: dict[str, object]) -> None:
    folder = write_repository(tmp_path, bert_config(**nonsense), CLASSIFIER)
    anatomy = inspect(folder).anatomy
    assert (anatomy.hidden, anatomy.layers, anatomy.cache_numbers) == (0, 0, 0)
    assert anatomy.tensor_bytes == tensor_bytes(folder)


SHARDS = {f"model-{number}.safetensors": {f"bert.layer.{number}.weight": (50, 50)} for number in range(8)}


@pytest.fixture
def sharded(fake: FakeHub) -> Path:
    """Eight shards on the Hub, whose index says how many bytes of tensors they have."""
    folder = write_repository(fake.root / "org/many", bert_config())
    write_shards(folder, SHARDS)
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    index["metadata"]["total_size"] = 8 * 50 * 50 * 4
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


async def test_many_shards_far_away_are_one_request(hub: Hub, fake: FakeHub, sharded: Path) -> None:
    inspection = await hub.inspect(ModelSpec("m", "org/many"))
    assert inspection.anatomy.tensor_bytes == tensor_bytes(sharded)
    assert inspection.anatomy.floats == 8 * 50 * 50
    ranged = [seen for seen in fake.requests if ".safetensors" in seen.path and "index" not in seen.path]
    assert len({seen.path.rpartition("/")[2] for seen in ranged}) == 1
    assert {seen.host for seen in ranged} == {"hub", "cdn"}, "one, which is sent on"
    assert len(ranged) == 2


async def test_an_index_that_lies_is_not_believed(hub: Hub, sharded: Path) -> None:
    index = json.loads((sharded / "model.safetensors.index.json").read_text())
    for lie in (0, -5, 1 << 60, "many"):
        index["metadata"]["total_size"] = lie
        (sharded / "model.safetensors.index.json").write_text(json.dumps(index))
        found = (await hub.inspect(ModelSpec("m", "org/many"))).anatomy
        assert tensor_bytes(sharded) <= found.tensor_bytes <= tensor_bytes(sharded) + 8 * 200


async def test_shards_are_read_once_they_are_here(hub: Hub, sharded: Path) -> None:
    whole = (sharded / "model-5.safetensors").read_bytes()
    (sharded / "model-5.safetensors").write_bytes(whole[:-10])
    inspection = await hub.inspect(ModelSpec("m", "org/many"))
    with pytest.raises(CorruptModel, match=r"model-5\.safetensors"):
        await hub.fetch(inspection, _ignore)


async def test_a_long_vocabulary_is_three_requests(hub: Hub, fake: FakeHub) -> None:
    folder = fake.root / "org/gguf"
    folder.mkdir(parents=True)
    write_gguf(folder / "m.gguf", metadata={f"some.text.{index}": "x" * 1000 for index in range(9000)})
    await hub.inspect(ModelSpec("m", "org/gguf"))
    assert len([seen for seen in fake.requests_for("m.gguf") if seen.host == "hub"]) <= 3


def _ignore(progress: FileProgress) -> None:
    pass
