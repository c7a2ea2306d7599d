"""The plan of a load on the page: what it takes, whether it fits, and one click for each thing that would make it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import gradio as gr

from core.core import Core
from ui.guard import check_admin, failure, is_admin, told
from ui.plans import plain_plan
from ui.spec import default_name, model_spec

Loads = Callable[..., AsyncIterator[dict[str, Any]]]  # of a spec, and whether by force


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
