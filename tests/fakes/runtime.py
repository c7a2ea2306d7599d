"""A runtime for a real worker process that does what its input says: answer, wait, fail, hang or die.

Run as `python -m tests.fakes.runtime FD`: the real fork server and the real worker around this runtime.
A text is a command, `wait:FIFO` blocks in the model until something is written to that FIFO. The file
`load.txt` in the model's directory holds a command that is carried out while loading. A model that generates is a
`tests.fakes.generator.Writer`, and sees where a file `sees.txt` lies beside it.
"""

import ctypes
import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from threading import Event

import numpy as np

from core.errors import InsufficientMemory
from core.types import ModelInfo, Task
from core.types import Runtime as RuntimeName
from core.worker import main
from core.worker.forkserver import ForkServer
from core.worker.runtimes.base import ContextLost, Row
from core.worker.tasks.base import Prepared
from tests.fakes.generator import CONTEXT, Writer
from tests.fakes.seeing import SEES, Seeing

_CHILD = "held = bytes(range(256)) * (1 << 17); print('ready', flush=True); import time; time.sleep(60)"  # 32 MiB


def obey(command: str) -> None:
    """Carries out what fails; an unknown command is an ordinary text."""
    match command.split(":", 1):
        case ["wait", fifo]:
            Path(fifo).read_bytes()
        case ["die"]:
            os.kill(os.getpid(), signal.SIGKILL)
        case ["segfault"]:
            ctypes.string_at(0)
        case ["exit"]:
            os._exit(0)
        case ["hang"]:
            os.kill(os.getpid(), signal.SIGSTOP)
            Event().wait()  # this thread may run on for a moment before the process stops
        case ["take", mib]:
            bytes(range(256)) * (int(mib) << 12)  # for a moment
        case ["flood"]:
            for _ in range(1600):
                os.write(2, b"x" * 65535 + b"\n")
        case ["child"]:
            child = subprocess.Popen([sys.executable, "-c", _CHILD], stdout=subprocess.PIPE, start_new_session=True)
            child.stdout.readline()
        case ["oom"]:
            raise InsufficientMemory("The device is full.")
        case ["context"]:
            raise ContextLost("CUDA error: device-side assert triggered")
        case ["bug"]:
            raise ZeroDivisionError("a bug")
        case ["panic"]:
            raise BaseException("not even an Exception")


class Obedient:
    """Answers each text with its length, after doing what it says."""

    tokenizer = None
    max_batch_tokens = 1024
    pads = True
    passes = 1
    overhead_tokens = 0

    def __init__(self, info: ModelInfo) -> None:
        self.info = info
        self.texts: dict[int, str] = {}

    def forward(self, rows: list[Row]) -> list[np.ndarray]:
        for row in rows:
            obey(bytes(row.inputs["input_ids"]).decode())
        return [np.array([row.length], np.float32) for row in rows]


def load(request, on_progress):
    for stage in ("loading", "warming"):
        on_progress(stage, {})
    command = Path(request.path, "load.txt")
    if command.exists():
        what = command.read_text()
        if what.startswith("once:"):
            command.write_text("")
        obey(what.removeprefix("once:"))
    device = "+".join(request.layers or (request.device if request.device.startswith("cuda:") else "cpu",))
    if request.tasks[0].generates:
        info = ModelInfo(
            request.tasks, request.runtime, device, "float32", "fake", context_length=CONTEXT, has_chat_template=True
        )
        if Path(request.path, SEES).exists():
            info = replace(info, tasks=(Task.IMAGE_TEXT_TO_TEXT, Task.TEXT_GENERATION))
        writer = Writer(info, obey, max_sequences=request.max_sequences)
        if Task.IMAGE_TEXT_TO_TEXT in info.tasks:
            sees = Path(request.path, SEES)
            writer.vision = Seeing(writer.codec, is_exact=not sees.exists() or sees.read_text() != "blindly")
        return writer
    return Obedient(ModelInfo(request.tasks, request.runtime, "cpu", "float32", "fake"))


def prepare(task, runtime, items, params):
    for item in items:
        if item == "panic":
            obey(item)
        if item.startswith("text:"):  # blocks the thread that tokenises
            obey(f"wait:{item[5:]}")
    rows = [Row({"input_ids": list(item.encode())}, "logits") for item in items]
    count = len(items)
    return Prepared(
        rows, lambda arrays: [int(a[0]) for a in arrays], [row.length for row in rows], [1] * count, [False] * count
    )


def serve(sock: socket.socket) -> None:
    main.serve(sock, load, prepare)


if __name__ == "__main__":
    ForkServer(socket.socket(fileno=int(sys.argv[1])), dict.fromkeys(RuntimeName, ()), (), serve).serve()
