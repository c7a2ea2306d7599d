"""Models that look at images as ONNX files: which of them run, and what they take."""

from __future__ import annotations

import functools
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from core.errors import InvalidRequest, NoSupportedTask
from core.hub import sight
from core.hub.files import open_directory
from core.hub.identify import identify
from core.memory.need import needs_of
from core.settings import Settings
from core.types import Inspection, ModelSpec, Runtime, Task
from core.worker import runtimes
from core.worker.runtimes import onnxruntime_vision
from core.worker.runtimes.base import LoadRequest
from core.worker.runtimes.onnxruntime_vision import OnnxVision
from tests.fakes.onnx_decoders import write_onnx_decoder
from tests.fakes.onnx_vision import STEMS, write_onnx_vision
from tests.fakes.vision import picture

LOOKS = (Task.IMAGE_TEXT_TO_TEXT, Task.TEXT_GENERATION)


def inspect(folder: Path, **spec: Any) -> Inspection:
    return identify(open_directory("m", folder), ModelSpec("m", "m", **spec), pickle_allowed=False)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return functools.cache(lambda name: write_onnx_vision(tmp_path_factory.mktemp(name), name))


@pytest.fixture
def copy(directory, tmp_path: Path):
    """A repository of this test alone, with ONNX files only."""

    def make(name: str) -> Path:
        shutil.copytree(directory(name), tmp_path / "m")
        (tmp_path / "m" / "model.safetensors").unlink()
        return tmp_path / "m"

    return make


def configure(folder: Path, **settings: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


@pytest.mark.parametrize("name", ["llava", "qwen2_vl", "smolvlm"])
def test_all_three_graphs_are_one_model(name: str, directory) -> None:
    assert inspect(directory(name)).runtime is Runtime.TRANSFORMERS  # safetensors come first
    found = inspect(directory(name), runtime=Runtime.ONNXRUNTIME)
    assert (found.runtime, found.tasks, found.model_type, found.context_length) == (
        Runtime.ONNXRUNTIME, LOOKS, name, 512,
    )  # fmt: skip
    assert found.spec.file == "onnx/decoder_model_merged.onnx"
    graphs = {f"onnx/{stem}.onnx" for stem in STEMS}
    assert {file.path for file in found.files if "onnx" in file.path} == graphs
    assert found.weight_bytes == sum(file.size for file in found.files if file.path in graphs)
    assert inspect(directory(name), file="onnx/embed_tokens.onnx").spec.file == found.spec.file


@pytest.mark.parametrize("name", ["llava", "qwen2_vl", "smolvlm"])
def test_what_they_take_is_what_the_runtime_has(name: str, directory) -> None:
    found = inspect(directory(name), runtime=Runtime.ONNXRUNTIME)
    request = LoadRequest(str(directory(name)), found.runtime, found.tasks, file=found.spec.file, threads=1, name="m")
    model = runtimes.load(request, lambda stage, data: None)
    assert isinstance(model, OnnxVision)
    anatomy, graph = found.anatomy, model._graph
    assert anatomy.cache_numbers * 4 == graph.token_bytes
    assert (anatomy.hidden, anatomy.vocabulary, anatomy.cross_attends) == (
        model.vision._model.width, model.codec.size, False,
    )  # fmt: skip
    stored = (directory(name) / "model.safetensors").stat().st_size
    assert anatomy.tensor_bytes == pytest.approx(stored, rel=0.15)  # parts of LLaVA's tower are not exported
    passes: list[int] = []
    real = model.vision._model._session.run

    class Session:
        def run(self, outputs: Any, feed: dict[str, Any]) -> Any:
            pixels = feed["pixel_values"]
            passes.append(pixels.size // (3 * 8 * 8) // (2 if name == "qwen2_vl" else 1))  # numbers of a patch
            return real(outputs, feed)

    model.vision._model._session = Session()
    for seed, size in enumerate([(200, 200), (64, 64), (150, 60), (33, 120)]):
        image = picture(seed, *size)
        model.vision.read(image)
        model.vision._embedded(image, seed)
    assert max(passes) == anatomy.image_tile


def test_the_figures_are_those_of_the_runtime() -> None:
    assert sight.MOST_PATCHES == onnxruntime_vision.MOST_PATCHES


def test_an_image_is_counted(copy) -> None:
    settings = Settings(_env_file=None)
    folder = copy("qwen2_vl")
    small = needs_of(inspect(folder), settings, "cpu")[0]
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"max_pixels": 1 << 30}))
    found = inspect(folder)
    assert found.anatomy.image_patches == sight.MOST_PATCHES
    large = needs_of(found, settings, "cpu")[0]
    assert large.activations > small.activations
    on_gpu, on_host = needs_of(found, settings, "cuda:0")
    assert (on_gpu.device, on_host.device) == ("cuda:0", "cpu")
    assert on_host.cache == large.cache - on_gpu.cache > 0  # images are kept on the host
    assert large.overhead > small.overhead  # and wait there


