"""Which module of a decoder goes where, when its layers lie on several devices."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain, repeat
from typing import Any

import torch

from core.errors import LoadFailed

Device = str | int


def device_map(head: Any, config: Any, layers: Mapping[str, int]) -> dict[str, Device]:
    """The `device_map` of transformers for a model of the class `head`.

    `layers`: how many each device has, in their order. All else is on the first, so that what comes out of the model
    is where its inputs are. Raises LoadFailed where the model has not as many layers.
    """
    with torch.device("meta"):
        model = head.from_config(config)
    path = _layers_of(model, sum(layers.values()))
    if path is None:
        raise LoadFailed(
            f"The layers of a {config.model_type} cannot be told apart, so it cannot be put on several GPUs. Load it "
            "quantized, or on the CPU."
        )
    owners = chain.from_iterable(repeat(_device(name), count) for name, count in layers.items())
    found = dict.fromkeys(_beside(model, path), _device(next(iter(layers))))
    return {**found, **{f"{path}.{index}": owner for index, owner in enumerate(owners)}}


def _layers_of(model: Any, count: int) -> str | None:
    """Where the list of the decoder's layers is."""
    decoder = model.get_decoder() if hasattr(model, "get_decoder") else model
    inside = {id(module) for module in decoder.modules()}
    lists = [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.ModuleList) and len(module) == count and id(module) in inside
    ]
    return min(lists, key=lambda name: name.count("."), default=None)  # not lists within a layer


def _beside(model: Any, path: str, prefix: str = "") -> list[str]:
    """The largest modules, and the parameters, that together are all but the module at `path`."""
    found = [prefix + name for name, _ in model.named_parameters(recurse=False)]
    found += [prefix + name for name, _ in model.named_buffers(recurse=False)]
    for name, child in model.named_children():
        here = prefix + name
        if path.startswith(f"{here}."):
            found += _beside(child, path, f"{here}.")
        elif here != path:
            found.append(here)
    return found


def _device(name: str) -> Device:
    """Numbers for GPUs: transformers takes the lowest for the device of the inputs."""
    return int(name.partition(":")[2]) if name.startswith("cuda:") else name
