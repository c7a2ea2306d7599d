"""Requests for more models than there is room for: who waits, who goes, that nobody is lost; over real processes."""

import asyncio

import pytest

from core.errors import InsufficientMemory, ModelLoading, QueueFull
from core.fleet.eviction import Cause
from core.fleet.record import FRESH_S
from core.fleet.room import YIELD_S
from core.types import State
from tests.core.fleet.steps import ask, ready, release


async def used(registry, *specs):
    """Each is loaded and has answered a request, in this order."""
    for spec in specs:
        await ready(registry, spec)
        await ask(registry, spec.name, "four")
        registry._clock.advance(1)


async def asks(registry, name, *texts):
    """A request that has been sent: it waits for the model or its answer."""
    asked = asyncio.create_task(ask(registry, name, *texts))
    while not registry.find(name) or registry.get(name).leases == 0:
        await asyncio.sleep(0)
    return asked


async def in_line(registry, *names):
    """Until these wait for memory, in this order."""
    while registry.room.ledger.waiting != names:
        await asyncio.sleep(0.001)


async def test_queue_does_not_evict_busy_model(crowd, shelf):
    registry, fifo = crowd(room=100), shelf.fifo("gate")
    await used(registry, shelf.add("a"))
    pid = registry.get("a").worker.pid
    busy = await asks(registry, "a", f"wait:{fifo}")
    await registry.load(shelf.add("b"))
    await in_line(registry, "b")
    registry._clock.advance(10)  # however long
    await asyncio.sleep(0)
    assert registry.get("a").worker.pid == pid
    assert registry.get("b").state is State.QUEUED
    assert registry.get("b").job.current.data["waiting_for"] == ["a"]
    await asyncio.to_thread(release, fifo)
    await busy
    await registry.get("b").job.done
    assert registry.story == ["+a", "-a", "+b"]


async def test_queue_coalesces_requests_for_same_model(crowd, shelf):
    registry = crowd(room=100)
    await used(registry, shelf.add("a"), shelf.add("b"))
    answers = await asyncio.gather(*(ask(registry, "a", "x" * n) for n in range(1, 9)))
    assert [answer["outputs"] for answer in answers] == [[n] for n in range(1, 9)]
    assert registry.story == ["+a", "-a", "+b", "-b", "+a"]


async def test_queue_client_disconnect_keeps_model(crowd, shelf):
    """Who has gone before it was its turn evicts nobody."""
    registry, fifo = crowd(room=100), shelf.fifo("gate")
    await used(registry, shelf.add("b"), shelf.add("a"))
    busy = await asks(registry, "a", f"wait:{fifo}")
    gone = await asks(registry, "b", "four")
    await in_line(registry, "b")
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    await in_line(registry)
    await asyncio.to_thread(release, fifo)
    await busy
    assert (await ask(registry, "a", "four"))["outputs"] == [4]
    assert registry.story == ["+b", "-b", "+a"]
    assert (await ask(registry, "b", "four"))["outputs"] == [4]  # and who comes later is served


async def test_a_load_that_somebody_asked_for_goes_on_without_its_requests(crowd, shelf):
    registry, fifo = crowd(room=100), shelf.fifo("gate")
    await used(registry, shelf.add("a"))
    busy = await asks(registry, "a", f"wait:{fifo}")
    await registry.load(shelf.add("b"))
    gone = await asks(registry, "b", "four")
    await in_line(registry, "b")
    gone.cancel()
    await asyncio.wait([gone])
    await asyncio.to_thread(release, fifo)
    await busy
    await registry.get("b").job.done
    assert registry.get("b").state is State.READY


async def test_queue_is_fifo(crowd, shelf):
    registry, fifo = crowd(room=100), shelf.fifo("gate")
    await used(registry, *(shelf.add(name) for name in "dcba"))
    busy = await asks(registry, "a", f"wait:{fifo}")
    waiting = []
    for count, name in enumerate("bcd", 1):
        waiting.append(await asks(registry, name, "four"))
        await in_line(registry, *"bcd"[:count])
    registry.story.clear()
    await asyncio.to_thread(release, fifo)
    await asyncio.gather(busy, *waiting)
    assert registry.story == ["-a", "+b", "-b", "+c", "-c", "+d"]


