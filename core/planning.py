"""The plan of a load on this machine as it is at this moment."""

from __future__ import annotations

import asyncio
import time

from core.errors import HubBusy
from core.fleet.registry import Registry
from core.hub import Hub
from core.memory.plan import make_plan
from core.settings import Settings
from core.types import ModelSpec, Plan, State

_INSPECT_S = 60  # seconds that telling what a repository is may take


async def plan_load(spec: ModelSpec, hub: Hub, registry: Registry, settings: Settings, *, admin: bool) -> Plan:
    """Whether `spec` fits beside the models in memory. Raises what inspecting it raises."""
    try:
        async with asyncio.timeout(_INSPECT_S):
            inspection = await hub.inspect(spec, admin=admin)
    except TimeoutError:
        raise HubBusy(f"The Hub did not say within {_INSPECT_S} s what {spec.source} is. Try again.") from None
    await registry.room.budgets()  # looks at the devices
    ledger, now = registry.room.ledger, time.monotonic()
    loaded = [record for record in registry.records() if record.state is State.READY and record.worker]
    return make_plan(
        inspection,
        settings,
        ledger,
        [record.tenant(now) for record in loaded],
        [device for device in ledger.limits if device != "cpu"],
        await asyncio.to_thread(hub.disk_free),
        registry.room.calibration,
    )
