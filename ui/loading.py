"""Loads, as the page and its clients follow them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncGenerator
from typing import Any

from core.core import Core
from core.errors import ModelNotFound, NotAllowed
from core.fleet.job import LoadJob
from core.types import State
from ui.snapshot import plain_model

_INTERVAL_S = 0.1  # between two updates of the same stage


def start(core: Core, name: str, *, admin: bool) -> LoadJob | None:
    """The load that makes `name` ready, begun when needed; None when it is ready. Raises BerthError."""
    record = core.registry.find(name)
    if record is not None:
        if record.state is State.READY:
            return None
        if record.state is State.FAILED and not admin:
            raise NotAllowed(f"{name} has failed. Starting it again needs the admin key.")
        return core.registry.start_load(record.spec, admin=admin)
    entry = core.catalog.get(name)
    if entry is None:
        raise ModelNotFound(f"There is no model `{name}` here. Load it on the Models tab, or choose another.")
    return core.registry.start_load(entry.spec, admin=admin)


async def follow(core: Core, job: LoadJob) -> AsyncGenerator[dict[str, Any], None]:
    """The model as it stands at each step, at most ten times a second. Raises the load's error at its end."""
    stage, last = "", 0.0
    events = job.events()
    async with contextlib.aclosing(events):  # type: ignore[type-var]
        async for event in events:
            now = time.monotonic()
            if event.stage == stage and not event.is_last and now - last < _INTERVAL_S:
                continue
            stage, last = event.stage, now
            record = core.registry.find(job.model)
            if record is not None:
                yield plain_model(core.model(job.model))
    job.done.result()


async def make_ready(core: Core, name: str, *, admin: bool) -> AsyncGenerator[dict[str, Any], None]:
    """Loads `name` when it is not in memory. Yields the model while it loads; nothing when it is ready."""
    job = start(core, name, admin=admin)
    if job is not None:
        async with contextlib.aclosing(follow(core, job)) as steps:
            async for model in steps:
                yield model
