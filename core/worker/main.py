"""One model's process: reads requests from its socket, tokenises on one thread, runs the model on another.

Requests: `{"id", "op"}` with op `load` (`request`), `run` (`task`, `items`, `params`), `generate` (`prompt`,
`sampling`), `preview` (`image`), `cancel` (`target`), `trim` or `ping`. Answers: `{"id", "result"}` or `{"id", "error":
{"type", "message"}}`; a load also sends `{"id", "event": {"stage", …}}`, a generation `{"id", "event": {"begun" |
"delta": …}}`. End of file means that the front process is done with this model, or gone.
"""

from __future__ import annotations

import ctypes
import faulthandler
import gc
import logging
import os
import socket
import sys
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from threading import Lock, Thread
from typing import Any, cast

from core import wire
from core.errors import BerthError, InsufficientMemory, InternalError, TaskNotSupported
from core.types import Image, Quantization, Runtime, Task
from core.worker import runtimes, tasks
from core.worker.batching import Batcher, Job
from core.worker.generation import prompts
from core.worker.generation.answer import Job as GenerationJob
from core.worker.generation.base import Generator
from core.worker.generation.images import images_of, tokens_of
from core.worker.generation.scheduler import Scheduler
from core.worker.runtimes.base import ContextLost, LoadRequest
from core.worker.runtimes.base import Runtime as LoadedModel
from core.worker.tasks.base import Prepared

log = logging.getLogger(__name__)

Load = Callable[[LoadRequest, Callable[[str, dict[str, Any]], None]], LoadedModel | Generator]
Prepare = Callable[[Task, LoadedModel, list[Any], dict[str, Any]], Prepared]

CONTEXT_LOST = 70  # exit status: the device's context is gone, only a new process gets another


