"""Models on a machine with two GPUs, which are made up; the processes, the registry and the ledger are real."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import psutil
import pytest

from core.errors import InsufficientMemory
from core.fleet.loading import Loader
from core.fleet.registry import Registry
from core.memory.probe import DeviceMemory
from core.types import Inspection, ModelSpec, State, Task
from tests.core.fleet.conftest import Shelf
from tests.core.fleet.steps import ready
from tests.core.memory.test_plan import GIB, ONE_BILLION
from tests.core.memory.test_spread import LARGE

TOTAL = 24 * GIB


class TwoGpus:
    """A machine on which nothing else runs."""

    def process(self, pid: int) -> dict[str, int]:
        return {"cpu": 1 << 20} if psutil.pid_exists(pid) else {}

    def forget_peak(self, pid: int) -> None:
        pass

    def peak(self, pid: int, held: dict[str, int]) -> dict[str, int]:
        return held

    def host(self) -> DeviceMemory:
        return DeviceMemory("cpu", "CPU", 64 * GIB, 64 * GIB, 0)

    def gpus(self) -> list[DeviceMemory]:
        return [DeviceMemory(f"cuda:{index}", "GPU", TOTAL, TOTAL, 0) for index in range(2)]


class Decoders(Shelf):
    """Those called large have 13 billion numbers, the others one."""

    async def inspect(self, spec: ModelSpec, *, admin: bool = False) -> Inspection:
        found = await super().inspect(spec, admin=admin)
        anatomy = LARGE if "large" in spec.name else ONE_BILLION
        return replace(found, tasks=(Task.TEXT_GENERATION,), anatomy=anatomy, context_length=4096)


@pytest.fixture
def shelf(tmp_path):
    return Decoders(tmp_path)


@pytest.fixture
async def registry(settings, shelf, launcher, clock):
    registry = Registry(settings, Loader(settings, shelf, launcher), TwoGpus(), clock)
    yield registry
    await registry.stop()
    assert all(registry.room.ledger.held(device) == 0 for device in registry.room.ledger.limits)


def promised(registry: Registry, name: str) -> set[str]:
    account = registry.room.ledger.account(name)
    assert account is not None
    return {device for device, size in account.promised.items() if size}


async def used(registry: Registry, spec: ModelSpec) -> None:
    await ready(registry, spec)
    async with registry.lease(spec.name):
        pass


async def test_one_after_the_other_goes_where_most_room_is(registry, shelf):
    for name in "abcd":
        await ready(registry, shelf.add(name))
    assert [promised(registry, name) - {"cpu"} for name in "abcd"] == [{"cuda:0"}, {"cuda:1"}, {"cuda:0"}, {"cuda:1"}]


async def test_what_no_gpu_holds_is_put_on_both_and_gives_both_back(registry, shelf):
    record = await ready(registry, shelf.add("large"))
    assert record.info.device == "cuda:0+cuda:1"
    assert promised(registry, "large") == {"cuda:0", "cuda:1", "cpu"}
    for gpu in ("cuda:0", "cuda:1"):
        assert 12 * GIB < registry.room.ledger.held(gpu) <= registry.room.ledger.limits[gpu]
    await registry.unload("large")
    assert [registry.room.ledger.held(f"cuda:{index}") for index in range(2)] == [0, 0]


async def test_who_is_idle_on_either_goes_for_it_and_comes_back_to_either(registry, shelf):
    specs = [shelf.add(name) for name in "abcd"]  # two on each
    for spec in specs:
        await used(registry, spec)
    await used(registry, shelf.add("large"))
    ledger = registry.room.ledger
    assert promised(registry, "large") == {"cuda:0", "cuda:1", "cpu"}
    assert {each.model for each in registry.room.evictions} == set("abcd")
    await asyncio.gather(*(ready(registry, spec) for spec in specs))  # each chose before any of them was there
    assert registry.get("large").state is State.ABSENT
    assert sorted(gpu for name in "abcd" for gpu in promised(registry, name) - {"cpu"}) == [
        "cuda:0",
        "cuda:0",
        "cuda:1",
        "cuda:1",
    ]
    assert all(ledger.held(device) <= ledger.limits[device] for device in ledger.limits)


async def test_on_one_gpu_by_name_it_is_refused(registry, shelf):
    spec = shelf.add("large")
    with pytest.raises(InsufficientMemory, match="cuda:1"):
        await registry.load(replace(spec, device="cuda:1"))