async def test_a_small_model_does_not_pass_a_large_one(crowd, shelf):
    registry, fifo = crowd(room=100, sizes={"a": 80, "large": 90, "small": 10}), shelf.fifo("gate")
    await used(registry, shelf.add("a"))
    busy = await asks(registry, "a", f"wait:{fifo}")
    large = await registry.load(shelf.add("large"))
    await in_line(registry, "large")
    small = await registry.load(shelf.add("small"))
    await in_line(registry, "large", "small")  # though it would fit beside a
    await asyncio.to_thread(release, fifo)
    await asyncio.gather(busy, large.done, small.done)
    assert registry.story == ["+a", "-a", "+large", "+small"]


async def test_does_not_proxy_into_stopping_model(crowd, shelf):
    registry = crowd()
    await used(registry, shelf.add("a"))
    pid = registry.get("a").worker.pid
    going = registry.room.evict(registry.get("a"), Cause.MEMORY)
    assert (await ask(registry, "a", "four"))["outputs"] == [4]
    assert registry.get("a").worker.pid != pid
    assert (await going).freed["cpu"] > 0


async def test_two_waiters_share_one_eviction(crowd, shelf):
    registry, fifo = crowd(room=100), shelf.fifo("gate")
    await used(registry, shelf.add("b"), shelf.add("a"))
    busy = await asks(registry, "a", f"wait:{fifo}")
    waiting = [await asks(registry, "b", "four"), await asks(registry, "b", "three3")]
    await in_line(registry, "b")
    registry.story.clear()
    await asyncio.to_thread(release, fifo)
    answers = await asyncio.gather(*waiting)
    assert [answer["outputs"] for answer in answers] == [[4], [6]]
    await busy
    assert registry.story == ["-a", "+b"]


async def test_models_max_evicts_lru(crowd, shelf):
    registry = crowd(room=300)
    await used(registry, shelf.add("a"), shelf.add("b"), shelf.add("c"))
    await ask(registry, "a", "four")  # b is the coldest now
    await ready(registry, shelf.add("d"))
    assert registry.story == ["+a", "+b", "+c", "-b", "+d"]


async def test_the_coldest_that_alone_suffices_goes_else_the_fewest(crowd, shelf):
    registry = crowd(room=100, sizes={"a": 10, "b": 20, "c": 30, "d": 40, "x": 25, "y": 70})
    await used(registry, *(shelf.add(name) for name in "abcd"))
    await used(registry, shelf.add("x"))
    assert registry.story[4:] == ["-c", "+x"]  # a is colder and b too, but neither is enough
    await used(registry, shelf.add("y"))
    assert sorted(registry.story[6:8]) == ["-d", "-x"]


async def test_fast_path_load_not_evicted_before_proxy(crowd, shelf):
    """Between a load's end and the answer to the request that waited for it, nobody takes the model away."""
    registry, fifo = crowd(room=100), shelf.fifo("gate")
    await used(registry, shelf.add("b"), shelf.add("a"))
    busy = await asks(registry, "a", f"wait:{fifo}")
    first = await asks(registry, "b", "four")
    await in_line(registry, "b")
    second = await asks(registry, "a", "three3")  # of a, which will have gone for b
    await registry.load(shelf.add("c"))
    await in_line(registry, "b", "c")
    await asyncio.to_thread(release, fifo)
    assert (await first)["outputs"] == [4]
    await asyncio.gather(busy, second, registry.get("c").job.done)


