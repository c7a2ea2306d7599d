"""Proof that memory is back: over real processes, with a GPU whose driver takes its time."""

import os
import signal

import psutil
import pytest

from core.fleet import release as module
from core.memory.probe import DeviceMemory, Probe
from core.settings import MIB
from tests.core.fleet.steps import ask, ready


class Gpu(Probe):
    """One GPU, on which every process of a model holds 400 MiB while it lives; `lag` looks pass until they are back."""

    def __init__(self, lag=0):
        super().__init__()
        self.lag = lag
        self.grown: dict[int, int] = {}  # what a process took in addition
        self.held: dict[int, int] = {}
        self.looks = 0

    def process(self, pid):
        found = super().process(pid)
        if not found:
            return found
        self.held[pid] = 400 * MIB + self.grown.get(pid, 0)
        return {**found, "cuda:0": self.held[pid]}

    def gpus(self):
        gone = [pid for pid in self.held if not super(Gpu, self).process(pid)]
        if gone:
            self.looks += 1
            if self.looks > self.lag:
                for pid in gone:
                    del self.held[pid]
        used = 100 * MIB + sum(self.held.values())
        return [DeviceMemory("cuda:0", "a GPU", 8192 * MIB, 8192 * MIB - used, used)]


async def test_unload_waits_until_the_device_shows_the_bytes_back(crowd, shelf):
    gpu = Gpu(lag=4)
    registry = crowd(probe=gpu)
    record = await ready(registry, shelf.add("a"))
    measured = (await registry.measure(record))["cpu"]
    released = await registry.release("a")
    assert gpu.looks == 5
    assert gpu.gpus()[0].used == 100 * MIB
    assert released.freed["cuda:0"] == 400 * MIB
    assert released.freed["cpu"] == pytest.approx(measured, rel=0.2)
    assert released.left == {}


async def test_what_does_not_come_back_is_said_with_its_owner(crowd, shelf, monkeypatch):
    monkeypatch.setattr(module, "_WAIT_S", 0.2)
    registry = crowd(probe=Gpu(lag=1000))
    await ready(registry, shelf.add("a"))
    released = await registry.release("a")
    assert released.left == {"cuda:0": {"unknown": 400 * MIB}}
    assert released.freed["cuda:0"] == 0


async def test_what_another_model_takes_meanwhile_is_not_missing(crowd, shelf):
    gpu = Gpu()
    registry = crowd(probe=gpu)
    await ready(registry, shelf.add("a"))
    other = (await ready(registry, shelf.add("b"))).worker.pid
    close = registry.get("a").worker.close

    async def close_while_the_other_grows(reason=None):
        gpu.grown[other] = 300 * MIB
        await close(reason)

    registry.get("a").worker.close = close_while_the_other_grows
    released = await registry.release("a")
    assert released.left == {}
    assert released.freed["cuda:0"] == 400 * MIB


async def test_a_child_that_outlives_its_model_is_named(crowd, shelf, monkeypatch):
    monkeypatch.setattr(module, "_WAIT_S", 0.2)
    registry = crowd(room=2000)
    await ready(registry, shelf.add("a"))
    await ask(registry, "a", "child")
    pid = psutil.Process(registry.get("a").worker.pid).children()[0].pid
    try:
        released = await registry.release("a")
        (size,) = released.left["cpu"].values()
        assert released.left == {"cpu": {f"process {pid}": size}}
        assert size > 30 * MIB
    finally:
        os.kill(pid, signal.SIGKILL)
