"""Models that see: told from their files, with what an image takes of them."""

from __future__ import annotations

import functools
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from core.errors import CorruptModel, TaskNotSupported
from core.hub.files import open_directory
from core.hub.identify import identify
from core.hub.sight import sight_of
from core.memory import overhead
from core.memory.need import needs_of
from core.memory.weights import weight_bytes
from core.settings import Settings
from core.types import Inspection, ModelSpec, Quantization, Runtime, Task
from core.worker import runtimes
from core.worker.runtimes import transformers_vision, transformers_vision_processor
from core.worker.runtimes.base import LoadRequest
from core.worker.runtimes.transformers_vision import TransformersVision
from tests.core.memory.test_need import storage_bytes
from tests.fakes.vision import SEEING, picture, write_vision

LOOKS = (Task.IMAGE_TEXT_TO_TEXT, Task.TEXT_GENERATION)


def inspect(folder: Path, **spec: Any) -> Inspection:
    return identify(open_directory("m", folder), ModelSpec("m", "m", **spec), pickle_allowed=False)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return functools.cache(lambda name: write_vision(tmp_path_factory.mktemp(name), name))


@pytest.mark.parametrize("name", SEEING)
def test_models_that_see_as_they_are_saved(name: str, directory) -> None:
    found = inspect(directory(name))
    assert (found.runtime, found.tasks, found.model_type) == (Runtime.TRANSFORMERS, LOOKS, name)
    assert found.warnings == ()
    assert found.context_length == (2048 if name == "hyperclovax_vlm" else 512)
    files = {file.path for file in found.files}
    assert {"preprocessor_config.json", "chat_template.jinja", "tokenizer.json", "model.safetensors"} <= files
    assert inspect(directory(name), task=Task.TEXT_GENERATION).tasks == LOOKS[::-1]


@pytest.mark.parametrize("name", SEEING)
def test_an_image_takes_what_the_anatomy_says(name: str, directory) -> None:
    found = inspect(directory(name))
    anatomy = found.anatomy
    request = LoadRequest(str(directory(name)), found.runtime, found.tasks, threads=1, name="m")
    model = runtimes.load(request, lambda stage, data: None)
    assert isinstance(model, TransformersVision)
    text = model.vision._model.config.get_text_config(decoder=True)
    assert (anatomy.hidden, anatomy.layers, anatomy.vocabulary) == (
        text.hidden_size,
        text.num_hidden_layers,
        text.vocab_size,
    )
    assert anatomy.cache_numbers == 2 * text.num_hidden_layers * text.num_key_value_heads * 16 // (
        2 if name == "hyperclovax_vlm" else 1
    )
    pictures = [picture(seed, *size) for seed, size in enumerate([(200, 200), (64, 64), (150, 60), (33, 120)])]
    places = [model.vision.reader.layout(each).places for each in pictures]
    most = anatomy.image_patches // anatomy.image_merge
    if name == "llava_next":  # with an end to each line, and less of what was filled up
        assert 0.9 * most < max(places) < 1.2 * most
    elif name == "hyperclovax_vlm":
        assert max(places) <= most
    else:
        assert max(places) == most
    widths = {module.in_features for module in model.vision._model.modules() if isinstance(module, torch.nn.Linear)}
    assert {anatomy.image_hidden, anatomy.image_intermediate} <= widths


@pytest.mark.parametrize("quantization", [None, *Quantization])
@pytest.mark.parametrize("name", ["smolvlm", "qwen2_vl"])
def test_weights_of_the_tower_are_counted(name: str, quantization: Quantization | None, directory) -> None:
    found = inspect(directory(name), quantization=quantization)
    request = LoadRequest(
        str(directory(name)), found.runtime, found.tasks, quantization=quantization, threads=1, name="m"
    )
    model: Any = runtimes.load(request, lambda stage, data: None)
    planned = weight_bytes(found, quantization, 4)
    assert planned == pytest.approx(storage_bytes(model.vision._model), rel=0.02 if quantization else 0)


