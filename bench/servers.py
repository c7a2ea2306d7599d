"""Servers under measurement, each a process of its own on a free port of this machine."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import psutil

from bench.clients import answer_of, get

ROOT = Path(__file__).resolve().parent.parent


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


async def until_healthy(port: int, seconds: float = 120) -> float:
    """Waits until `/health` answers 200; the seconds that took."""
    started = time.perf_counter()
    async with asyncio.timeout(seconds):
        while True:
            with contextlib.suppress(OSError, RuntimeError, asyncio.IncompleteReadError):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(get("/health"))
                await answer_of(reader)
                writer.close()
                return time.perf_counter() - started
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def process(*command: str, **environment: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """`command` running for the length of the block, its output thrown away."""
    child = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, env={**os.environ, **environment},
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield child
    finally:
        if child.returncode is None:
            child.terminate()
            await child.wait()


async def until_settled(server: psutil.Process) -> None:
    """Waits until the page is there and the libraries are imported: until nothing uses the processor any more."""
    before = -1.0
    while True:
        processes = [server, *server.children(recursive=True)]
        now = sum(sum(process.cpu_times()[:2]) for process in processes)
        if now - before < 0.1:  # seconds of a core in the last one; the idle page takes 0.03
            return
        before = now
        await asyncio.sleep(1)


@contextlib.asynccontextmanager
async def berth(models: Path | None = None, **environment: str) -> AsyncIterator[tuple[int, psutil.Process]]:
    """Berth, started and settled, with `models` as its models directory and this environment: port and process."""
    port = free_port()
    with tempfile.TemporaryDirectory() as data:
        environment |= {"PORT": str(port), "HOST": "127.0.0.1", "BERTH_DATA_DIR": data, "LOG_LEVEL": "WARNING"}
        if models:
            environment["BERTH_MODELS_DIR"] = str(models)
        async with process(sys.executable, "app.py", **environment) as child:
            await until_healthy(port)
            server = psutil.Process(child.pid)
            await until_settled(server)
            yield port, server
