"""The plan of a load on this machine as it is at this moment."""

from __future__ import annotations

import asyncio

from core.errors import HubBusy
from core.fleet.registry import Registry
from core.hub import Hub
from core.types import ModelSpec, Plan

_INSPECT_S = 60  # seconds that telling what a repository is may take


async def plan_load(spec: ModelSpec, hub: Hub, registry: Registry, *, admin: bool) -> Plan:
    """Whether `spec` fits beside the models in memory. Raises what inspecting it raises."""
    try:
        async with asyncio.timeout(_INSPECT_S):
            inspection = await hub.inspect(spec, admin=admin)
    except TimeoutError:
        raise HubBusy(f"The Hub did not say within {_INSPECT_S} s what {spec.source} is. Try again.") from None
    await registry.room.budgets()  # looks at the devices
    return registry.room.plan(inspection, await asyncio.to_thread(hub.disk_free))