async def test_a_model_that_was_just_loaded_is_left_alone_until_it_is_used(crowd, shelf, clock):
    registry = crowd(room=100)
    await ready(registry, shelf.add("a"))
    await registry.load(shelf.add("b"))
    await in_line(registry, "b")
    assert (await ask(registry, "a", "four"))["outputs"] == [4]
    await registry.get("b").job.done
    await registry.load(shelf.add("c"))  # b is never used
    await in_line(registry, "c")
    clock.advance(FRESH_S - 0.1)
    await asyncio.sleep(0)
    assert registry.get("b").state is State.READY
    clock.advance(0.1)
    await registry.get("c").job.done
    assert registry.story == ["+a", "-a", "+b", "-b", "+c"]


async def test_a_hopeless_load_evicts_nobody_and_says_the_numbers(crowd, shelf):
    registry = crowd(room=200, sizes={"large": 201})
    await used(registry, shelf.add("a"), shelf.add("b"))
    with pytest.raises(InsufficientMemory, match=r"large needs 201 MiB on cpu, where models may take 200 MiB"):
        await registry.load(shelf.add("large"))
    assert registry.story == ["+a", "+b"]
    assert registry.find("large") is None
    assert (await ask(registry, "a", "four"))["outputs"] == [4]


async def test_a_load_by_force_needs_no_room_and_evicts_only_who_helps(crowd, shelf):
    registry = crowd(room=200, sizes={"large": 250, "fair": 150})
    await used(registry, shelf.add("a"), shelf.add("b"))
    job = await registry.load(shelf.add("large"), force=True)
    await job.done
    assert registry.story == ["+a", "+b", "+large"]  # nobody's end would have made it fit
    assert registry.faults  # the budget is exceeded, as was wanted
    registry.faults.clear()
    await registry.unload("large")
    job = await registry.load(shelf.add("fair"), force=True)
    await job.done
    assert sorted(registry.story[3:]) == ["+fair", "-a", "-b"]


async def test_force_ends_a_wait(crowd, shelf):
    registry, fifo = crowd(room=100), shelf.fifo("gate")
    await used(registry, shelf.add("a"))
    busy = await asks(registry, "a", f"wait:{fifo}")
    spec = shelf.add("b")
    job = await registry.load(spec)
    await in_line(registry, "b")
    assert await registry.load(spec, force=True) is job
    await job.done
    await asyncio.to_thread(release, fifo)
    await busy
    registry.faults.clear()


async def test_what_is_pinned_stays(crowd, shelf):
    registry = crowd(room=200, sizes={"large": 150})
    pinned = shelf.add("a")
    await used(registry, pinned, shelf.add("b"))
    registry.start_load(type(pinned)("a", "a", pinned=True))  # what is loaded can be pinned
    await used(registry, shelf.add("c"))
    assert registry.story == ["+a", "+b", "-b", "+c"]
    with pytest.raises(InsufficientMemory, match="pinned stays: a"):
        await registry.load(shelf.add("large"))
    registry.start_load(type(pinned)("a", "a", pinned=False))
    await used(registry, shelf.add("large"))
    assert sorted(registry.story[4:]) == ["+large", "-a", "-c"]


async def test_a_load_that_waits_too_long_is_told_who_did_not_make_room(crowd, shelf, clock):
    registry, fifo = crowd(room=100, load_wait_s=30), shelf.fifo("gate")
    await used(registry, shelf.add("a"))
    busy = await asks(registry, "a", f"wait:{fifo}")
    job = await registry.load(shelf.add("b"))
    await in_line(registry, "b")
    clock.advance(31)
    with pytest.raises(InsufficientMemory, match=r"b needs 100 MiB .* a did not make room within 30 s") as caught:
        await job.done
    assert caught.value.retryable
    assert registry.room.ledger.waiting == ()
    await asyncio.to_thread(release, fifo)
    assert (await busy)["outputs"]
    assert registry.story == ["+a"]


