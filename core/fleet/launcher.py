"""Starts worker processes: by the fork server within milliseconds, or a fresh Python where forking will not do."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from core.errors import WorkerCrashed
from core.settings import PROJECT
from core.types import Runtime

log = logging.getLogger(__name__)

_FORK_SERVER = "core.worker.forkserver"
_WORKER = "core.worker.main"
_LOG_TAIL = 16 * 1024  # bytes of a worker's output that are kept, to say why it died
_PACKET = 65536
_LINE = 1000  # bytes of a line that are passed on
_LINES_A_SECOND = 50

# what the heavy libraries must know before they are imported
_ENVIRONMENT = {
    "PYTORCH_NVML_BASED_CUDA_CHECK": "1",  # asking whether there is a GPU must not touch CUDA
    "CUDA_DEVICE_ORDER": "PCI_BUS_ID",  # GPUs have the numbers that NVML gives them
    "PYTORCH_ALLOC_CONF": "expandable_segments:True",
    "GGML_NO_BACKTRACE": "1",  # llama.cpp would start a debugger in a process that it aborts
    "TOKENIZERS_PARALLELISM": "false",  # its thread pool does not survive a fork
    "GOMP_SPINCOUNT": "10000",  # threads that wait must not hold a core that another model needs: bench/README.md
    "OPENBLAS_NUM_THREADS": "1",  # numpy's own pool would be started at import
    "HF_HUB_OFFLINE": "1",  # workers load what was fetched; they never open a connection
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "PYTHONUNBUFFERED": "1",
}
# a worker has no use for secrets
_SECRETS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "BERTH_ADMIN_KEY", "BERTH_API_KEYS", "DATABASE_URL")


@dataclass(eq=False)
class Process:
    """A worker as an operating system process."""

    pid: int
    sock: socket.socket
    exited: asyncio.Future[int]  # exit status; negative: the signal
    output: deque[bytes] = field(default_factory=deque)  # the newest of what it printed

    def kill(self) -> None:
        """Ends it now. Safe to call on one that has ended."""
        if not self.exited.done():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    @property
    def last_words(self) -> str:
        """The last line that it printed, for an error message; empty if none."""
        lines = b"".join(self.output).decode(errors="replace").strip().splitlines()
        return lines[-1][:300] if lines else ""


class Lines:
    """Passes what a worker prints on to the log: whole lines, cut, and only so many a second."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._rest = b""
        self._second = 0
        self._left = _LINES_A_SECOND

    def feed(self, chunk: bytes) -> None:
        *lines, rest = (self._rest + chunk).split(b"\n")
        self._rest = rest[:_LINE]
        if self._second != (now := int(time.monotonic())):
            self._second, self._left = now, _LINES_A_SECOND
        for line in lines[: self._left]:
            text = line[:_LINE].decode(errors="replace").encode("unicode_escape").decode("ascii")
            log.info("worker %d: %s", self._pid, text)
        self._left = max(0, self._left - len(lines))