def test_a_larger_image_needs_more(directory, tmp_path: Path) -> None:
    settings = Settings(_env_file=None)
    shutil.copytree(directory("qwen2_vl"), tmp_path / "m")
    small = needs_of(inspect(tmp_path / "m"), settings, "cpu")[0]
    path = tmp_path / "m" / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"max_pixels": 1024 * 1024}))
    large = needs_of(inspect(tmp_path / "m"), settings, "cpu")[0]
    assert large.activations > small.activations
    short = needs_of(inspect(tmp_path / "m", context_length=16), settings, "cpu")[0]
    assert short.activations < small.activations  # no prompt holds such an image
    assert [need.device for need in needs_of(inspect(tmp_path / "m"), settings, "cuda:0")] == ["cuda:0", "cpu"]


def test_settings_of_images_within_those_of_the_processor(directory, tmp_path: Path) -> None:
    """As transformers 5 writes them, and prefers them."""
    shutil.copytree(directory("idefics3"), tmp_path / "m")
    apart, within = tmp_path / "m" / "preprocessor_config.json", tmp_path / "m" / "processor_config.json"
    split = inspect(tmp_path / "m").anatomy
    assert split.image_patches > split.image_tile
    whole = json.loads(apart.read_text()) | {"do_image_splitting": False}
    within.write_text(json.dumps(json.loads(within.read_text()) | {"image_processor": whole}))
    assert inspect(tmp_path / "m").anatomy.image_patches == split.image_tile
    apart.unlink()
    assert inspect(tmp_path / "m").anatomy.image_patches == split.image_tile
    within.write_text(json.dumps(json.loads(within.read_text()) | {"image_processor": "a"}))
    assert inspect(tmp_path / "m").anatomy.image_patches >= split.image_patches


def test_the_figures_are_those_of_the_runtime() -> None:
    assert overhead.EMBEDDED_BYTES == transformers_vision.EMBEDDED_BYTES
    assert overhead.PIXEL_BYTES == transformers_vision_processor.PIXEL_BYTES
    assert overhead.TILES == transformers_vision.TILES


def test_sizes_of_models_on_the_hub() -> None:
    """As their published configurations are written."""
    qwen = {
        "vision_config": {"depth": 32, "embed_dim": 1280, "mlp_ratio": 4, "patch_size": 14, "spatial_merge_size": 2}
    }
    found = sight_of(qwen, {"min_pixels": 3136, "max_pixels": 12845056})
    assert (found["image_hidden"], found["image_intermediate"]) == (1280, 5120)
    assert (found["image_patches"], found["image_tile"], found["image_merge"]) == (65536, 65536, 4)
    tower = {"hidden_size": 1024, "image_size": 336, "intermediate_size": 4096, "patch_size": 14}
    assert sight_of({"vision_config": tower}, {})["image_patches"] == 576
    points = [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]
    split = sight_of({"vision_config": tower, "image_grid_pinpoints": points}, {})
    assert (split["image_patches"], split["image_tile"]) == (5 * 576, 576)
    smolvlm = {"vision_config": {"hidden_size": 768, "image_size": 512, "patch_size": 16}, "scale_factor": 4}
    cut = {"size": {"longest_edge": 2048}, "max_image_size": {"longest_edge": 512}}
    assert sight_of(smolvlm, cut)["image_patches"] == 17 * sight_of(smolvlm, cut)["image_tile"] == 17 * 1024
    assert sight_of(smolvlm, cut | {"do_image_splitting": False})["image_patches"] == 1024
    assert sight_of(smolvlm, {})["image_merge"] == 16
    assert sight_of({"text_config": {}}, {}) == {}
    assert sight_of({"vision_config": {"patch_size": "a", "image_size": -1}, "image_grid_pinpoints": [[1], "x"]}, {})


def test_what_cannot_look_says_so(directory, tmp_path: Path) -> None:
    shutil.copytree(directory("llava"), tmp_path / "m")
    (tmp_path / "m" / "preprocessor_config.json").unlink()
    (tmp_path / "m" / "processor_config.json").unlink()
    with pytest.raises(CorruptModel, match=r"has no preprocessor_config\.json"):
        inspect(tmp_path / "m")
    with pytest.raises(TaskNotSupported, match="made for image-text-to-text and text-generation"):
        inspect(directory("llava"), task=Task.FILL_MASK)
