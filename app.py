"""Where it all comes together: settings, core, API and page; and the command line. `python app.py --help`.

Also importable as `uvicorn app:app`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import uvicorn
from fastapi import FastAPI

from api import create_api
from api.protocol import Protocol
from core.access import Access
from core.core import VERSION, Core
from core.errors import InvalidRequest
from core.settings import PROJECT, Settings, read_settings

log = logging.getLogger("berth")

_CLOSE_S = 3  # seconds that open connections (a page in a browser keeps one) may hold up the end
# A connection at rest is kept longer than clients keep theirs (httpx: 5 s): a request that is sent just when the server
# hangs up would be lost.
_KEEP_ALIVE_S = 75
_M_ARENA_MAX = -8  # of glibc's mallopt
_CODE = ("api", "core", "ui")  # what `--reload` watches: not .venv, whose files are many


def create_app(settings: Settings | None = None) -> FastAPI:
    """The whole server as an ASGI application. Raises InvalidRequest when the settings cannot be read."""
    settings = settings or read_settings()
    _share_freed_memory()
    core, access = Core(settings), Access(settings)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        if access.made_key is not None:
            print(f"Admin key, made for this run (set BERTH_ADMIN_KEY to choose it): {access.made_key}", flush=True)
        await core.start()
        page = asyncio.create_task(_serve_page(app, core))
        try:
            yield
        finally:
            page.cancel()
            await asyncio.wait([page])
            await core.stop()

    app = create_api(core, access, lifespan)
    app.state.core = core
    app.state.waiting_for = "The page is starting. Try again in a moment."
    return app


def _share_freed_memory() -> None:
    """What one thread has freed, all may use: else each that ever read a large model's header keeps megabytes."""
    with contextlib.suppress(AttributeError):  # another C library than glibc
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


async def _serve_page(app: FastAPI, core: Core) -> None:
    """Mounts the page and runs it until cancelled. Beside the API, since importing Gradio takes seconds."""
    try:
        await asyncio.to_thread(_mount_page, app, core)
        async with app.router.lifespan_context(app):
            app.state.waiting_for = None
            await asyncio.Event().wait()
    except Exception:
        app.state.waiting_for = "The page could not be started; the server's log says why. The API works."
        log.exception("the page could not be started")


def _mount_page(app: FastAPI, core: Core) -> None:
    """Leaves the page's own lifespan as that of `app`, which has entered its own already."""
    for name in ("GRADIO_ANALYTICS_ENABLED", "HF_HUB_DISABLE_TELEMETRY"):  # read when Gradio is imported
        os.environ.setdefault(name, "False" if name.startswith("GRADIO") else "1")
    import ui

    app.router.lifespan_context = _nothing
    ui.mount(app, core)


@contextlib.asynccontextmanager
async def _nothing(app: FastAPI) -> AsyncIterator[None]:
    yield


class Server(uvicorn.Server):
    """uvicorn that drains before it closes its socket: meanwhile `/ready` and new work are told so by a 503."""

    def __init__(self, config: uvicorn.Config, core: Core) -> None:
        super().__init__(config)
        self._core = core
        self._draining: asyncio.Task[None] | None = None

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        if self.started:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            print(f"Berth {VERSION} is at http://{shown}:{port}", flush=True)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._on_signal)
        yield

    def _on_signal(self) -> None:
        if self._draining is not None:
            os._exit(1)  # asked twice; the workers end with this process
        self._draining = asyncio.create_task(self._drain())

    async def _drain(self) -> None:
        await self._core.registry.stop()
        self.should_exit = True


def serve(settings: Settings) -> None:
    """Serves until SIGINT or SIGTERM."""
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http=Protocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,  # api/edge.py writes a line with the request's id
        server_header=False,
        timeout_graceful_shutdown=_CLOSE_S,
        timeout_keep_alive=_KEEP_ALIVE_S,
    )
    Server(config, app.state.core).run()


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="app.py", description="Berth: many models, one server.")
    parser.add_argument("--model-path", "--model_path", help="model to load: a directory, file or Hub id (MODEL_PATH)")
    for bits in ("8bit", "4bit"):
        parser.add_argument(
            f"--load-in-{bits}",
            f"--load_in_{bits}",
            action="store_true",
            default=None,
            help=f"load it quantised by bitsandbytes (LOAD_IN_{bits.upper()})",
        )
    parser.add_argument("--host", help="address to listen on (HOST)")
    parser.add_argument("--port", type=int, help="port to listen on, 0 for any (PORT)")
    parser.add_argument("--log-level", "--log_level", help="DEBUG, INFO, WARNING or ERROR (LOG_LEVEL)")
    parser.add_argument("--reload", action="store_true", help="start again whenever a file of api, core or ui changes")
    given = vars(parser.parse_args(argv))
    reload = given.pop("reload")
    try:
        settings = read_settings(**given)
    except InvalidRequest as error:
        print(error.message, file=sys.stderr)
        return 2
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        print(f"The data directory `{settings.data_dir}` cannot be made: {error.strerror}. Set BERTH_DATA_DIR to one "
              "that can be written.", file=sys.stderr)  # fmt: skip
        return 2
    logging.basicConfig(level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    if reload:
        said = {name.upper(): str(value) for name, value in given.items() if value is not None}
        os.environ.update(said, HOST=settings.host, PORT=str(settings.port))  # the new process reads them
        watched = [str(PROJECT / name) for name in _CODE]
        uvicorn.run("app:app", host=settings.host, port=settings.port, reload=True, reload_dirs=watched)
    else:
        serve(settings)
    return 0


def __getattr__(name: str) -> FastAPI:
    if name == "app":  # made only when asked for: `uvicorn app:app` does, `python app.py` and the tests do not
        return create_app()
    raise AttributeError(name)


if __name__ == "__main__":
    sys.exit(main())
