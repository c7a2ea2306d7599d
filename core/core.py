"""The one object that a route or a tab receives."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

from core.chat.chat import Chat
from core.defaults import Defaults
from core.errors import DeadlineExceeded, ModelNotFound, NoSupportedTask, TaskNotSupported
from core.fleet.job import LoadJob
from core.fleet.launcher import Launcher
from core.fleet.loading import Loader
from core.fleet.record import Record
from core.fleet.registry import Registry
from core.fleet.worker import Worker
from core.generation import Item, join, stream
from core.hub import Hub
from core.hub.catalog import Catalog
from core.images.reader import ImageReader
from core.memory.calibration import Calibration
from core.memory.history import History
from core.memory.probe import Probe
from core.params import parse_items, parse_params
from core.planning import plan_load
from core.resolver import Resolver
from core.running import run, task_meant
from core.settings import Settings
from core.startup import spec_at_start, vision_spec_at_start
from core.types import (
    VISION_TASKS,
    Completion,
    Image,
    LoadEvent,
    ModelSpec,
    Plan,
    Preview,
    Prompt,
    Reply,
    Sampling,
    Task,
)
from core.upkeep import cleanup, unwritable
from core.views import ModelView, view

VERSION = "0.1.0"


class Core:
    """Settings, registry, hub, catalogue and probe, wired together once by `app.py` or a test."""

    def __init__(self, settings: Settings, launcher: Launcher | None = None) -> None:
        self.settings = settings
        self.catalog = Catalog()
        self.probe = Probe(visible_gpus=settings.visible_gpus)
        self.history = History(self.probe)
        self.hub = Hub(
            models_dir=settings.models_dir,
            starter_dir=settings.starter_dir,
            endpoint=settings.hub_endpoint,
            token=settings.hub_token,
            offline=settings.offline,
            allow_pickle=settings.allow_pickle_weights,
        )
        self.launcher = launcher or Launcher(visible_gpus=settings.visible_gpus)
        self.calibration = Calibration(settings.data_dir / "calibration.json", VERSION)
        loader = Loader(settings, self.hub, self.launcher)
        self.registry = Registry(settings, loader, self.probe, calibration=self.calibration)
        self.images = ImageReader(settings.max_images, settings.max_conversation_images, settings.max_image_pixels)
        self.chat = Chat(settings, self.generate)
        self._started = time.monotonic()
        self._defaults = Defaults(settings)
        self._resolver = Resolver(settings, self.catalog, self.hub, self.registry, self._defaults)

    @property
    def uptime_s(self) -> float:
        return time.monotonic() - self._started

    async def start(self) -> None:
        """Makes the data directory and starts the fork server. Raises OSError when the directory cannot be made."""
        await asyncio.to_thread(self.settings.data_dir.mkdir, parents=True, exist_ok=True)
        await asyncio.to_thread(self.calibration.read)
        await self.launcher.start()
        self.history.start()
        self.chat.start()
        looks = vision_spec_at_start(self.settings, self.catalog)
        if (spec := spec_at_start(self.settings, self.catalog)) is not None:
            among = [task for task in Task if looks is None or task not in VISION_TASKS]
            self._defaults.follow(spec, self.registry.start_load(spec, admin=True), among)
        if looks is not None:
            self._defaults.follow(looks, self.registry.start_load(looks, admin=True), VISION_TASKS)

    async def stop(self) -> None:
        """Drains, then ends every process."""
        self.history.stop()
        await self.registry.stop()
        await self.chat.close()
        await self.launcher.stop()

    # models

    def models(self) -> list[ModelView]:
        return [view(record, self.settings) for record in self.registry.records()]

    def model(self, name: str) -> ModelView:
        """Raises ModelNotFound."""
        return view(self.registry.get(name), self.settings)

    def offered(self) -> list[ModelView]:
        """Models that are here, then those that a request loads: the defaults, and the starters that came along."""
        return self._resolver.offered()

    def offer(self, name: str) -> ModelView:
        """A model that is here, or one that a request loads, of which less is known. Raises ModelNotFound."""
        return self._resolver.offer(name)

    async def load(self, spec: ModelSpec, *, admin: bool = False, force: bool = False) -> LoadJob:
        """Starts a load, or joins it. Raises what can be said before weights move; the rest ends the job."""
        return await self.registry.load(self._meant(spec), admin=admin, force=force)

    def start_load(self, spec: ModelSpec, *, admin: bool = False, force: bool = False) -> LoadJob:
        """As `load`, for who follows the job from its first step: whatever goes wrong with the files ends it."""
        return self.registry.order(self._meant(spec), admin=admin, force=force)

    async def plan(self, spec: ModelSpec, *, admin: bool = False) -> Plan:
        """Whether and how `spec` would fit now; loads nothing. Raises what inspecting it raises."""
        return await plan_load(self._meant(spec), self.hub, self.registry, admin=admin)

    async def load_default(self, spec: ModelSpec) -> str:
        """Loads `spec` for an admin, waits until it is ready, and has requests for what it does mean it from then on.

        Returns its name. Raises the load's error.
        """
        job = await self.load(spec, admin=True)
        info = await asyncio.shield(job.done)
        self._defaults.set_for(spec, info.tasks)
        return spec.name

    def events(self, name: str) -> AsyncIterator[LoadEvent]:
        """The current step of a model's load and those that follow. Raises ModelNotFound at once."""
        record = self.registry.get(name)
        job = record.job
        if job is None:
            raise ModelNotFound(f"{name} has not been loaded yet.")
        return job.events()

    async def cancel(self, name: str) -> None:
        await self.registry.cancel(name)

    async def unload(self, name: str) -> dict[str, int]:
        """Bytes given back, by device."""
        return await self.registry.unload(name)

    def _meant(self, spec: ModelSpec) -> ModelSpec:
        """A source that is the name of a starter in the catalogue means that starter."""
        entry = self.catalog.get(spec.source)
        return replace(spec, source=entry.source) if entry is not None and entry.starter else spec

    # use

    def resolve(self, name: str | None, task: Task) -> str:
        """The name of the model that a request means, known to the registry afterwards. Raises ModelNotFound."""
        return self._resolver.resolve(name, task)

    def name_here(self, name: str) -> str:
        """What the registry calls the model that a request means by `name`: a model here, or a catalogue source."""
        return self._resolver.name_here(name)

    def knows(self, name: str) -> bool:
        """Whether a request may name `name`: it is here, or it is loaded on first use."""
        return self._resolver.knows(name)

    def default_model(self, task: Task) -> str | None:
        """The model that a request for `task` means when it names none; starts nothing."""
        return self._resolver.default_model(task)

    async def run(self, task: Task, items: list[Any], fields: dict[str, Any], model: str | None = None) -> Reply:
        """`task` on `items` (texts; question and context for question answering), by `model` or the default.

        `fields` are those of `core/params.py`. Raises typed errors only.
        """
        params, items = parse_params(task, fields), parse_items(task, items)
        async with self.registry.lease(self.resolve(model, task), task) as record:
            return await self._ask(record, task, items, params)

    @contextlib.asynccontextmanager
    async def leased(self, name: str) -> AsyncIterator[Record]:
        """The model `name` kept in memory, for callers that choose the task by what the model can do."""
        if self.registry.find(name) is None:
            name = self._resolver.start_known(name)
        async with self.registry.lease(name) as record:
            yield record

    async def predict(self, name: str, items: list[Any], fields: dict[str, Any], task: Task | None = None) -> Reply:
        """The task the model was made for, or `task`, on `items`."""
        async with self.leased(name) as record:
            assert record.info is not None
            if not record.info.tasks:
                raise NoSupportedTask(f"{name} has no task that this server can run.")
            looks = any(isinstance(item, dict) and "image" in item for item in items)
            if looks and not any(each in VISION_TASKS for each in record.info.tasks):
                raise self._resolver.cannot_look(name)
            chosen = task or task_meant(record.info.tasks, fields)
            if chosen not in record.info.tasks:
                raise TaskNotSupported(f"{name} cannot do {chosen}; it can do: {', '.join(record.info.tasks)}.")
            return await self._ask(record, chosen, parse_items(chosen, items), parse_params(chosen, fields))

    async def generate(
        self,
        prompt: Prompt,
        sampling: Sampling,
        model: str | None = None,
        task: Task = Task.TEXT_GENERATION,
        *,
        is_patient: bool = True,
    ) -> AsyncGenerator[Item]:
        """Answers to `prompt` as they are written: `Begun`, the deltas, last `Generated`.

        The first item raises whatever comes before generation. Closing the generator stops the model within one step.
        A load is waited for as long as it goes on: a stream is kept open meanwhile. Not so when not `is_patient`.
        A chat that holds images means a model that looks at them.
        """
        if prompt.has_images:
            task = Task.IMAGE_TEXT_TO_TEXT
        async with self._lease(self.resolve(model, task), task, is_patient=is_patient) as record:
            assert record.worker is not None
            limit_s = self.settings.request_timeout_s
            with self._watching(record.worker, limit_s):
                async with contextlib.aclosing(stream(record, prompt, sampling, limit_s)) as items:
                    async for item in items:
                        yield item

    async def preview(self, image: Image, model: str | None = None) -> tuple[str, Preview]:
        """What `model`, or the default one, sees of a picture, and the name of that model. Raises typed errors only."""
        task, limit_s = Task.IMAGE_TEXT_TO_TEXT, self.settings.request_timeout_s
        async with self._lease(self.resolve(model, task), task, is_patient=False) as record:
            assert record.worker is not None
            with self._watching(record.worker, limit_s):
                return record.name, await record.worker.call("preview", deadline_s=limit_s, image=image)

    @contextlib.asynccontextmanager
    async def _lease(self, name: str, task: Task, *, is_patient: bool) -> AsyncIterator[Record]:
        """As the registry's; who is asked to look and cannot is told who can."""
        try:
            async with self.registry.lease(name, task, is_patient=is_patient) as record:
                yield record
        except TaskNotSupported as error:
            if task is not Task.IMAGE_TEXT_TO_TEXT:
                raise
            raise self._resolver.cannot_look(name, (task,)) from error

    async def complete(
        self, prompt: Prompt, sampling: Sampling, model: str | None = None, task: Task = Task.TEXT_GENERATION
    ) -> Completion:
        """As `generate`, read to its end; nobody hears anything before that, so a load is waited for up to a limit."""
        return await join(self.generate(prompt, sampling, model, task, is_patient=False), sampling.n)

    def set_default(self, task: Task, name: str) -> None:
        """The model that requests for `task` mean from now on when they name none; unloaded, it is brought back."""
        record = self.registry.find(name)
        self._defaults.set(task, record.spec if record else ModelSpec(name, name))

    async def _ask(self, record: Record, task: Task, items: list[Any], params: dict[str, Any]) -> Reply:
        assert record.worker is not None
        limit_s = self.settings.request_timeout_s
        with self._watching(record.worker, limit_s):
            return await run(record, task, items, params, limit_s)

    @contextlib.contextmanager
    def _watching(self, worker: Worker, limit_s: float) -> Iterator[None]:
        """Slow, or hung? A worker that does not answer in time is looked at; a hung one is killed, and the next
        request starts another."""
        try:
            yield
        except DeadlineExceeded:
            self.registry.in_background(worker.is_alive(limit_s))
            raise

    # the machine

    async def measure(self) -> None:
        """Looks again at what every model holds."""
        for record in self.registry.records():
            await self.registry.measure(record)

    async def cleanup(self) -> dict[str, int]:
        """Gives back what is held for nothing: models that failed, and caches of idle workers. Bytes by device."""
        return await cleanup(self.registry, self.settings.request_timeout_s)

    async def check_ready(self) -> str | None:
        """Why the server should not be sent requests now; None when it should."""
        if self.registry.is_stopping:
            return "The server is stopping."
        return await asyncio.to_thread(unwritable, self.settings.data_dir) or await self.chat.trouble()
