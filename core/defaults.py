"""Which model a request means when it names none."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection

from core.fleet.job import LoadJob
from core.settings import Settings
from core.types import Inspection, ModelInfo, ModelSpec, Task

log = logging.getLogger(__name__)


class Defaults:
    """task → model: from the settings, or chosen since, with the specs that bring the chosen ones back."""

    def __init__(self, settings: Settings) -> None:
        self._names: dict[Task, str | None] = {
            Task.TEXT_CLASSIFICATION: settings.classify_model,
            Task.FEATURE_EXTRACTION: settings.embed_model,
        }
        self._specs: dict[str, ModelSpec] = {}

    def get(self, task: Task) -> str | None:
        return self._names.get(task)

    def spec(self, name: str) -> ModelSpec | None:
        """What loads `name`, if it was chosen by its spec."""
        return self._specs.get(name)

    def names(self) -> list[str]:
        """Each model once."""
        return list(dict.fromkeys(name for name in self._names.values() if name))

    def tasks(self, name: str) -> tuple[Task, ...]:
        """What `name` is the default for."""
        return tuple(task for task, meant in self._names.items() if meant == name)

    def __contains__(self, name: str) -> bool:
        return name in self._names.values()

    def set(self, task: Task, spec: ModelSpec) -> None:
        self._names[task] = spec.name
        self._specs[spec.name] = spec

    def set_for(self, spec: ModelSpec, tasks: tuple[Task, ...]) -> None:
        """For what a model was made for; one that writes writes for every task that it can."""
        for task in _made_for(tasks):
            self.set(task, spec)

    def follow(self, spec: ModelSpec, job: LoadJob, among: Collection[Task] = tuple(Task)) -> None:
        """Makes the model of a load the default for those of its tasks that are `among` these. Until its files say
        what it is, it is taken for one that can do the first of them which writes."""
        first = next(task for task in (Task.TEXT_GENERATION, Task.IMAGE_TEXT_TO_TEXT) if task in among)
        before = self._names.get(first)
        self.set(first, spec)

        def on_inspected(told: asyncio.Future[Inspection]) -> None:
            if not told.cancelled() and told.exception() is None:
                self._names[first] = before
                chosen = [task for task in _made_for(told.result().tasks) if task in among]
                for task in chosen:
                    self.set(task, spec)
                if not chosen:
                    log.error("%s is the default for nothing: it does %s", spec.name, ", ".join(told.result().tasks))

        def on_done(done: asyncio.Future[ModelInfo]) -> None:
            if not done.cancelled() and (error := done.exception()) is not None:
                log.error("%s is not loaded: %s", spec.name, error)

        job.inspected.add_done_callback(on_inspected)
        job.done.add_done_callback(on_done)


def _made_for(tasks: tuple[Task, ...]) -> tuple[Task, ...]:
    return tasks if tasks and tasks[0].generates else tasks[:1]
