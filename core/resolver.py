"""Which model a request means, by name or by task, and which it could name."""

from __future__ import annotations

from dataclasses import replace

from core.defaults import Defaults
from core.errors import ModelNotFound, TaskNotSupported
from core.fleet.record import Record
from core.fleet.registry import Registry
from core.hub import Hub
from core.hub.catalog import Catalog
from core.settings import Settings
from core.types import VISION_TASKS, ModelSpec, State, Task
from core.views import ModelView, view


class Resolver:
    """From names and tasks to models: those that are here, the defaults, and the catalogue's."""

    def __init__(self, settings: Settings, catalog: Catalog, hub: Hub, registry: Registry, defaults: Defaults) -> None:
        self._settings = settings
        self._catalog = catalog
        self._hub = hub
        self._registry = registry
        self._defaults = defaults

    def offered(self) -> list[ModelView]:
        """Models that are here, then those that a request loads: the defaults, and the starters that came along."""
        starters = (entry.name for entry in self._catalog.entries if entry.starter)
        found = {record.name: view(record, self._settings) for record in self._registry.records()}
        for name in (*self._defaults.names(), *starters):
            if (away := self._offer(name)) is not None:
                found.setdefault(away.name, away)
        return list(found.values())

    def offer(self, name: str) -> ModelView:
        """A model that is here, or one that a request loads, of which less is known. Raises ModelNotFound."""
        offer = None if self._registry.find(name) else self._offer(name)
        return offer or view(self._registry.get(name), self._settings)

    def _offer(self, name: str) -> ModelView | None:
        """What is known of a model that is not here; None where no request by that name could load one."""
        entry = self._catalog.get(name)
        if entry is not None and entry.starter and not self._hub.has_starter(entry.source):
            return None
        spec = self._spec_known(name)
        if spec is None:
            return None
        tasks = self._defaults.tasks(name) or ((entry.task,) if entry else ())
        return replace(view(Record(spec), self._settings), task=tasks[0], tasks=tasks)

    def resolve(self, name: str | None, task: Task) -> str:
        """The name of the model that a request means, known to the registry afterwards.

        Said by name; else the setting for this task; else the only loaded model that can do it; else the starter.
        A catalogue model that is not in memory is put in line to be loaded. Raises ModelNotFound.
        """
        name = name or self.default_model(task)
        if name is None:
            raise ModelNotFound(
                f"No model is loaded for {task}. Load one with POST /models/load and name it in `model`."
            )
        return name if self._registry.find(name) else self.start_known(name)

    def name_here(self, name: str) -> str:
        """What the registry calls the model that a request means by `name`: a model here, or a catalogue source."""
        entry = None if self._registry.find(name) else self._catalog.get(name)
        return entry.name if entry else name

    def knows(self, name: str) -> bool:
        """Whether a request may name `name`: it is here, or it is loaded on first use."""
        return self._registry.find(name) is not None or name in self._defaults or self._catalog.get(name) is not None

    def default_model(self, task: Task) -> str | None:
        """The model that a request for `task` means when it names none; starts nothing."""
        return self._defaults.get(task) or self._only_loaded(task) or self._starter(task)

    def start_known(self, name: str) -> str:
        """Starts loading a model that the operator named in the settings or the catalogue lists, by name or source.

        Returns the name that the registry has it under.
        """
        spec = self._spec_known(name)
        if spec is None:
            raise ModelNotFound(f"There is no model `{name}` here. Load it with POST /models/load, or see GET /models.")
        if self._registry.find(spec.name) is None:
            self._registry.start_load(spec, admin=name in self._defaults)
        return spec.name

    def _spec_known(self, name: str) -> ModelSpec | None:
        """What loads a default or a model of the catalogue."""
        entry = self._catalog.get(name)
        if entry is None and name not in self._defaults:
            return None
        return self._defaults.spec(name) or (entry.spec if entry else ModelSpec(name=name, source=name))

    def _only_loaded(self, task: Task) -> str | None:
        able = [record.name for record in self._ready() if record.info and task in record.info.tasks]
        return able[0] if len(able) == 1 else None

    def _ready(self) -> list[Record]:
        return [record for record in self._registry.records() if record.state is State.READY]

    def _starter(self, task: Task) -> str | None:
        starters = (entry for entry in self._catalog.for_task(task) if entry.starter)
        return next((entry.name for entry in starters if self._hub.has_starter(entry.source)), None)

    def cannot_look(self, name: str, tasks: tuple[Task, ...] = VISION_TASKS) -> TaskNotSupported:
        """What who asks `name` to look is told: who can."""
        able = [each.name for each in self.offered() if any(task in each.tasks for task in tasks)]
        those = f"These can: {', '.join(able)}." if able else "Load one that can with POST /models/load."
        return TaskNotSupported(f"{name} cannot look at images. {those}")
