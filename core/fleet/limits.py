"""How many bytes all models together may take of each device."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from core.memory.probe import DeviceMemory
from core.settings import MIB, Settings

_MARGIN = 0.05  # of what a device has is left alone …
_MARGIN_BYTES = 512 * MIB  # … but no more than this


def limits_of(
    settings: Settings, host: DeviceMemory, gpus: Sequence[DeviceMemory], models: Iterable[Mapping[str, int]]
) -> dict[str, int]:
    """Bytes by device: the budget where one is set, else what others leave, less a margin.

    `models`: what each model was seen to hold, by device.
    """
    models = tuple(models)
    limits = {}
    for device, budget in (
        (host, settings.cpu_memory_budget_mb),
        *((gpu, settings.gpu_memory_budget_mb) for gpu in gpus),
    ):
        if budget is not None:
            limits[device.device] = int(budget * MIB)
            continue
        ours = sum(held.get(device.device, 0) for held in models)
        others = max(0, device.used - ours)
        margin = min(int(device.total * _MARGIN), _MARGIN_BYTES)
        limits[device.device] = max(0, device.total - margin - others)
    return limits
