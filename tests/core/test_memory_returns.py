"""Load, use, unload, again and again: what the processes hold, and what they have open, is as it was before."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from core.core import Core
from core.settings import Settings
from core.types import ModelSpec, Prompt, Quantization, Sampling

ROUNDS = 4
ALLOWED = 0.01  # of what was held before
SPECS = (
    ModelSpec("quantised", "starter:sentiment", quantization=Quantization.NF4),
    ModelSpec("gguf", "starter:chat", file="chat-q8_0.gguf"),
    ModelSpec("onnx", "starter:chat", file="onnx/model.onnx"),
)


@dataclass(frozen=True)
class Held:
    size: int  # bytes of memory of this process and the fork server, each page counted once
    processes: int
    descriptors: int
    shared_files: int


@pytest.fixture
async def core(tmp_path) -> AsyncIterator[Core]:
    core = Core(Settings(_env_file=None, models_dir=tmp_path, data_dir=tmp_path / "data", offline=True, threads=1))
    await core.start()
    async with asyncio.timeout(100):
        await core.launcher.warm.wait()
    yield core
    await core.stop()


def counted_once(pid: int) -> int:
    """Not the pages of files: how many of those count as a process's depends on who else has the file open."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    sizes = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines[1:])}
    return (sizes["Pss_Anon"] + sizes["Pss_Shmem"]) * 1024


def held() -> Held:
    gc.collect()
    family = [psutil.Process(), *psutil.Process().children(recursive=True)]
    return Held(
        size=sum(counted_once(each.pid) for each in family),
        processes=len(family),
        descriptors=sum(each.num_fds() for each in family),
        shared_files=sum(path.stat().st_uid == os.getuid() for path in Path("/dev/shm").iterdir()),
    )


async def cycle(core: Core, spec: ModelSpec) -> None:
    await (await core.load(spec)).done
    record = core.registry.get(spec.name)
    if record.info.tasks[0].generates:
        await core.complete(Prompt(text="Hello"), Sampling(max_tokens=8, ignore_eos=True), spec.name)
    else:
        await core.predict(spec.name, ["좋아요", "What a wonderful day!"], {})
    released = await core.registry.release(spec.name)
    assert released.freed["cpu"] > 0
    assert released.left == {}


async def test_after_many_loads_all_is_as_after_the_first(core: Core) -> None:
    for spec in SPECS:  # bitsandbytes comes into the fork server with the first that is quantised
        await cycle(core, spec)
    before = held()
    for _ in range(ROUNDS):
        for spec in SPECS:
            await cycle(core, spec)
    after = held()
    assert after.size < before.size * (1 + ALLOWED)
    assert (after.processes, after.shared_files) == (before.processes, before.shared_files)
    assert after.descriptors <= before.descriptors
