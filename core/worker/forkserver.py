"""The fork server: imports the heavy libraries once, then forks a worker for each model within milliseconds.

Run as `python -m core.worker.forkserver FD`, FD a SOCK_SEQPACKET socket to the front process. One JSON message a
packet: `{"op": "fork", "id", "runtime", "quantizes"}` with two descriptors beside it (the worker's socket, its log
pipe) → `{"op": "forked", "id", "pid"}`; `{"op": "exited", "pid", "status"}` whenever a child ends. Imports happen in
small steps between messages, what a waiting fork needs first, so that the first model of a fresh start does not
wait for libraries it does not use. CUDA is never touched here: a child of a process with a CUDA context cannot
use CUDA. The front process gone means end of file here, and then every worker is killed.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
from collections import deque
from collections.abc import Callable
from typing import Any

from core.types import Runtime
from core.worker.runtimes import PRELOADS, QUANTIZING

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)


class ForkServer:
    """One thread, one socket; owns the children."""

    def __init__(
        self,
        control: socket.socket,
        preloads: dict[Runtime, tuple[str, ...]] = PRELOADS,
        quantizing: tuple[str, ...] = QUANTIZING,
        serve: Callable[[socket.socket], None] | None = None,
    ) -> None:
        self._control = control
        self._preloads = preloads
        self._quantizing = quantizing
        self._serve_model = serve  # None: `core.worker.main.serve`, imported in the worker
        self._children: set[int] = set()
        self._pending: deque[str] = deque()  # modules still to import, in order
        for modules in preloads.values():
            self._pending.extend(name for name in modules if name not in self._pending)
        self._failed: dict[str, str] = {}  # module → why it does not import
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)

    def serve(self) -> None:
        """Until the front process closes its end."""
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        for ignored in (signal.SIGINT, signal.SIGTERM):  # the front process decides when workers stop
            signal.signal(ignored, signal.SIG_IGN)
        while True:
            # with nothing left to import there is nothing to do but wait
            watched = [self._control.fileno(), self._wake_read]
            ready, _, _ = select.select(watched, [], [], 0 if self._pending else None)
            if self._wake_read in ready:
                self._drain_wake()
                self._reap()
            if self._control.fileno() in ready:
                if not self._answer():
                    return self._kill_all()
            elif not ready and self._pending:
                self._import(self._pending.popleft())
                if not self._pending:
                    self._send({"op": "warm", "failed": self._failed})

    def _answer(self) -> bool:
        """One message from the front process; False at end of file."""
        try:
            packet, fds, _, _ = socket.recv_fds(self._control, 65536, 2)
        except ConnectionResetError:
            return False
        if not packet:
            return False
        message = json.loads(packet)
        try:
            for module in self._preloads[Runtime(message["runtime"])]:
                if module in self._pending:
                    self._pending.remove(module)
                    self._import(module)
            if message["quantizes"] and not _has_gpu():
                for module in self._quantizing:
                    self._import(module)
            self._fork(message["id"], fds)
        except OSError as error:  # no more processes or memory: this model does not start, the others go on
            self._send({"op": "failed", "id": message["id"], "reason": str(error)})
        finally:
            for fd in fds:
                os.close(fd)
        return True

    def _import(self, module: str) -> None:
        try:
            importlib.import_module(module)
        except Exception as error:  # a missing library makes one runtime unavailable, not the server
            self._failed[module] = f"{type(error).__name__}: {error}"

    def _fork(self, call_id: int, fds: list[int]) -> None:
        if _cuda_touched():
            self._send({"op": "refused", "id": call_id, "reason": "a library has touched CUDA in the fork server"})
            return
        if len(fds) != 2:
            raise OSError("its descriptors did not arrive; too many files are open")
        parent = os.getpid()
        gc.freeze()  # a collection in the worker would write to every object, and so copy every page that is shared
        pid = os.fork()
        if pid == 0:
            self._become_worker(parent, *fds)
        self._children.add(pid)
        self._send({"op": "forked", "id": call_id, "pid": pid})

    def _become_worker(self, parent: int, worker_fd: int, log_fd: int) -> None:
        """In the child: forget the fork server, then serve one model. Never returns."""
        status = 70
        try:
            _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:  # the fork server died before prctl took hold
                os._exit(0)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._control.close()
            os.close(self._wake_read)
            os.close(self._wake_write)
            os.setpgid(0, 0)
            os.dup2(log_fd, 1)
            os.dup2(log_fd, 2)
            os.close(log_fd)
            if self._serve_model is None:
                from core.worker.main import serve

                self._serve_model = serve
            self._serve_model(socket.socket(fileno=worker_fd))
            status = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def _drain_wake(self) -> None:
        try:
            while os.read(self._wake_read, 4096):
                pass
        except BlockingIOError:
            pass

    def _reap(self) -> None:
        while self._children:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self._children.discard(pid)
            self._send({"op": "exited", "pid": pid, "status": os.waitstatus_to_exitcode(status)})

    def _kill_all(self) -> None:
        for pid in self._children:
            os.kill(pid, signal.SIGKILL)

    def _send(self, message: dict[str, Any]) -> None:
        # the front process gone: serve() reads the end of file next
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._control.send(json.dumps(message).encode())


def _has_gpu() -> bool:
    """Asked of NVML, as the launcher's environment has it."""
    torch = sys.modules.get("torch")
    return bool(torch and torch.cuda.is_available())


def _cuda_touched() -> bool:
    torch = sys.modules.get("torch")
    return bool(torch and torch.cuda.is_initialized())


if __name__ == "__main__":
    ForkServer(socket.socket(fileno=int(sys.argv[1]))).serve()