class Server:
    """Owns the socket, the text thread and the model thread."""

    def __init__(self, sock: socket.socket, load: Load, prepare: Prepare) -> None:
        self._sock = sock
        self._load_model = load
        self._prepare_items = prepare
        self._send_lock = Lock()  # guards the socket's write side: two threads answer
        self._deltas = bytearray()  # frames of the step under way; the model thread's alone
        self._text = ThreadPoolExecutor(1, "text")
        self._model: LoadedModel | None = None  # one that reads, with its batcher,
        self._batcher: Batcher | None = None
        self._generator: Generator | None = None  # or one that writes, with its scheduler
        self._scheduler: Scheduler | None = None
        self._text_since: float | None = None  # monotonic seconds at which the text thread took what it is at
        self._jobs: dict[int, Job | GenerationJob] = {}  # in flight by request id; the text thread's alone
        self._looking: set[int] = set()  # requests whose images are being read; the text thread's alone

    def serve(self) -> None:
        """Until the front process closes the socket."""
        while (message := wire.receive(self._sock)) is not None:
            match message["op"]:
                case "load":
                    Thread(target=self._load, args=(message,), name="model", daemon=True).start()
                case "run":
                    self._on_text_thread(message["id"], self._prepare, message)
                case "generate":
                    self._on_text_thread(message["id"], self._generate, message)
                case "preview":
                    self._on_text_thread(message["id"], self._preview, message)
                case "cancel":
                    self._on_text_thread(0, self._cancel, message["target"])
                case "trim":
                    self._on_text_thread(message["id"], self._trim, message["id"])
                case "ping":
                    self._send({"id": message["id"], "result": {"busy_s": self._busy_s()}})

    def _on_text_thread(self, call_id: int, work: Callable[..., None], *arguments: Any) -> None:
        def guarded() -> None:
            self._text_since = time.monotonic()
            try:
                work(*arguments)
            except BaseException as error:  # tokenizers panic with a BaseException of their own
                self._fail(call_id, error)
            finally:
                self._text_since = None

        self._text.submit(guarded)

    def _busy_s(self) -> float:
        """Seconds that the slower of the two threads has been at its present piece of work."""
        queues = (self._batcher, self._scheduler)
        starts = (self._text_since, *(queue.busy_since for queue in queues if queue is not None))
        return max((time.monotonic() - start for start in starts if start is not None), default=0.0)

    def _send(self, message: dict[str, Any]) -> None:
        self._write(wire.pack(message))

    def _write(self, frames: bytes | bytearray) -> None:
        with self._send_lock:
            try:
                self._sock.sendall(frames)
            except (BrokenPipeError, ConnectionResetError):
                os._exit(0)  # nobody is left to answer

    def _fail(self, call_id: int, error: BaseException) -> None:
        if isinstance(error, ContextLost):
            log.error("the device's context is lost: %s", error)
            os._exit(CONTEXT_LOST)
        if isinstance(error, MemoryError):
            error = InsufficientMemory(
                "Out of memory while reading the texts. Unload another model, or send less at once."
            )
        if not isinstance(error, BerthError):
            log.error("unexpected error", exc_info=error)
            error = InternalError(f"{type(error).__name__}: {str(error)[:500]}")
        self._send({"id": call_id, "error": {"type": error.type, "message": error.message}})

    def _load(self, message: dict[str, Any]) -> None:
        """Loads the model, then stays as its thread."""
        call_id = message["id"]
        try:
            request = _load_request(message["request"])
            model = self._load_model(
                request, lambda stage, data: self._send({"id": call_id, "event": {"stage": stage, **data}})
            )
            queue = self._queue_for(model)
            self._send({"id": call_id, "result": asdict(model.info)})
        except BaseException as error:  # tokenizers panic with a BaseException of their own
            self._fail(call_id, error)
            return
        for _ in range(self._model.passes - 1 if self._model else 0):
            Thread(target=self._run_model, args=(queue,), name="model", daemon=True).start()
        self._run_model(queue)

    def _queue_for(self, model: LoadedModel | Generator) -> Batcher | Scheduler:
        if model.info.tasks[0].generates:
            self._generator = cast(Generator, model)
            self._scheduler = Scheduler(self._generator, self._send_deltas)
            return self._scheduler
        self._model = cast(LoadedModel, model)
        self._batcher = Batcher(self._model)
        return self._batcher

    def _run_model(self, queue: Batcher | Scheduler) -> None:
        """A model thread, for as long as there is a model."""
        try:
            queue.run()
        except BaseException as error:
            log.critical("the model thread has ended", exc_info=error)
            os._exit(CONTEXT_LOST)

    def _prepare(self, message: dict[str, Any]) -> None:
        """On the text thread: texts to rows."""
        call_id = message["id"]
        if self._model is None:
            raise TaskNotSupported("This model generates text; it cannot do that task.")
        assert self._batcher is not None
        prepared = self._prepare_items(Task(message["task"]), self._model, message["items"], message["params"])
        job = Job(prepared, lambda done: self._finished(call_id, done))
        self._jobs[call_id] = job
        self._batcher.add(job)

    def _generate(self, message: dict[str, Any]) -> None:
        """On the text thread: a prompt to tokens, and into the queue."""
        images = images_of(message["prompt"]["messages"] or ())
        if images and self._generator is not None and self._generator.vision is not None:
            images = images[: self._generator.vision.max_images]
            self._looking.add(message["id"])
            self._look(message, deque(images))
        else:
            self._begin(message)

    def _look(self, message: dict[str, Any], images: deque[Image]) -> None:
        """On the text thread: one image of a chat; what others want of this thread comes before the next one."""
        call_id = message["id"]
        if call_id not in self._looking:
            return  # cancelled
        if not images:
            self._looking.discard(call_id)
            self._begin(message)
            return
        assert self._generator is not None
        assert self._generator.vision is not None
        try:
            self._generator.vision.read(images.popleft())
        except BaseException:
            self._looking.discard(call_id)
            raise
        self._on_text_thread(call_id, self._look, message, images)

    def _begin(self, message: dict[str, Any]) -> None:
        """On the text thread: what is ready for it to tokens, and into the queue."""
        call_id = message["id"]
        if self._generator is None or self._scheduler is None:
            raise TaskNotSupported("This model does not generate text. Choose one that does; GET /models says which.")
        prompt = prompts.read(message["prompt"])
        job = prompts.prepare(
            self._generator,
            prompt,
            prompts.read_sampling(message["sampling"]),
            on_delta=lambda delta: self._deltas.extend(
                wire.pack({"id": call_id, "event": {"delta": prompts.as_map(delta)}})
            ),
            on_done=lambda done: self._on_text_thread(call_id, self._generated, call_id, done),
        )
        has_template = self._generator.codec.has_template if prompt.messages is not None else None
        begun = {
            "prompt_tokens": len(job.prompt),
            "has_chat_template": has_template,
            "image_tokens": tokens_of(job.images, job.prompt, self._generator.codec.size),
        }
        self._send({"id": call_id, "event": {"begun": begun}})
        self._jobs[call_id] = job
        self._scheduler.add(job)

    def _preview(self, message: dict[str, Any]) -> None:
        """On the text thread: an image as the model sees it."""
        if self._generator is None or self._generator.vision is None:
            raise TaskNotSupported("This model does not look at images. Choose one that does; GET /models says which.")
        self._send({"id": message["id"], "result": self._generator.vision.preview(message["image"])})

    def _send_deltas(self) -> None:
        """On the model thread, after each step: what all answers have got, in one write that wakes the reader once."""
        if self._deltas:
            self._write(self._deltas)
            self._deltas.clear()

    def _generated(self, call_id: int, job: GenerationJob) -> None:
        """On the text thread: the end of a generation."""
        if self._jobs.pop(call_id, None) is None:
            return  # cancelled
        if job.error is not None:
            raise job.error
        self._send({"id": call_id, "result": prompts.outcome(job)})

    def _cancel(self, target: int) -> None:
        """On the text thread, so after the tokenising of what it cancels."""
        self._looking.discard(target)
        job = self._jobs.pop(target, None)
        if isinstance(job, GenerationJob):
            assert self._scheduler is not None
            self._scheduler.cancel(job)
        elif job is not None and self._batcher is not None:
            self._batcher.cancel(job)

    def _trim(self, call_id: int) -> None:
        """Gives caches back to the device and the system."""
        gc.collect()
        if (torch := sys.modules.get("torch")) is not None and torch.cuda.is_initialized():
            torch.cuda.empty_cache()
        ctypes.CDLL(None).malloc_trim(0)
        self._send({"id": call_id, "result": None})

    def _finished(self, call_id: int, job: Job) -> None:
        """On the model thread: leave the rest to the text thread."""
        self._on_text_thread(call_id, self._answer, call_id, job)

    def _answer(self, call_id: int, job: Job) -> None:
        if self._jobs.pop(call_id, None) is None:
            return  # cancelled
        if job.error is not None:
            raise job.error
        prepared = job.prepared
        self._send(
            {
                "id": call_id,
                "result": {
                    "outputs": prepared.finish([array for array in job.arrays if array is not None]),
                    "tokens": sum(row.length for row in prepared.rows),
                    "input_tokens": prepared.input_tokens,
                    "windows": prepared.windows,
                    "truncated": prepared.truncated,
                    "queue_ms": job.queue_s * 1000,
                    "model_ms": job.model_s * 1000,
                },
            }
        )


def _load_request(raw: dict[str, Any]) -> LoadRequest:
    """The load request as it crossed the wire, with its enumerations back in place."""
    return LoadRequest(
        **{
            **raw,
            "runtime": Runtime(raw["runtime"]),
            "tasks": tuple(Task(name) for name in raw["tasks"]),
            "quantization": Quantization(raw["quantization"]) if raw["quantization"] else None,
        }
    )


def serve(sock: socket.socket, load: Load = runtimes.load, prepare: Prepare = tasks.prepare) -> None:
    """Serves one model on `sock` until the other end closes. Log lines go to standard error."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    faulthandler.enable()
    Server(sock, load, prepare).serve()
    os._exit(0)  # at once: threads in native code would only delay the release of memory


if __name__ == "__main__":  # where forking is not possible: a fresh process
    serve(socket.socket(fileno=int(sys.argv[1])))