async def test_a_model_that_is_always_in_use_yields_after_a_while(crowd, shelf, clock):
    registry, first, second = crowd(room=100), shelf.fifo("first"), shelf.fifo("second")
    await used(registry, shelf.add("b"), shelf.add("a"))
    record = registry.get("a")
    running = await asks(registry, "a", f"wait:{first}")
    waiting = await asks(registry, "b", "four")
    await in_line(registry, "b")
    clock.advance(YIELD_S - 0.1)
    await asyncio.sleep(0)
    more = asyncio.create_task(ask(registry, "a", f"wait:{second}"))  # it still gets in
    while record.leases < 2:
        await asyncio.sleep(0)
    clock.advance(0.1)
    while record.is_open.is_set():
        await asyncio.sleep(0)
    late = [asyncio.create_task(ask(registry, "a", "x" * n)) for n in (1, 2)]
    while record.outside < 2:
        await asyncio.sleep(0)
    for fifo in (first, second):
        assert record.state is State.READY
        await asyncio.to_thread(release, fifo)
    assert (await waiting)["outputs"] == [4]
    await asyncio.gather(running, more)
    assert [(await answer)["outputs"] for answer in late] == [[1], [2]]
    assert registry.story == ["+b", "-b", "+a", "-a", "+b", "-b", "+a"]
    assert record.outside == 0


async def yields(registry, record, shelf, clock):
    """A load of `b` has waited so long that the busy `record` takes no more requests."""
    await registry.load(shelf.add("b"))
    await in_line(registry, "b")
    clock.advance(YIELD_S)
    while record.is_open.is_set():
        await asyncio.sleep(0)


async def test_who_yields_takes_requests_again_when_nobody_waits_any_more(crowd, shelf, clock):
    registry, fifo = crowd(room=100), shelf.fifo("gate")
    await used(registry, shelf.add("a"))
    record = registry.get("a")
    running = await asks(registry, "a", f"wait:{fifo}")
    await yields(registry, record, shelf, clock)
    late = asyncio.create_task(ask(registry, "a", "four"))
    while record.outside < 1:
        await asyncio.sleep(0)
    await registry.cancel("b")
    while record.leases < 2:
        await asyncio.sleep(0)
    await asyncio.to_thread(release, fifo)
    await running
    assert (await late)["outputs"] == [4]
    assert registry.story == ["+a"]


async def test_who_waits_outside_counts_in_the_queue(crowd, shelf, clock, settings):
    registry, fifo = crowd(room=100), shelf.fifo("gate")
    await used(registry, shelf.add("a"))
    record = registry.get("a")
    running = await asks(registry, "a", f"wait:{fifo}")
    await yields(registry, record, shelf, clock)
    late = [asyncio.create_task(ask(registry, "a", "four")) for _ in range(settings.max_queue - 1)]
    while record.outside < settings.max_queue - 1:
        await asyncio.sleep(0)
    with pytest.raises(QueueFull):
        await ask(registry, "a", "four")
    await asyncio.to_thread(release, fifo)
    await running
    await registry.get("b").job.done
    clock.advance(FRESH_S)
    await asyncio.gather(*late)


async def test_a_request_that_has_waited_long_enough_is_told_for_what(crowd, shelf):
    registry, fifo = crowd(room=100), shelf.fifo("gate")
    await used(registry, shelf.add("a"))
    busy = await asks(registry, "a", f"wait:{fifo}")
    await registry.load(shelf.add("b"))
    await in_line(registry, "b")
    registry._settings = registry._settings.model_copy(update={"load_wait_s": 0.05})
    with pytest.raises(ModelLoading, match="b is still queued for memory that a holds"):
        await ask(registry, "b", "four")
    await asyncio.to_thread(release, fifo)
    await busy
    await registry.get("b").job.done


async def test_many_clients_on_few_places_lose_nothing(crowd, shelf):
    registry = crowd(room=200)
    for name in "abcdef":
        await registry.load(shelf.add(name))
        registry._clock.advance(FRESH_S)
        await registry.get(name).job.done
    names = [name for turn in range(4) for name in ("abcdef"[turn:] + "abcdef"[:turn])]

    async def client(offset):
        for name in names[offset:] + names[:offset]:
            assert (await ask(registry, name, "x" * (offset + 1)))["outputs"] == [offset + 1]

    await asyncio.gather(*(client(offset) for offset in range(8)))
