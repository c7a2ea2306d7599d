"""Memory that runs out, and stays that end by themselves; over real processes and a clock that the test moves."""

import asyncio
from dataclasses import replace

import pytest

from core.errors import InsufficientMemory, LoadCancelled, LoadFailed
from core.fleet.eviction import Cause
from core.memory.probe import Probe
from core.settings import MIB
from core.types import State
from tests.core.fleet.steps import ask, ready, release
from tests.core.fleet.test_router import asks, in_line, used


@pytest.mark.parametrize("how", ["oom", "die"])
async def test_load_crash_triggers_evict_all_and_retry(crowd, shelf, how):
    registry = crowd(room=400)
    await used(registry, shelf.add("a"), shelf.add("b"))
    job = await registry.load(shelf.add("scarce", load=f"once:{how}"))
    await job.done
    assert registry.story == ["+a", "+b", "+scarce", "-a", "-b"]
    assert [(each.cause, each.wanted_by) for each in registry.room.evictions] == [(Cause.OUT_OF_MEMORY, "scarce")] * 2
    assert (await ask(registry, "scarce", "four"))["outputs"] == [4]


async def test_load_crash_no_other_models_fails_fast(crowd, shelf):
    registry, fifo = crowd(room=400), shelf.fifo("gate")
    await used(registry, shelf.add("a"))
    busy = await asks(registry, "a", f"wait:{fifo}")  # it does not count: it cannot go
    job = await registry.load(shelf.add("scarce", load="once:oom"))
    with pytest.raises(InsufficientMemory, match=r"scarce ran out of memory .* promised 100 MiB on cpu"):
        await job.done
    assert registry.room.ledger.names == ("a",)
    await asyncio.to_thread(release, fifo)
    await busy


async def test_a_load_is_tried_once_more_and_not_for_ever(crowd, shelf):
    registry = crowd(room=400)
    await used(registry, shelf.add("a"))
    job = await registry.load(shelf.add("scarce", load="oom"))
    with pytest.raises(InsufficientMemory, match="ran out of memory"):
        await job.done
    assert registry.story == ["+a", "+scarce", "-a"]
    assert registry.room.ledger.names == ()


async def test_a_load_that_crashes_by_itself_evicts_nobody(crowd, shelf):
    registry = crowd(room=400)
    await used(registry, shelf.add("a"))
    job = await registry.load(shelf.add("broken", load="segfault"))
    with pytest.raises(LoadFailed):
        await job.done
    assert registry.story == ["+a", "+broken"]
    assert registry.room.ledger.names == ("a",)


async def test_runtime_oom_expires_loaded_runners(crowd, shelf):
    """A request that runs out of memory fails alone; idle models make room for the next."""
    registry, fifo = crowd(room=400), shelf.fifo("gate")
    pinned = replace(shelf.add("pinned"), pinned=True)
    await used(registry, pinned, shelf.add("idle"), shelf.add("busy"), shelf.add("a"))
    busy = await asks(registry, "busy", f"wait:{fifo}")
    pid = registry.get("a").worker.pid
    with pytest.raises(InsufficientMemory):
        await ask(registry, "a", "oom")
    while registry.get("idle").state is not State.ABSENT:
        await asyncio.sleep(0.001)
    assert registry.story[4:] == ["-idle"]
    assert registry.get("a").worker.pid == pid
    await asyncio.to_thread(release, fifo)
    await busy


async def test_premature_expired(crowd, shelf, clock):
    """A stay that ends while a request runs ends after it."""
    registry, fifo = crowd(keep_alive=60), shelf.fifo("gate")
    record = await ready(registry, shelf.add("a"))
    busy = await asks(registry, "a", f"wait:{fifo}")
    clock.advance(1000)
    assert record.state is State.READY
    await asyncio.to_thread(release, fifo)
    await busy
    clock.advance(59)
    assert record.state is State.READY
    clock.advance(2)
    assert record.state is State.ABSENT
    assert (await ask(registry, "a", "four"))["outputs"] == [4]  # the next request brings it back


async def test_already_canceled(crowd, shelf):
    """A load that was cancelled in the line takes no memory, and leaves its place."""
    registry, fifo = crowd(room=100), shelf.fifo("gate")
    await used(registry, shelf.add("a"))
    busy = await asks(registry, "a", f"wait:{fifo}")
    cancelled = await registry.load(shelf.add("b"))
    await in_line(registry, "b")
    behind = await registry.load(shelf.add("c"))
    await in_line(registry, "b", "c")
    await registry.cancel("b")
    with pytest.raises(LoadCancelled):
        await cancelled.done
    assert registry.room.ledger.waiting == ("c",)
    await asyncio.to_thread(release, fifo)
    await asyncio.gather(busy, behind.done)
    assert registry.story == ["+a", "-a", "+c"]


