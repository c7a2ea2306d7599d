"""A server of one's own: the real application on a free port, in this process and on this event loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI

from api import create_api
from api.protocol import Protocol
from core.access import Access
from core.core import Core

JSON = {"Content-Type": "application/json"}


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # signals are the test run's


@dataclass
class Served:
    """`core` behind HTTP at `url`. `log` holds what it has logged since it started."""

    app: FastAPI
    core: Core
    access: Access
    url: str
    client: httpx.AsyncClient
    log: list[logging.LogRecord] = field(default_factory=list)

    async def load(self, *names: str, **fields: Any) -> None:
        """Each from the directory of its name, and waits until it is ready."""
        for name in names:
            body = {"model_name": name, "model_path": name, **fields}
            answer = await self.client.post("/models/load?wait=true", json=body)
            assert answer.status_code == 200, answer.text

    async def predict(self, name: str, text: str, **fields: Any) -> httpx.Response:
        return await self.client.post(f"/models/{name}/predict", json={"text": text, **fields})

    @property
    def statuses(self) -> list[int]:
        """Of every answer so far."""
        return [record.args[2] for record in self.log if record.name == "api.access" and record.args]  # type: ignore[index]


class _Keeper(logging.Handler):
    def __init__(self, kept: list[logging.LogRecord]) -> None:
        super().__init__()
        self._kept = kept

    def emit(self, record: logging.LogRecord) -> None:
        self._kept.append(record)


@contextlib.asynccontextmanager
async def serve(core: Core, access: Access | None = None) -> AsyncIterator[Served]:
    """Starts `core` and serves it until the block ends; then nothing of it is left."""
    access = access or Access(core.settings)
    app = create_api(core, access)
    server = _Server(
        uvicorn.Config(
            app,
            port=0,
            http=Protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=1,
            timeout_keep_alive=60,  # httpx lets a connection rest for 5 s, as uvicorn does: both would end it at once
        )
    )
    await core.start()
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
        assert not serving.done()
    url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        served = Served(app, core, access, url, client)
        with _kept_log(served.log):
            yield served
    server.should_exit = True
    await serving
    await core.stop()


@contextlib.contextmanager
def _kept_log(kept: list[logging.LogRecord]) -> Iterator[None]:
    handler, root = _Keeper(kept), logging.getLogger()
    root.addHandler(handler)
    logging.getLogger("api.access").setLevel(logging.INFO)  # for good: servers overlap
    try:
        yield
    finally:
        root.removeHandler(handler)
