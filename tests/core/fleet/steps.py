"""What tests of a registry do with a model."""

import asyncio
from pathlib import Path

from core.types import Task


async def ready(registry, spec):
    job = await registry.load(spec)
    await job.done
    await asyncio.sleep(0)  # what the registry does of its own when a load has ended
    return registry.get(spec.name)


async def ask(registry, name, *texts, deadline_s=20):
    async with registry.lease(name) as record:
        return await record.worker.call(
            "run", deadline_s=deadline_s, task=Task.TEXT_CLASSIFICATION, items=list(texts), params={}
        )


def release(fifo: Path) -> None:
    """Lets a model that waits on `fifo` go on."""
    fifo.write_bytes(b"go")