async def test_keep_alive_is_counted_from_the_end_of_the_last_request(crowd, shelf, clock):
    registry = crowd()
    record = await ready(registry, replace(shelf.add("a"), keep_alive=300.0))
    clock.advance(200)
    await ask(registry, "a", "four")
    clock.advance(299)
    assert record.state is State.READY
    clock.advance(1)
    assert record.state is State.ABSENT
    await record.releasing
    (eviction,) = registry.room.evictions
    assert (eviction.model, eviction.cause, eviction.wanted_by) == ("a", Cause.KEEP_ALIVE, None)
    assert eviction.released.freed["cpu"] > 0
    assert registry.room.ledger.names == ()


async def test_one_that_is_never_asked_anything_goes_too(crowd, shelf, clock):
    registry = crowd(keep_alive=300)
    record = await ready(registry, shelf.add("a"))
    clock.advance(299)
    assert record.state is State.READY
    clock.advance(1)
    assert record.state is State.ABSENT


async def test_a_keep_alive_of_none_ends_with_the_last_request(crowd, shelf, clock):
    registry, fifo = crowd(), shelf.fifo("gate")
    record = await ready(registry, replace(shelf.add("a"), keep_alive=0.0))
    clock.advance(1000)
    assert record.state is State.READY  # for the request that it was loaded for
    busy = await asks(registry, "a", f"wait:{fifo}")
    await asyncio.to_thread(release, fifo)
    await busy
    assert record.state is State.ABSENT
    assert (await ask(registry, "a", "four"))["outputs"] == [4]


@pytest.mark.parametrize("how", [{"keep_alive": -1.0}, {"pinned": True}])
async def test_who_stays_for_good(crowd, shelf, clock, how):
    registry = crowd(keep_alive=60)
    record = await ready(registry, replace(shelf.add("a"), **how))
    await ask(registry, "a", "four")
    clock.advance(1e6)
    assert record.state is State.READY


async def test_keep_alive_can_be_changed_while_it_is_loaded(crowd, shelf, clock):
    registry = crowd()
    spec = shelf.add("a")
    record = await ready(registry, spec)
    pid = record.worker.pid
    job = await registry.load(replace(spec, keep_alive=60.0))
    assert job.done.done()
    assert record.worker.pid == pid
    clock.advance(59)
    await registry.load(replace(spec, keep_alive=120.0))
    clock.advance(59)
    assert record.state is State.READY
    clock.advance(2)
    assert record.state is State.ABSENT


async def test_a_model_is_unloaded_while_it_is_evicted(crowd, shelf):
    registry = crowd()
    await used(registry, shelf.add("a"))
    going = registry.room.evict(registry.get("a"), Cause.MEMORY)
    freed = await registry.unload("a")
    assert freed == (await going).freed
    assert registry.records() == []


async def test_a_death_gives_the_bytes_back_to_whoever_waits(crowd, shelf):
    registry, fifo = crowd(room=100), shelf.fifo("gate")
    await used(registry, shelf.add("a"))
    busy = await asks(registry, "a", f"wait:{fifo}")
    job = await registry.load(shelf.add("b"))
    await in_line(registry, "b")
    registry.get("a").worker.process.kill()
    await job.done
    await asyncio.wait([busy])
    assert registry.story == ["+a", "+b"]
    assert registry.room.ledger.names == ("b",)


class Greedy(Probe):
    """Sees every process hold half as much again as was promised."""

    def process(self, pid):
        return {"cpu": 150 * MIB} if super().process(pid) else {}

    def peak(self, pid, held):
        return held


async def test_models_that_take_more_than_promised_make_idle_ones_go(crowd, shelf):
    registry = crowd(room=250, probe=Greedy())
    await used(registry, shelf.add("a"))
    await ready(registry, shelf.add("b"))
    while not registry.room.evictions:
        await asyncio.sleep(0.001)
    assert [(each.model, each.cause) for each in registry.room.evictions] == [("a", Cause.OVERDRAWN)]
    assert registry.get("b").state is State.READY
    assert registry.room.ledger.overdrawn() == {}


async def test_what_it_held_before_is_needed_again(crowd, shelf):
    registry = crowd(room=240, probe=Greedy())
    await used(registry, shelf.add("a"), shelf.add("b"))  # a goes, since it was seen to hold 150
    await ready(registry, shelf.add("a"))
    assert registry.room.ledger.account("a").promised == {"cpu": 150 * MIB}
    assert registry.story == ["+a", "-a", "+b", "-b", "+a"]


async def test_what_was_measured_counts_in_the_next_admission(crowd, shelf):
    registry = crowd(room=240, probe=Greedy())
    await used(registry, shelf.add("a"))
    await ready(registry, shelf.add("b"))  # promised 100, and 100 are promised to a, but a holds 150
    assert registry.story == ["+a", "-a", "+b"]
