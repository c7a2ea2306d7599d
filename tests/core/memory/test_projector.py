"""What sees for a GGUF model is counted: its file, its passes, and the images that are kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.hub.files import open_directory
from core.hub.identify import identify
from core.memory import projector
from core.memory.need import needs_of
from core.settings import Settings
from core.types import Inspection, ModelSpec, Task
from core.worker.runtimes import llama_sight
from tests.fakes.gguf import CONTEXT
from tests.fakes.gguf_vision import write_seeing

SETTINGS = Settings(_env_file=None)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_seeing(tmp_path, "qwen2vl_merger")
    return tmp_path


def inspect(folder: Path, task: Task | None = None, **fields: int) -> Inspection:
    spec = ModelSpec("m", "m", task=task, **fields)  # type: ignore[arg-type]
    return identify(open_directory("m", folder), spec, pickle_allowed=False)


def test_the_figures_are_those_of_the_runtime() -> None:
    assert projector.KEPT_BYTES == llama_sight.KEPT_BYTES
    assert projector.LARGEST_SHARE == llama_sight.LARGEST_SHARE


def test_a_model_that_sees_takes_more_by_its_file_and_its_passes(folder: Path) -> None:
    [seeing] = needs_of(inspect(folder), SETTINGS, "cpu")
    [text] = needs_of(inspect(folder, Task.TEXT_GENERATION), SETTINGS, "cpu")
    size = (folder / "mmproj-m.gguf").stat().st_size
    assert 0 <= size - (seeing.weights - text.weights) < 4000, "the header"
    assert seeing.cache - text.cache == SETTINGS.max_sequences * CONTEXT // 2 * 64 * 4
    patches = CONTEXT // 2 * 4
    assert seeing.activations - text.activations == patches * (3 * 48 + 4 * 32) * 4


def test_it_lies_where_the_text_is_computed(folder: Path) -> None:
    for layers, device in ((99, "cuda:0"), (0, "cpu")):
        seeing = {need.device: need for need in needs_of(inspect(folder, gpu_layers=layers), SETTINGS, device)}
        plain = inspect(folder, Task.TEXT_GENERATION, gpu_layers=layers)
        text = {need.device: need for need in needs_of(plain, SETTINGS, device)}
        assert {name for name in seeing if seeing[name].weights > text[name].weights} == {device}
        assert seeing["cpu"].cache > text["cpu"].cache, "images are kept on the host"
