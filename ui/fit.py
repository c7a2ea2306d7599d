"""The plan of a load on the page: what it takes, whether it fits, and one click for each thing that would make it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import asdict
from typing import Any

import gradio as gr

from core.core import Core
from core.types import Plan
from ui.guard import check_admin, failure, is_admin, told
from ui.spec import default_name, model_spec

Loads = Callable[..., AsyncIterator[dict[str, Any]]]  # of a spec, and whether by force


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


def checks(core: Core, names: list[str]) -> Callable[..., AsyncIterator[dict[str, Any]]]:
    """The handler that plans what the form says. The card keeps it, for the buttons that load it."""

    async def check(request: gr.Request, *values: Any) -> AsyncIterator[dict[str, Any]]:
        asked = dict(zip(names, values, strict=True))
        yield {"stage": "running"}
        try:
            plan = await core.plan(model_spec(**asked), admin=is_admin(request))
            yield {"stage": "done", "plan": plain_plan(plan), "asked": asked}
        except Exception as error:
            yield {"stage": "error", "model": default_name(str(asked["source"]).strip()), "error": told(error)}

    return check


def takes(core: Core, loads: Loads) -> Callable[..., AsyncIterator[dict[str, Any]]]:
    """The handler of the card's buttons: unloads what the button names, and loads what was planned, changed."""

    async def take(request: gr.Request, event: gr.EventData) -> AsyncIterator[dict[str, Any]]:
        said = event._data or {}
        asked, changes = dict(said.get("asked") or {}), dict(said.get("changes") or {})
        name = default_name(str(asked.get("source", "")).strip())
        try:
            check_admin(request)
            spec = model_spec(**{**asked, **changes})
            name = spec.name
            for model in said.get("unload") or []:
                await core.unload(str(model))
            async for step in loads(spec, force=said.get("force") is True):
                yield step
        except Exception as error:
            yield failure(name, error)

    return take
