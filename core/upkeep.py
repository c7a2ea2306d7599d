"""What an operator asks of the machine: memory that is held for nothing, and a disk that can be written."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

from core.errors import BerthError
from core.fleet.registry import Registry
from core.types import State


async def cleanup(registry: Registry, timeout_s: float) -> dict[str, int]:
    """Gives back what is held for nothing: models that failed, and caches of idle workers. Bytes by device."""
    freed: dict[str, int] = {}
    for record in registry.records():
        if record.state is State.FAILED:
            for device, size in (await registry.unload(record.name)).items():
                freed[device] = freed.get(device, 0) + size
        elif record.state is State.READY and record.leases == 0 and (worker := record.worker) is not None:
            before = await registry.measure(record)
            with contextlib.suppress(BerthError):  # unloaded, or dead, meanwhile: it holds nothing any more
                await worker.call("trim", deadline_s=timeout_s)
            after = await registry.measure(record)
            for device in before:
                freed[device] = freed.get(device, 0) + max(0, before[device] - after.get(device, 0))
    return freed


def unwritable(directory: Path) -> str | None:
    """Why the data directory cannot be written; None when it can."""
    try:
        with tempfile.TemporaryFile(dir=directory) as file:
            file.write(b"ok")
    except OSError as error:
        return f"The data directory cannot be written: {error.strerror}. Free space or set BERTH_DATA_DIR."
    return None
