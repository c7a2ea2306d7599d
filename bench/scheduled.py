"""A model behind the scheduler, as a worker has them, in one process and stepped by hand."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from core.types import Delta, Message, Prompt, Sampling
from core.worker import runtimes
from core.worker.generation.answer import Job
from core.worker.generation.prompts import prepare
from core.worker.generation.scheduler import Scheduler
from core.worker.runtimes.base import LoadRequest

Timed = tuple[float, float, int]  # seconds to the first token, seconds for the others, and how many those are


class Scheduled:
    def __init__(self, request: LoadRequest) -> None:
        self.model: Any = runtimes.load(request, lambda stage, data: None)
        self._scheduler = Scheduler(self.model)
        self._done: list[Job] = []

    def ask(self, chat: Sequence[Message], sampling: Sampling, told: Callable[[Delta], None] = lambda _: None) -> Job:
        prompt = Prompt(messages=tuple(chat))
        job = prepare(self.model, prompt, sampling, told, self._done.append)
        self._scheduler.add(job)
        return job

    def step(self) -> None:
        self._scheduler.step()

    def run(self, job: Job) -> None:
        """Until it is done. Raises its error."""
        while job not in self._done:
            self.step()
        if job.error:
            raise job.error

    def leave(self, job: Job) -> None:
        self._scheduler.cancel(job)
        self.step()

    def answer(self, chat: Sequence[Message], sampling: Sampling) -> Timed:
        started = time.perf_counter()
        first: list[float] = []

        def told(_: Delta) -> None:
            if not first:
                first.append(time.perf_counter())

        job = self.ask(chat, sampling, told)
        self.run(job)
        return first[0] - started, time.perf_counter() - first[0], job.usage.completion_tokens - 1
