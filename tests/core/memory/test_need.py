"""Bytes of weights, caches and passes, held against the runtimes that take them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import llama_cpp
import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM

from core.hub.files import open_directory
from core.hub.identify import identify
from core.memory import keyvalues, overhead
from core.memory.need import cached_tokens, needs_of
from core.memory.weights import weight_bytes
from core.settings import Settings
from core.types import Inspection, ModelSpec, Quantization, Runtime, Task
from core.worker import runtimes
from core.worker.runtimes import llama_cpp as llama_runtime
from core.worker.runtimes import loading, onnxruntime_decoder, onnxruntime_generator, transformers_decoder
from core.worker.runtimes.base import LoadRequest
from core.worker.runtimes.transformers_encoder import read_weights
from tests.fakes.decoders import POSITIONS, write_decoder
from tests.fakes.gguf import write_gguf
from tests.fakes.onnx_decoders import write_onnx_decoder

SETTINGS = Settings(_env_file=None)


@pytest.fixture(autouse=True, scope="module")
def _quiet() -> None:
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()


def inspect(folder: Path, **fields: Any) -> Inspection:
    return identify(open_directory("m", folder), ModelSpec("m", "m", **fields), pickle_allowed=False)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Large enough that what bitsandbytes rounds up does not matter."""
    sizes = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 3, "num_key_value_heads": 2}
    return write_decoder(tmp_path_factory.mktemp("llama"), "llama", **sizes)


def storage_bytes(model: Any) -> int:
    """Of every parameter and of what bitsandbytes keeps beside it."""
    total = 0
    for parameter in model.parameters():
        total += parameter.nbytes
        state, scales = getattr(parameter, "quant_state", None), getattr(parameter, "SCB", None)
        total += scales.nbytes if scales is not None else 0
        if state is not None:
            total += state.absmax.nbytes + (state.state2.absmax.nbytes if state.nested else 0)
    return total


@pytest.mark.parametrize("quantization", [None, *Quantization])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_weights_are_those_that_are_loaded(llama: Path, quantization: Quantization | None, dtype: str) -> None:
    request = LoadRequest(
        str(llama), Runtime.TRANSFORMERS, (Task.TEXT_GENERATION,), dtype=dtype, quantization=quantization
    )
    config = transformers.AutoConfig.from_pretrained(llama)
    model, _ = read_weights(request, config, "cpu", True, AutoModelForCausalLM)
    planned = weight_bytes(inspect(llama), quantization, 2 if dtype == "bfloat16" else 4)
    assert planned == pytest.approx(storage_bytes(model), rel=0.002 if quantization else 0)


@pytest.mark.parametrize("quantization", Quantization)
def test_a_quantised_model_lets_go_of_its_file(llama: Path, quantization: Quantization) -> None:
    request = LoadRequest(str(llama), Runtime.TRANSFORMERS, (Task.TEXT_GENERATION,), quantization=quantization)
    config = transformers.AutoConfig.from_pretrained(llama)
    model, _ = read_weights(request, config, "cpu", True, AutoModelForCausalLM)
    assert model is not None
    assert str(llama) not in Path("/proc/self/maps").read_text()


@pytest.mark.parametrize("wanted", [{}, {"context_length": 64}, {"context_length": 200}])
@pytest.mark.parametrize("most", [None, 300])
@pytest.mark.parametrize("kind", ["transformers", "gguf", "onnx"])
def test_a_cache_holds_as_many_tokens_as_the_runtime_says(
    tmp_path: Path, llama: Path, kind: str, wanted: dict[str, int], most: int | None
) -> None:
    folder, file = llama, None
    if kind == "gguf":
        folder, file = tmp_path, write_gguf(tmp_path / "m.gguf").name
    elif kind == "onnx":
        folder = write_onnx_decoder(tmp_path, "llama")
    inspection = inspect(folder, **wanted)
    request = LoadRequest(
        str(folder), inspection.runtime, (Task.TEXT_GENERATION,), file=inspection.spec.file or file,
        max_sequences=8, max_cached_tokens=most, **wanted,
    )  # fmt: skip
    model: Any = runtimes.load(request, lambda stage, data: None)
    settings = Settings(_env_file=None, max_cached_tokens=most)
    assert cached_tokens(inspection, settings, "cpu") == model.max_cached_tokens
    assert inspection.context_length == wanted.get("context_length", POSITIONS)


def test_the_figures_are_those_of_the_runtimes() -> None:
    assert keyvalues.LLAMA_CACHE_BYTES == llama_runtime.CACHE_BYTES
    assert keyvalues.CACHE_BYTES == onnxruntime_generator.CACHE_BYTES
    assert keyvalues.DEFAULT_CONTEXT == llama_runtime.DEFAULT_CONTEXT
    assert overhead.BATCH_TOKENS == loading.MAX_BATCH_TOKENS
    assert overhead.MAX_LOGITS == onnxruntime_decoder.MAX_LOGITS
    assert overhead.PREFILL_TOKENS[Runtime.TRANSFORMERS] == transformers_decoder.PREFILL_TOKENS
    assert overhead.PREFILL_TOKENS[Runtime.ONNXRUNTIME] == onnxruntime_generator.PREFILL_TOKENS
    assert set(overhead.PREFILL_TOKENS[Runtime.LLAMA_CPP].values()) == {llama_runtime.MICRO_BATCH}


def test_llama_cpp_keeps_the_whole_context_of_sliding_windows() -> None:
    """If this changes, a plan counts too much for models that have them."""
    assert llama_cpp.llama_context_default_params().swa_full


def test_grouped_heads_count_once(tmp_path: Path) -> None:
    caches = {}
    for heads in (1, 2, 4):
        folder = write_decoder(tmp_path / str(heads), "llama", num_key_value_heads=heads)
        caches[heads] = needs_of(inspect(folder), SETTINGS, "cpu")[0].cache
    assert caches[4] == 2 * caches[2] == 4 * caches[1]


def test_an_encoder_keeps_nothing_and_half_the_numbers_take_half(tmp_path: Path) -> None:
    from tests.fakes.models import write_model

    folder = write_model(tmp_path, "bert", Task.TEXT_CLASSIFICATION)
    (full,) = needs_of(inspect(folder), SETTINGS, "cpu")
    (half,) = needs_of(inspect(folder, dtype="bfloat16"), SETTINGS, "cpu")
    assert full.cache == half.cache == 0
    assert full.weights == 2 * half.weights
