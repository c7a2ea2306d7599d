"""Where the modules of a decoder go, and that one whose layers lie apart writes the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from core.errors import LoadFailed
from core.types import Runtime, Task
from core.worker import runtimes
from core.worker.runtimes.base import LoadRequest
from core.worker.runtimes.devicemap import device_map
from tests.core.worker.runtimes.writing import Sequence_, greedy, reference, ties
from tests.fakes.decoders import DECODERS, write_decoder

HEAD = transformers.AutoModelForCausalLM
PROMPTS = [[7 + (3 * index * (row + 2)) % 400 for index in range(length)] for row, length in enumerate((9, 21, 17))]


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("name", DECODERS)
def test_every_number_has_one_place_and_layers_are_whole(name: str, tied: bool, tmp_path: Path) -> None:
    config = transformers.AutoConfig.from_pretrained(write_decoder(tmp_path, name, tie_word_embeddings=tied))
    found = device_map(HEAD, config, {"cuda:1": 1, "cuda:3": 1})
    with torch.device("meta"):
        model = HEAD.from_config(config)
    devices: dict[Any, set[str]] = {}
    for parameter, _ in [*model.named_parameters(remove_duplicate=False), *model.named_buffers()]:
        (place,) = (key for key in found if f"{parameter}.".startswith(f"{key}."))
        layer = next((part for part in parameter.split(".") if part.isdecimal()), "beside")
        devices.setdefault(layer, set()).add(str(found[place]))
    assert devices == {"0": {"1"}, "1": {"3"}, "beside": {"1"}}


def test_a_model_with_another_number_of_layers_is_refused(tmp_path: Path) -> None:
    config = transformers.AutoConfig.from_pretrained(write_decoder(tmp_path, "llama"))
    with pytest.raises(LoadFailed, match="layers of a llama"):
        device_map(HEAD, config, {"cuda:0": 2, "cuda:1": 1})


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_a_model_whose_layers_lie_apart_writes_as_one_that_is_whole(name: str, tmp_path: Path) -> None:
    """One of them on the disk, which like a GPU is another place than that of the inputs."""
    path = write_decoder(tmp_path, name)
    request = LoadRequest(
        str(path), Runtime.TRANSFORMERS, (Task.TEXT_GENERATION,), device="cpu", layers={"cpu": 1, "disk": 1}, threads=1
    )
    generator: Any = runtimes.load(request, lambda stage, data: None)
    assert generator.info.device == "cpu+disk"
    placed = generator._slots._forward._model.hf_device_map
    assert set(map(str, placed.values())) == {"cpu", "disk"}
    model = HEAD.from_pretrained(path).eval()
    sequences = [
        Sequence_(prompt, 8, at, slot) for slot, (prompt, at) in enumerate(zip(PROMPTS, (0, 2, 0), strict=True))
    ]
    for prompt, written in zip(PROMPTS, greedy(generator, sequences), strict=True):
        assert not ties(model, prompt, written, reference(model, prompt, 8))
