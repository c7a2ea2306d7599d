"""Where a model could go, and what it would take there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from core.memory.calibration import Seen, corrected, kind_of
from core.memory.need import cached_tokens, devices_of, needs_of
from core.settings import Settings
from core.types import Inspection


@dataclass(frozen=True, slots=True)
class Placement:
    device: str  # as the worker is told: auto, cpu, cuda, cuda:N
    need: Mapping[str, int]  # bytes by device
    cached_tokens: int | None = None  # of all answers together, which the promise holds; None: the runtime's choice
    growth: Mapping[str, int] = field(default_factory=dict)  # of the need, what only use takes; not said: all of it

    @property
    def kind(self) -> str:
        """Of the device that it takes memory of, beside the host's."""
        return next((kind_of(device) for device in self.need if device != "cpu"), "cpu")

    def corrected(self, seen: Seen | None) -> Placement:
        """With the bytes that the model is known to take there."""
        need = {
            device: corrected(device, size, self.growth.get(device, size), seen) for device, size in self.need.items()
        }
        return replace(self, need=need)


def placements(inspection: Inspection, settings: Settings, gpus: Sequence[str]) -> list[Placement]:
    """The devices that the load may go to, best first, with the bytes that it is reckoned to take."""
    asked = settings.chosen_device if inspection.spec.device == "auto" else inspection.spec.device
    devices = devices_of(inspection, settings, gpus)
    places = []
    for device in devices:
        needs = needs_of(inspection, settings, device)
        places.append(
            Placement(
                device if len(devices) > 1 else asked,
                {need.device: need.reckoned for need in needs},
                cached_tokens(inspection, settings, device) or None,
                {need.device: need.cache + need.activations for need in needs},
            )
        )
    return places
