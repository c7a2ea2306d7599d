"""Unloading, draining and stopping, and that nothing is left; over real processes."""

import asyncio
import os
import signal
import threading

import psutil
import pytest

from core.errors import LoadCancelled, ModelDraining, ModelNotFound, ShuttingDown, WorkerCrashed
from core.types import ModelSpec, State
from tests.core.fleet.steps import ask, ready, release


async def test_a_model_loads_answers_and_unloads(registry, shelf):
    record = await ready(registry, shelf.add("a"))
    assert (await ask(registry, "a", "four", "three3"))["outputs"] == [4, 6]
    pid = record.worker.pid
    freed = await registry.unload("a")
    assert freed["cpu"] > 0
    assert not psutil.pid_exists(pid)
    with pytest.raises(ModelNotFound):
        registry.get("a")


async def test_unload_waits_for_requests_in_flight_and_refuses_new_ones(registry, shelf):
    fifo = shelf.fifo("gate")
    await ready(registry, shelf.add("a"))
    asked = [asyncio.create_task(ask(registry, "a", f"wait:{fifo}")), asyncio.create_task(ask(registry, "a", "four"))]
    while registry.get("a").leases < 2:
        await asyncio.sleep(0)
    first, second = (asyncio.create_task(registry.unload("a")) for _ in range(2))
    while registry.get("a").state is not State.DRAINING:
        await asyncio.sleep(0)
    with pytest.raises(ModelDraining):
        await ask(registry, "a", "four")
    with pytest.raises(ModelDraining):
        await registry.load(ModelSpec(name="a", source="a"))
    await asyncio.to_thread(release, fifo)
    answers = await asyncio.gather(*asked)
    assert answers[1]["outputs"] == [4]
    assert await first == await second


async def test_unloading_while_loading_cancels_the_load(registry, shelf):
    fifo = shelf.fifo("gate")
    job = await registry.load(shelf.add("a", load=f"wait:{fifo}"))
    assert await registry.unload("a") == {}
    with pytest.raises(LoadCancelled):
        await job.done
    assert registry.records() == []


async def test_a_stopping_registry_takes_nothing_new_and_finishes_what_it_has(settings, shelf, launcher, registry):
    await ready(registry, shelf.add("a"))
    asked = asyncio.create_task(ask(registry, "a", "four"))
    while registry.get("a").leases < 1:
        await asyncio.sleep(0)
    stopping = asyncio.create_task(registry.stop())
    await asyncio.sleep(0)
    with pytest.raises(ShuttingDown):
        await ask(registry, "a", "four")
    with pytest.raises(ShuttingDown):
        await registry.load(ModelSpec(name="b", source="a"))
    assert (await asked)["outputs"] == [4]
    await stopping


async def test_many_loads_and_unloads_leave_nothing(registry, shelf):
    spec = shelf.add("a")
    await ready(registry, spec)
    await registry.unload("a")
    await fill_the_pool()
    await closed()
    before = held()
    for _ in range(20):
        await ready(registry, spec)
        await registry.unload("a")
    await closed()
    assert held() == before


def held():
    """Descriptors, threads and processes of this process."""
    me = psutil.Process()
    return me.num_fds(), me.num_threads(), len(me.children(recursive=True))


async def fill_the_pool():
    """The event loop's pool has all its threads, which it would else start one by one as reads overlap."""
    size = min(32, (os.cpu_count() or 1) + 4)  # as concurrent.futures has it
    everybody = threading.Barrier(size)
    await asyncio.gather(*(asyncio.to_thread(everybody.wait) for _ in range(size)))


async def closed():
    """The event loop closes what a process printed to, and its socket, some turns after the process has ended."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if mine := [task for task in others if task.get_coro().__name__ == "_collect"]:
        await asyncio.wait(mine)
    for _ in range(3):
        await asyncio.sleep(0)


async def test_a_death_in_the_middle_of_an_unload(registry, shelf):
    fifo = shelf.fifo("gate")
    record = await ready(registry, shelf.add("a"))
    asked = asyncio.create_task(ask(registry, "a", f"wait:{fifo}"))
    while record.worker is None or record.worker.in_flight < 1:
        await asyncio.sleep(0)
    unloading = asyncio.create_task(registry.unload("a"))
    while record.state is not State.DRAINING:
        await asyncio.sleep(0)
    os.kill(record.worker.pid, signal.SIGKILL)
    with pytest.raises(WorkerCrashed):
        await asked
    assert await unloading == {}
    assert registry.records() == []
    again = await ready(registry, shelf.add("a"))
    assert (await registry.unload("a"))["cpu"] > 0
    assert again.state is State.ABSENT


async def test_nothing_begins_while_a_model_is_unloaded_even_when_it_dies(registry, shelf):
    fifo = shelf.fifo("gate")
    spec = shelf.add("a")
    record = await ready(registry, spec)

    async def ask_again():
        with pytest.raises(WorkerCrashed):
            await ask(registry, "a", f"wait:{fifo}")
        with pytest.raises((ModelDraining, ModelNotFound)):
            await ask(registry, "a", "four")

    asked = asyncio.create_task(ask_again())
    while record.leases < 1:
        await asyncio.sleep(0)
    unloading = asyncio.create_task(registry.unload("a"))
    while record.state is not State.DRAINING:
        await asyncio.sleep(0)
    os.kill(record.worker.pid, signal.SIGKILL)
    await asked
    await unloading
    assert registry.records() == []


async def test_a_request_that_outlasts_the_drain_is_told_so(registry, shelf, settings):
    fifo = shelf.fifo("gate")
    registry._settings = settings.model_copy(update={"drain_s": 0.05})
    record = await ready(registry, shelf.add("a"))
    asked = asyncio.create_task(ask(registry, "a", f"wait:{fifo}"))
    while record.worker.in_flight < 1:
        await asyncio.sleep(0)
    await registry.unload("a")
    with pytest.raises(ModelDraining, match="unloaded before this request was done"):
        await asked


async def test_a_process_that_was_killed_with_requests_unread_can_be_unloaded(registry, shelf):
    record = await ready(registry, shelf.add("a"))
    os.kill(record.worker.pid, signal.SIGSTOP)
    asked = asyncio.create_task(ask(registry, "a", "x" * 4_000_000))  # more than a socket holds
    while record.worker.in_flight < 1:
        await asyncio.sleep(0)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    record.worker.process.kill()
    await registry.unload("a")
    assert registry.records() == []
