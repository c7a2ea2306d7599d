"""Where a model could go, and what it would take there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from core.memory.calibration import Seen, corrected, kind_of
from core.memory.ledger import Ledger, Tenant
from core.memory.need import cached_tokens, devices_of, needs_of
from core.memory.spread import spread
from core.settings import Settings
from core.types import Inspection


@dataclass(frozen=True, slots=True)
class Placement:
    device: str  # as the worker is told: auto, cpu, cuda, cuda:N; of several, the first
    need: Mapping[str, int]  # bytes by device
    cached_tokens: int | None = None  # of all answers together, which the promise holds; None: the runtime's choice
    growth: Mapping[str, int] = field(default_factory=dict)  # of the need, what only use takes; not said: all of it
    layers: Mapping[str, int] | None = None  # of a model on several GPUs, how many each has

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


def over_several(
    inspection: Inspection, settings: Settings, gpus: Sequence[str], ledger: Ledger, tenants: Sequence[Tenant]
) -> list[Placement]:
    """For a model that no single one of `gpus` holds, over several: beside all that is in memory, or else beside what
    is pinned. Empty where that does not help."""
    for free in ({device: ledger.room(device) for device in ledger.limits}, ledger.most(tenants)):
        found = spread(inspection, settings, {gpu: free[gpu] for gpu in gpus if gpu in free})
        if found is None:
            continue
        first = next(iter(found.layers))
        need = {need.device: need.total for need in found.needs}
        if ledger.could_fit(need, tenants):
            tokens = cached_tokens(inspection, settings, first) or None
            return [Placement(first, need, tokens, layers=found.layers)]
    return []