class Launcher:
    """Owns the fork server. One is started ahead of the first model and again whenever it has died."""

    def __init__(self, fork_server: str = _FORK_SERVER, worker: str = _WORKER, visible_gpus: str | None = None) -> None:
        self._visible_gpus = visible_gpus  # as CUDA_VISIBLE_DEVICES has them; `.env` may have said it
        self._fork_server = fork_server  # modules; a test names some with runtimes that fail on purpose
        self._worker = worker
        self.warm = asyncio.Event()  # everything that can be preloaded is
        self.unavailable: dict[str, str] = {}  # module → why it does not import
        self._server: asyncio.subprocess.Process | None = None
        self._control: socket.socket | None = None
        self._calls: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._exits: dict[int, asyncio.Future[int]] = {}
        self._numbers = 0
        self._must_spawn = False
        self._starting = asyncio.Lock()  # one fork server at a time
        self._tasks: set[asyncio.Task[Any]] = set()

    async def start(self) -> None:
        """Starts the fork server and returns; the libraries are imported meanwhile."""
        async with self._starting:
            if self._control is not None:
                return
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                self._server = await asyncio.create_subprocess_exec(
                    sys.executable, "-P", "-m", self._fork_server, str(theirs.fileno()),
                    pass_fds=[theirs.fileno()], env=_worker_environment(self._visible_gpus),
                    stdin=asyncio.subprocess.DEVNULL,
                    start_new_session=True,  # Ctrl+C reaches the front process alone
                )  # fmt: skip
            ours.setblocking(False)
            self._control = ours
            asyncio.get_running_loop().add_reader(ours, self._read)

    async def stop(self) -> None:
        """Ends the fork server, and with it every worker that is left."""
        self._lose_server()
        if self._server is not None:
            # it may be in the middle of an import; workers that are left get SIGKILL from the kernel when it goes
            with contextlib.suppress(ProcessLookupError):
                self._server.kill()
            await self._server.wait()
        for task in list(self._tasks):
            task.cancel()

    async def launch(self, runtime: Runtime, *, quantizes: bool = False) -> Process:
        """A worker ready to be sent its load. Raises WorkerCrashed when no process can be had."""
        await self.start()
        ours, theirs = socket.socketpair()
        log_read, log_write = os.pipe()
        try:
            if not self._must_spawn:
                pid, exited = await self._fork(runtime, quantizes, theirs.fileno(), log_write)
            if self._must_spawn:
                pid, exited = await self._spawn(theirs.fileno(), log_write)
        except BaseException:
            ours.close()
            os.close(log_read)
            raise
        finally:
            theirs.close()
            os.close(log_write)
        process = Process(pid, ours, exited)
        self._keep(self._collect(process, log_read))
        return process

    async def _fork(
        self, runtime: Runtime, quantizes: bool, worker_fd: int, log_fd: int
    ) -> tuple[int, asyncio.Future[int]]:
        self._numbers += 1
        number = self._numbers
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._calls[number] = answer
        request = json.dumps({"op": "fork", "id": number, "runtime": runtime, "quantizes": quantizes}).encode()
        try:
            assert self._control is not None
            socket.send_fds(self._control, [request], [worker_fd, log_fd])
            reply = await answer
        except OSError as error:
            raise WorkerCrashed(f"No process for the model could be started: {error}. Try again.") from error
        finally:
            self._calls.pop(number, None)
        if reply["op"] == "failed":
            raise WorkerCrashed(f"No process for the model could be started: {reply['reason']}. Try again.")
        if reply["op"] == "refused":
            log.warning("models are started as fresh processes, which takes seconds: %s", reply["reason"])
            self._must_spawn = True
            return 0, asyncio.get_running_loop().create_future()
        return reply["pid"], self._exits[reply["pid"]]

    async def _spawn(self, worker_fd: int, log_fd: int) -> tuple[int, asyncio.Future[int]]:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", self._worker, str(worker_fd),
            pass_fds=[worker_fd], env=_worker_environment(self._visible_gpus), stdin=asyncio.subprocess.DEVNULL,
            stdout=log_fd, stderr=log_fd, start_new_session=True,
        )  # fmt: skip
        exited: asyncio.Future[int] = asyncio.ensure_future(child.wait())
        return child.pid, exited

    def _read(self) -> None:
        """Messages of the fork server, or its end."""
        assert self._control is not None
        packet = b""
        with contextlib.suppress(ConnectionResetError):
            packet = self._control.recv(_PACKET)
        if packet:
            self._take(json.loads(packet))
        else:
            log.error("the fork server has ended; the next model starts another")
            self._lose_server()

    def _take(self, message: dict[str, Any]) -> None:
        match message["op"]:
            case "forked":
                self._exits[message["pid"]] = asyncio.get_running_loop().create_future()
                self._answer(message)
            case "refused" | "failed":
                self._answer(message)
            case "exited":
                exited = self._exits.pop(message["pid"])
                if not exited.done():
                    exited.set_result(message["status"])
            case "warm":
                self.unavailable = message["failed"]
                self.warm.set()
                for module, reason in self.unavailable.items():
                    log.warning("%s does not import: %s", module, reason)

    def _answer(self, message: dict[str, Any]) -> None:
        call = self._calls.get(message["id"])
        if call is not None and not call.done():
            call.set_result(message)

    def _lose_server(self) -> None:
        """The fork server's end is also its workers' (they die with their parent)."""
        if self._control is not None:
            asyncio.get_running_loop().remove_reader(self._control)
            self._control.close()
            self._control = None
        self.warm.clear()
        for call in self._calls.values():
            if not call.done():
                call.set_exception(WorkerCrashed("The process that starts models has ended. Try again."))
        for exited in self._exits.values():
            if not exited.done():
                exited.set_result(-signal.SIGKILL)
        self._exits.clear()

    async def _collect(self, process: Process, log_fd: int) -> None:
        """Reads what the worker prints, so that it never blocks on it, and keeps the end."""
        reader = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(log_fd, "rb", 0)
        )
        kept = 0
        lines = Lines(process.pid)
        try:
            while chunk := await reader.read(_LOG_TAIL):
                lines.feed(chunk)
                process.output.append(chunk)
                kept += len(chunk)
                while kept - len(process.output[0]) > _LOG_TAIL:
                    kept -= len(process.output.popleft())
        finally:
            transport.close()

    def _keep(self, coroutine: Any) -> None:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _worker_environment(visible_gpus: str | None) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in _SECRETS}
    places = [str(PROJECT), *filter(None, [kept.get("PYTHONPATH")])]  # wherever the server was started
    gpus = {} if visible_gpus is None else {"CUDA_VISIBLE_DEVICES": visible_gpus}
    return {**kept, **_ENVIRONMENT, **gpus, "PYTHONPATH": os.pathsep.join(places)}
