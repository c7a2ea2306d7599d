"""A registry over real worker processes that run the obedient runtime."""

import os
from pathlib import Path
from typing import Any

import pytest

from core.errors import CorruptModel, RepositoryNotFound
from core.fleet.eviction import Cause
from core.fleet.launcher import Launcher
from core.fleet.loading import Loader
from core.fleet.placement import Placement
from core.fleet.record import Record
from core.fleet.registry import Registry
from core.memory.ledger import Ledger
from core.memory.probe import Probe
from core.settings import MIB, Settings
from core.types import FileProgress, Inspection, ModelSpec, RepoFile, Runtime, Task
from tests.core.fleet.clock import FakeClock


class Shelf:
    """A source of models in a directory; what their names say happens to them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.inspected: list[str] = []
        self.fetched: list[str] = []
        self.revisions: list[str | None] = []  # asked for
        self.raises: list[Exception] = []  # by the next inspections
        self.fetch_raises: list[Exception] = []

    def add(self, name: str, load: str = "") -> ModelSpec:
        """A model that does `load` when it is loaded."""
        (self.root / name).mkdir(exist_ok=True)
        (self.root / name / "load.txt").write_text(load)
        return ModelSpec(name=name, source=name)

    def fifo(self, name: str) -> Path:
        path = self.root / f"{name}.fifo"
        os.mkfifo(path)
        return path

    async def inspect(self, spec: ModelSpec, *, admin: bool = False) -> Inspection:
        self.inspected.append(spec.name)
        self.revisions.append(spec.revision)
        if self.raises:
            raise self.raises.pop(0)
        if not (self.root / spec.source).is_dir():
            raise RepositoryNotFound(f"There is no {spec.source}.")
        remote = "remote" in spec.source
        return Inspection(
            spec=spec, revision="c0ffee" if remote else "local", local=None if remote else str(self.root / spec.source),
            files=(RepoFile("w", 100),), runtime=Runtime.TRANSFORMERS, tasks=(Task.TEXT_CLASSIFICATION,),
            model_type="fake", architecture="Fake", labels=(), context_length=None, parameters=None, weight_bytes=0,
            dtype=None, license=None, warnings=(),
        )  # fmt: skip

    def disk_free(self) -> int:
        return 1 << 40

    async def fetch(self, inspection: Inspection, on_progress) -> Path:
        path = self.root / inspection.spec.source
        if inspection.local is None:
            on_progress(FileProgress("w", 50, 100))
            self.fetched.append(inspection.spec.name)
            if self.fetch_raises:
                raise self.fetch_raises.pop(0)
        if (path / "corrupt").exists():
            raise CorruptModel(f"{inspection.spec.name} is cut.")
        return path


class Crowd(Registry):
    """A registry that looks, whenever a model is admitted, ready or evicted, whether all is as it must be."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.faults: list[str] = []
        self.story: list[str] = []  # "+a": a was admitted; "-a": a was evicted
        self.room.ledger.force = self._watched_force
        self._end, self.room.evict = self.room.evict, self._watched_evict

    def _watched_force(self, name: str) -> None:
        Ledger.force(self.room.ledger, name)
        if self.room.ledger.held("cpu") > self.room.ledger.limits["cpu"]:
            self.faults.append(f"{name} does not fit: {self.story}")
        self.story.append(f"+{name}")

    def _watched_evict(self, record: Record, cause: Cause, wanted_by: str | None = None):
        if record.leases or record.spec.pinned:
            self.faults.append(f"{record.name} was evicted while busy or pinned: {self.story}")
        self.story.append(f"-{record.name}")
        return self._end(record, cause, wanted_by)


@pytest.fixture(scope="session")
async def launcher():
    launcher = Launcher("tests.fakes.runtime")
    await launcher.start()
    yield launcher
    await launcher.stop()


@pytest.fixture
def shelf(tmp_path):
    return Shelf(tmp_path)


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
async def crowd(settings, shelf, launcher, clock):
    """Makes registries whose budget is `room` MiB, where a model takes `sizes` of it, 100 unless said; on `clock`."""
    made = []

    def make(room=200, sizes=None, load_wait_s=20, keep_alive=-1, probe=None):
        sizes = sizes if sizes is not None else {}
        changed = {"cpu_memory_budget_mb": room, "load_wait_s": load_wait_s, "keep_alive": keep_alive}
        registry = Crowd(
            settings.model_copy(update=changed),
            Loader(settings, shelf, launcher),
            probe or Probe(),
            clock,
            lambda inspection, settings, gpus: [Placement("cpu", {"cpu": sizes.get(inspection.spec.name, 100) * MIB})],
        )
        made.append(registry)
        return registry

    yield make
    for registry in made:
        await registry.stop()
        assert registry.faults == []
        assert registry.records() == []
        assert registry.room.ledger.names == ()
        assert registry.room.ledger.waiting == ()


@pytest.fixture
def settings(tmp_path):
    return Settings(_env_file=None, data_dir=tmp_path, max_queue=8, request_timeout_s=20, load_wait_s=20, drain_s=20)


@pytest.fixture
async def registry(settings, shelf, launcher):
    registry = Registry(settings, Loader(settings, shelf, launcher), Probe())
    yield registry
    await registry.stop()
    assert registry.records() == []
