"""Where a model could go, and what it would take there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from core.memory.need import cached_tokens, devices_of, needs_of
from core.settings import Settings
from core.types import Inspection


@dataclass(frozen=True, slots=True)
class Placement:
    device: str  # as the worker is told: auto, cpu, cuda, cuda:N
    need: Mapping[str, int]  # bytes by device
    cached_tokens: int | None = None  # of all answers together, which the promise holds; None: the runtime's choice

    def at_least(self, held: Mapping[str, int]) -> Placement:
        """What the model was seen to hold there before is needed again, whatever is reckoned."""
        if not held.keys() <= self.need.keys():
            return self  # it was on other devices
        return replace(self, need={device: max(size, held.get(device, 0)) for device, size in self.need.items()})


def placements(inspection: Inspection, settings: Settings, gpus: Sequence[str]) -> list[Placement]:
    """The devices that the load may go to, best first, with the bytes that it is reckoned to take."""
    asked = settings.chosen_device if inspection.spec.device == "auto" else inspection.spec.device
    devices = devices_of(inspection, settings, gpus)
    return [
        Placement(
            device if len(devices) > 1 else asked,
            {need.device: need.total for need in needs_of(inspection, settings, device)},
            cached_tokens(inspection, settings, device) or None,
        )
        for device in devices
    ]