def test_the_precision_that_is_complete_is_taken(copy) -> None:
    folder = copy("llava")
    for stem in STEMS:
        shutil.copy(folder / "onnx" / f"{stem}.onnx", folder / "onnx" / f"{stem}_q4.onnx")
        shutil.copy(folder / "onnx" / f"{stem}.onnx", folder / "onnx" / f"{stem}_quantized.onnx")
    assert inspect(folder).spec.file == "onnx/decoder_model_merged.onnx"
    assert inspect(folder, file="onnx/embed_tokens_quantized.onnx").spec.file.endswith("merged_quantized.onnx")
    (folder / "onnx" / "vision_encoder.onnx").unlink()
    assert inspect(folder).spec.file == "onnx/decoder_model_merged_q4.onnx"
    mixed = {file.path for file in inspect(folder, file="onnx/decoder_model_merged.onnx").files if "onnx/" in file.path}
    assert mixed == {f"onnx/{name}.onnx" for name in ("vision_encoder_quantized", *STEMS[1:])}
    (folder / "onnx" / "vision_encoder_quantized.onnx").unlink()
    with pytest.raises(NoSupportedTask, match=r"decoder_model_merged\.onnx is one ONNX file\. It takes vision_encoder"):
        inspect(folder, file="onnx/decoder_model_merged.onnx")
    with pytest.raises(NoSupportedTask, match=r"embed_tokens_quantized\.onnx is one ONNX file"):
        inspect(folder, file="onnx/embed_tokens_quantized.onnx")
    with pytest.raises(InvalidRequest, match="has no file"):
        inspect(folder, file="onnx/vision_encoder.onnx")


def test_a_decoder_alone_does_not_look(directory, tmp_path: Path) -> None:
    write_onnx_decoder(tmp_path, "llama")
    (tmp_path / "model.safetensors").unlink()
    for name in ("config.json", "preprocessor_config.json", "processor_config.json"):
        shutil.copy(directory("llava") / name, tmp_path / name)
    with pytest.raises(NoSupportedTask, match="model.onnx is one ONNX file"):
        inspect(tmp_path)


@pytest.mark.parametrize("kind", ["llava_next", "qwen2_5_vl", "hyperclovax_vision_v2"])
def test_an_architecture_that_is_not_known_as_graphs_says_so(kind: str, copy) -> None:
    folder = copy("llava")
    configure(folder, model_type=kind)
    with pytest.raises(NoSupportedTask, match=rf"As such {kind} does not run here; idefics3, llava, .*safetensors"):
        inspect(folder)


def test_graphs_of_a_model_that_is_not_said_to_look(copy) -> None:
    folder = copy("llava")
    configure(folder, model_type="llama", architectures=["LlamaForCausalLM"])
    with pytest.raises(NoSupportedTask, match="part of a model that looks at images"):
        inspect(folder)
