"""The whole server as its users start it: `python app.py` in a process of its own, on a free port."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[2]
_ADDRESS = re.compile(r"Berth .* is at (http://\S+)")


@contextlib.asynccontextmanager
async def running(
    data_dir: Path, key: str | None = None, program: Sequence[str] = ("app.py",), **environment: str
) -> AsyncIterator[str]:
    """The server's address, once its page answers; the server ends with the block."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("BERTH_", "HF_", "GRADIO_"))}
    settings = {"BERTH_DATA_DIR": str(data_dir), "BERTH_THREADS": "1", "HF_HOME": str(data_dir / "hf"), "PORT": "0"}
    log = data_dir / "server.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            sys.executable, *program, cwd=ROOT, env={**kept, **settings, **environment},
            stdout=asyncio.subprocess.PIPE, stderr=errors,
        )  # fmt: skip
    try:
        yield await _address(process, log, {"X-API-Key": key} if key else {})
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def _address(process: asyncio.subprocess.Process, log: Path, headers: dict[str, str]) -> str:
    assert process.stdout is not None
    async for line in process.stdout:
        if found := _ADDRESS.match(line.decode()):
            async with httpx.AsyncClient(headers={"Accept": "text/html", **headers}, timeout=60) as client:
                while (await client.get(found[1])).status_code == 503:  # the page is still being imported
                    await asyncio.sleep(0.1)
            return found[1]
    raise AssertionError(f"the server did not start:\n{log.read_text()}")
