"""Loads: one at a time for a name, their steps, cancels and failures; over real processes."""

import asyncio
import os

import psutil
import pytest

from core.errors import (
    BerthError,
    CorruptModel,
    HubBusy,
    InternalError,
    LoadCancelled,
    ModelLoading,
    RepositoryNotFound,
    TaskNotSupported,
    WrongState,
)
from core.types import ModelSpec, State, Task
from tests.core.fleet.steps import ask, ready, release


async def test_fifty_loads_of_one_model_are_one(registry, shelf):
    spec = shelf.add("a")
    jobs = await asyncio.gather(*(registry.load(spec) for _ in range(50)))
    infos = await asyncio.gather(*(job.done for job in jobs))
    assert len({id(job) for job in jobs}) == 1
    assert len({id(info) for info in infos}) == 1
    assert shelf.inspected == ["a"]


async def test_loading_what_is_loaded_does_nothing(registry, shelf):
    record = await ready(registry, shelf.add("a"))
    pid = record.worker.pid
    job = await registry.load(ModelSpec(name="a", source="a"))
    assert job.done.done()
    assert registry.get("a").worker.pid == pid


@pytest.mark.parametrize("other", [{"source": "b"}, {"source": "a", "dtype": "float16"}, {"source": "a", "file": "x"}])
async def test_a_name_that_is_taken_is_not_given_twice(registry, shelf, other):
    shelf.add("b")
    await ready(registry, shelf.add("a"))
    with pytest.raises(WrongState, match="a is already loaded"):
        await registry.load(ModelSpec(name="a", **other))


async def test_nonsense_leaves_no_record(registry):
    with pytest.raises(RepositoryNotFound):
        await registry.load(ModelSpec(name="x", source="nowhere"))
    assert registry.records() == []


async def test_a_file_that_is_cut_fails_the_load_and_says_so(registry, shelf):
    spec = shelf.add("a")
    (shelf.root / "a" / "corrupt").touch()
    job = await registry.load(spec)
    with pytest.raises(CorruptModel):
        await job.done
    assert registry.get("a").state is State.FAILED
    with pytest.raises(CorruptModel, match="is cut"):
        await ask(registry, "a", "x")
    (shelf.root / "a" / "corrupt").unlink()
    assert (await ready(registry, spec)).state is State.READY


@pytest.mark.parametrize("how", ["die", "segfault", "exit", "bug", "oom", "panic"])
async def test_whatever_goes_wrong_while_loading_is_typed_and_leaves_no_process(registry, shelf, how):
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    job = await registry.load(shelf.add("a", load=how))
    with pytest.raises(BerthError) as caught:
        await job.done
    assert caught.value.type in ("load_failed", "internal", "insufficient_memory")
    # what may pass by itself is tried again by the next request; the rest waits for somebody to look at it
    assert registry.get("a").state is (State.ABSENT if caught.value.retryable else State.FAILED)
    assert {child.pid for child in psutil.Process().children(recursive=True)} == before


async def test_a_load_tells_every_listener_each_step_in_order(registry, shelf):
    job = await registry.load(shelf.add("remote"))

    async def follow():
        return [event.stage async for event in job.events()]

    stories = await asyncio.gather(*(follow() for _ in range(3)))
    order = ["queued", "downloading", "verifying", "loading", "warming", "ready"]
    for story in stories:
        assert story[-1] == "ready"
        assert sorted(story, key=order.index) == story
    late = [event.stage async for event in job.events()]
    assert late == ["ready"]


async def test_a_load_is_cancelled_while_the_worker_loads(registry, shelf):
    fifo = shelf.fifo("gate")
    before = _workers()  # of servers that other tests share
    job = await registry.load(shelf.add("a", load=f"wait:{fifo}"))
    async for event in job.events():
        if event.stage == "warming":
            break
    (pid,) = _workers() - before
    await registry.cancel("a")
    with pytest.raises(LoadCancelled):
        await job.done
    assert job.current.stage == "cancelled"
    assert registry.records() == []
    assert not psutil.pid_exists(pid)


def _workers() -> set[int]:
    """Grandchildren: the children of fork servers."""
    return {child.pid for child in psutil.Process().children(recursive=True) if child.ppid() != os.getpid()}


async def test_there_is_nothing_to_cancel_once_it_is_ready(registry, shelf):
    await ready(registry, shelf.add("a"))
    with pytest.raises(WrongState, match="no load to cancel"):
        await registry.cancel("a")


async def test_a_request_waits_for_a_model_that_is_being_loaded(registry, shelf):
    fifo = shelf.fifo("gate")
    await registry.load(shelf.add("a", load=f"wait:{fifo}"))
    asked = asyncio.create_task(ask(registry, "a", "four"))
    await asyncio.to_thread(release, fifo)
    assert (await asked)["outputs"] == [4]


async def test_a_request_that_has_waited_long_enough_is_told_how_far_the_load_is(registry, shelf, settings):
    fifo = shelf.fifo("gate")
    registry._settings = settings.model_copy(update={"load_wait_s": 0.05})
    await registry.load(shelf.add("a", load=f"wait:{fifo}"))
    with pytest.raises(ModelLoading, match="still (loading|warming)"):
        await ask(registry, "a", "four")
    await asyncio.to_thread(release, fifo)
    await registry.get("a").job.done


async def test_a_task_it_cannot_do_is_refused_with_those_it_can(registry, shelf):
    await ready(registry, shelf.add("a"))
    with pytest.raises(TaskNotSupported, match="text-classification"):
        async with registry.lease("a", Task.FILL_MASK):
            pass


async def test_an_unexpected_error_ends_the_load_and_frees_the_name(registry, shelf):
    spec = shelf.add("a")
    shelf.raises = [OSError(24, "Too many open files")]
    with pytest.raises(InternalError):
        await registry.load(spec)
    assert registry.records() == []
    assert (await ready(registry, spec)).state is State.READY


async def test_a_cancel_before_the_load_has_taken_a_step(registry, shelf):
    job = registry.start_load(shelf.add("a"))
    await registry.cancel("a")
    with pytest.raises(LoadCancelled):
        await job.done
    assert registry.records() == []


async def test_two_cancels_at_once_tell_everybody(registry, shelf):
    fifo = shelf.fifo("gate")
    job = await registry.load(shelf.add("a", load=f"wait:{fifo}"))
    async for event in job.events():
        if event.stage == "warming":
            break
    job.task.cancel()
    await asyncio.sleep(0)
    await registry.cancel("a")
    with pytest.raises(LoadCancelled):
        await job.done
    assert job.current.stage == "cancelled"
    assert registry.records() == []


async def test_what_fails_for_the_moment_is_tried_again_by_the_next_request(registry, shelf):
    spec = shelf.add("remote")
    shelf.fetch_raises = [HubBusy("The Hub is busy.", retry_after=30)]
    job = await registry.load(spec)
    with pytest.raises(HubBusy):
        await job.done
    assert (await ask(registry, "remote", "four"))["outputs"] == [4]
