"""Where a model could go, and what it would take there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from core.memory.estimate import OVERHEAD_BYTES, promised_bytes
from core.settings import Settings
from core.types import Inspection, Runtime


@dataclass(frozen=True, slots=True)
class Placement:
    device: str  # as the worker is told: auto, cpu, cuda, cuda:N
    need: Mapping[str, int]  # bytes by device


def placements(inspection: Inspection, settings: Settings, gpus: Sequence[str]) -> list[Placement]:
    """The devices that the load may go to, best first, with the bytes that it is estimated to take."""
    spec = inspection.spec
    device = settings.chosen_device if spec.device == "auto" else spec.device
    estimate = promised_bytes(inspection)
    if device == "cpu" or not gpus or _stays_on_the_host(inspection, settings):
        return [Placement(device, {"cpu": estimate})]
    if device in ("auto", "cuda") and len(gpus) > 1:
        return [Placement(gpu, _on(gpu, estimate)) for gpu in gpus]
    return [Placement(device, _on(device if ":" in device else gpus[0], estimate))]


def _on(gpu: str, estimate: int) -> dict[str, int]:
    return {gpu: max(0, estimate - OVERHEAD_BYTES), "cpu": OVERHEAD_BYTES}


def _stays_on_the_host(inspection: Inspection, settings: Settings) -> bool:
    layers = inspection.spec.gpu_layers if inspection.spec.gpu_layers is not None else settings.gpu_layers
    return inspection.runtime is Runtime.LLAMA_CPP and layers == 0
