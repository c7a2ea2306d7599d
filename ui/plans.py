"""A plan as the page shows it, and what the form would have to say for it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from core.types import ModelSpec, Plan

_FIELDS = (
    "source", "name", "revision", "task", "runtime", "quantization", "dtype", "device", "context_length", "file",
    "gpu_layers",
)  # fmt: skip


def plain_plan(plan: Plan) -> dict[str, Any]:
    """As JSON can carry it. All sizes are bytes."""
    inspection = plan.inspection
    return {
        "name": inspection.spec.name,
        "task": str(inspection.tasks[0]),
        "runtime": str(inspection.runtime),
        "quantization": str(inspection.spec.quantization) if inspection.spec.quantization else None,
        "device": plan.device,
        "dtype": plan.dtype,
        "parameters": inspection.parameters,
        "context_length": plan.context_length,
        "cached_tokens": plan.cached_tokens,
        "download_bytes": inspection.download_bytes,
        "disk_free": plan.disk_free,
        "fits_on_disk": plan.fits_on_disk,
        "needs": [{**asdict(need), "reckoned": need.reckoned, "total": need.total} for need in plan.needs],
        "rooms": {room.device: {"limit": room.limit, "held": room.held, "free": room.free} for room in plan.rooms},
        "measured": plan.measured,
        "verdict": str(plan.fit),
        "unload": list(plan.unload),
        "quantizations": [str(each) for each in plan.quantizations],
        "gpu_layers": plan.gpu_layers,
        "shorter_context": plan.shorter_context,
        "warnings": list(inspection.warnings),
    }


def as_asked(spec: ModelSpec) -> dict[str, Any]:
    """The fields of the form that ask for `spec`."""
    values = {name: getattr(spec, name) for name in _FIELDS}
    return {name: str(value) if isinstance(value, str) else value for name, value in values.items()}
