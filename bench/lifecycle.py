"""Start-up, loading, and what a hundred loads leave behind.

    python -m bench.lifecycle

Prints seconds from `python app.py` to a served /health, the front process's memory, seconds from a load call to
ready for a starter model, what 100 loads and unloads leave (processes, threads, descriptors, shared memory and bytes),
and how busy the front process is when nobody asks.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import psutil

from bench.clients import drive, post
from bench.servers import berth, free_port, process, until_healthy, until_settled

MIB = 1024 * 1024
STARTER = {"model_name": "starter-sentiment", "model_path": "starter:sentiment"}
CYCLES = 100
REST_S = 10


async def held(front: psutil.Process) -> dict[str, int]:
    """What the server has open once it has seen the last client leave."""
    await until_settled(front)
    return {
        "processes": len(front.children(recursive=True)),
        "threads": front.num_threads(),
        "descriptors": front.num_fds(),
        "shared memory": len(os.listdir("/dev/shm")),
        "bytes": front.memory_full_info().uss,
    }


async def cycle(port: int) -> float:
    """One load and unload; seconds from the call to ready."""
    started = time.perf_counter()
    await drive(port, [post("/models/load?wait=true", STARTER)], 1)
    seconds = time.perf_counter() - started
    await drive(port, [post("/models/starter-sentiment/predict", {"text": "좋아요"})], 1)
    await drive(port, [post("/models/starter-sentiment/unload", {})], 1)
    return seconds


async def at_rest(front: psutil.Process) -> float:
    """Share of a core that the front process takes while nobody asks for anything."""
    before = front.cpu_times()
    await asyncio.sleep(REST_S)
    after = front.cpu_times()
    return (after.user + after.system - before.user - before.system) / REST_S


async def start_up() -> float:
    """Seconds from the command to a served /health."""
    port = free_port()
    with tempfile.TemporaryDirectory() as data:
        started = time.perf_counter()
        async with process(sys.executable, "app.py", PORT=str(port), HOST="127.0.0.1", BERTH_DATA_DIR=data):
            await until_healthy(port)
            return time.perf_counter() - started


async def main() -> None:
    starts = [await start_up() for _ in range(5)]
    print(f"`python app.py` to a served /health: median {statistics.median(starts):.2f} s, worst {max(starts):.2f} s")
    async with berth() as (port, front):
        memory = front.memory_full_info()
        print(f"front process after start: {memory.rss / MIB:.0f} MiB resident, {memory.uss / MIB:.0f} MiB its own")
        libraries = Path(f"/proc/{front.pid}/maps").read_text()
        print(f"front process has torch mapped: {'libtorch' in libraries}")
        await cycle(port)
        loads = [await cycle(port) for _ in range(5)]
        print(f"load call to ready, starter, warm fork server: median {statistics.median(loads):.2f} s, "
              f"worst {max(loads):.2f} s")  # fmt: skip
        before = await held(front)
        for _ in range(CYCLES):
            await cycle(port)
        after = await held(front)
        print(f"front process at rest: {await at_rest(front):.1%} of a core")
        left = ", ".join(f"{name} {after[name] - before[name]:+d}" for name in before if name != "bytes")
        print(f"{CYCLES} loads and unloads leave: {left}, {(after['bytes'] - before['bytes']) / MIB:+.1f} MiB")


if __name__ == "__main__":
    asyncio.run(main())
