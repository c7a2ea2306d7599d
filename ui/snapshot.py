"""What the page knows of the models and the machine at one moment, as plain values."""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict
from typing import Any

import gradio as gr

from core.access import Role
from core.core import Core
from core.fleet.eviction import Eviction
from core.hub.catalog import CatalogEntry
from core.views import ModelView
from ui.guard import role_of
from ui.panel import panel

_EVICTIONS = 5  # that the page tells of
_FRESH_S = 2.0  # how long a look at memory is good for


def plain_model(model: ModelView) -> dict[str, Any]:
    """Enumerations become strings; `measured` is in bytes over all devices."""
    progress = model.progress
    return {
        "name": model.name,
        "source": model.source,
        "revision": model.revision,
        "state": str(model.state),
        "task": str(model.task) if model.task else None,
        "tasks": [str(task) for task in model.tasks],
        "runtime": str(model.runtime) if model.runtime else None,
        "quantization": str(model.quantization) if model.quantization else None,
        "device": model.device,
        "dtype": model.dtype,
        "architecture": model.architecture,
        "labels": list(model.labels),
        "context_length": model.context_length,
        "dimension": model.dimension,
        "parameters": model.parameters,
        "warnings": list(model.warnings),
        "pid": model.pid,
        "promised": model.promised,
        "measured": model.measured_bytes,
        "devices": dict(model.measured),
        "waiting": model.waiting,
        "served": model.served,
        "last_error": model.last_error,
        "progress": asdict(progress) if progress else None,
    }


def plain_entry(entry: CatalogEntry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "source": entry.source,
        "task": str(entry.task),
        "en": entry.description_en,
        "ko": entry.description_ko,
        "starter": entry.starter,
        "size_bytes": entry.size_bytes,
    }


def plain_eviction(eviction: Eviction) -> dict[str, Any]:
    return {
        "model": eviction.model,
        "at": eviction.at.timestamp(),
        "cause": str(eviction.cause),
        "for": eviction.wanted_by,
        "freed": sum(eviction.released.freed.values()),
    }


class Watch:
    """Looks at the models and the machine for every open page; many pages asking at once cost one look."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._machine: list[dict[str, Any]] = []
        self._looked = float("-inf")  # monotonic seconds
        self._looking = asyncio.Lock()  # one look at a time

    def feed(self) -> gr.HTML:
        """The panel, out of sight, through which the page learns; put it where the page is built."""

        async def snapshot(_: Any, request: gr.Request) -> dict[str, Any]:
            return await self.look(role_of(request))

        # the catalogue does not change while the server runs, so it travels with the page
        value = {
            "catalog": [plain_entry(entry) for entry in self._core.catalog.entries],
            "needsKey": bool(self._core.settings.api_keys),
        }
        return panel("feed", value, server_functions=[snapshot])

    async def look(self, role: Role) -> dict[str, Any]:
        """Everything that moves. Waits for no model."""
        async with self._looking:
            if time.monotonic() - self._looked >= _FRESH_S:
                await self._core.measure()
                limits = await self._core.registry.room.budgets()
                self._machine = await asyncio.to_thread(self._devices, limits)
                self._looked = time.monotonic()
        return {
            "models": [plain_model(model) for model in self._core.models()],
            "machine": self._machine,
            "history": [[round(moment.at), moment.used] for moment in self._core.history.moments],
            "evictions": [plain_eviction(each) for each in reversed(self._core.registry.room.evictions)][:_EVICTIONS],
            "role": role.name.lower(),
        }

    def _devices(self, limits: dict[str, dict[str, int]]) -> list[dict[str, Any]]:
        probe = self._core.probe
        return [
            {
                "device": each.device,
                "name": each.name,
                "total": each.total,
                "used": each.used,
                "limit": limits[each.device]["limit"] if each.device in limits else None,
            }
            for each in (probe.host(), *probe.gpus())
        ]
