"""Loads that coalesce, leases, draining, deaths: over real processes."""

import asyncio
import os
import signal
from pathlib import Path

import psutil
import pytest

from core.errors import (
    BerthError,
    CorruptModel,
    DeadlineExceeded,
    HubBusy,
    InternalError,
    LoadCancelled,
    ModelDraining,
    ModelFailed,
    ModelLoading,
    ModelNotFound,
    QueueFull,
    RepositoryNotFound,
    ShuttingDown,
    TaskNotSupported,
    WorkerCrashed,
    WrongState,
)
from core.types import ModelSpec, State, Task


async def ready(registry, spec):
    job = await registry.load(spec)
    await job.done
    return registry.get(spec.name)


async def ask(registry, name, *texts, deadline_s=20):
    async with registry.lease(name) as record:
        return await record.worker.call(
            "run", deadline_s=deadline_s, task=Task.TEXT_CLASSIFICATION, items=list(texts), params={}
        )


def release(fifo: Path) -> None:
    """Lets a model that waits on `fifo` go on."""
    fifo.write_bytes(b"go")


async def test_a_model_loads_answers_and_unloads(registry, shelf):
    record = await ready(registry, shelf.add("a"))
    assert (await ask(registry, "a", "four", "three3"))["outputs"] == [4, 6]
    pid = record.worker.pid
    freed = await registry.unload("a")
    assert freed["cpu"] > 0
    assert not psutil.pid_exists(pid)
    with pytest.raises(ModelNotFound):
        registry.get("a")


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
    job = await registry.load(shelf.add("a", load=f"wait:{fifo}"))
    async for event in job.events():
        if event.stage == "warming":
            break
    (pid,) = [child.pid for child in psutil.Process().children(recursive=True) if _is_worker(child)]
    await registry.cancel("a")
    with pytest.raises(LoadCancelled):
        await job.done
    assert job.current.stage == "cancelled"
    assert registry.records() == []
    assert not psutil.pid_exists(pid)


def _is_worker(process: psutil.Process) -> bool:
    """A grandchild: the fork server's child."""
    return process.ppid() != os.getpid()


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


async def test_a_death_answers_everyone_and_the_next_request_brings_it_back(registry, shelf):
    fifo = shelf.fifo("gate")
    record = await ready(registry, shelf.add("a"))
    asked = [asyncio.create_task(ask(registry, "a", f"wait:{fifo}")) for _ in range(7)]
    while registry.get("a").worker.in_flight < 7:
        await asyncio.sleep(0)
    pid = record.worker.pid
    os.kill(pid, signal.SIGKILL)
    errors = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(error) for error in errors] == [WorkerCrashed] * 7
    assert "SIGKILL" in errors[0].message
    assert record.state is State.ABSENT
    assert record.leases == 0
    assert (await ask(registry, "a", "four"))["outputs"] == [4]
    assert record.worker.pid != pid


async def test_three_deaths_in_five_minutes_are_enough(registry, shelf):
    spec = shelf.add("a")
    await ready(registry, spec)
    for _ in range(3):
        with pytest.raises(WorkerCrashed):
            await ask(registry, "a", "die")
    with pytest.raises(ModelFailed, match=r"died 3 times.*SIGKILL"):
        await ask(registry, "a", "four")
    assert (await ready(registry, spec)).state is State.READY  # an explicit load starts over
    assert (await ask(registry, "a", "four"))["outputs"] == [4]


async def test_a_lost_context_replaces_the_process(registry, shelf):
    record = await ready(registry, shelf.add("a"))
    pid = record.worker.pid
    with pytest.raises(WorkerCrashed, match="device-side assert"):
        await ask(registry, "a", "context")
    assert (await ask(registry, "a", "four"))["outputs"] == [4]
    assert record.worker.pid != pid


@pytest.mark.parametrize(
    ("command", "kind"), [("bug", "internal"), ("oom", "insufficient_memory"), ("panic", "internal")]
)
async def test_a_request_that_fails_fails_alone(registry, shelf, command, kind):
    record = await ready(registry, shelf.add("a"))
    pid = record.worker.pid
    with pytest.raises(Exception) as caught:  # noqa: PT011
        await ask(registry, "a", command)
    assert caught.value.type == kind
    assert (await ask(registry, "a", "four"))["outputs"] == [4]
    assert record.worker.pid == pid


async def test_a_hung_process_is_found_out_and_replaced(registry, shelf):
    record = await ready(registry, shelf.add("a"))
    worker = record.worker
    with pytest.raises(DeadlineExceeded):
        await ask(registry, "a", "hang", deadline_s=0.1)
    assert await worker.is_alive() is False
    await worker.died
    assert (await ask(registry, "a", "four"))["outputs"] == [4]


async def test_a_slow_process_is_not_taken_for_a_hung_one(registry, shelf):
    fifo = shelf.fifo("gate")
    record = await ready(registry, shelf.add("a"))
    with pytest.raises(DeadlineExceeded):
        await ask(registry, "a", f"wait:{fifo}", deadline_s=0.1)
    assert await record.worker.is_alive() is True
    await asyncio.to_thread(release, fifo)
    assert (await ask(registry, "a", "four"))["outputs"] == [4]


async def test_a_flood_of_output_blocks_nothing_and_is_not_kept(registry, shelf):
    record = await ready(registry, shelf.add("a"))
    assert (await ask(registry, "a", "flood"))["outputs"] == [5]
    assert sum(map(len, record.worker.process.output)) < 64 * 1024


async def test_a_request_that_is_given_up_is_withdrawn(registry, shelf):
    fifo = shelf.fifo("gate")
    record = await ready(registry, shelf.add("a"))
    blocking = asyncio.create_task(ask(registry, "a", f"wait:{fifo}"))
    while record.worker.in_flight < 1:
        await asyncio.sleep(0)
    given_up = asyncio.create_task(ask(registry, "a", "die"))
    while record.worker.in_flight < 2:
        await asyncio.sleep(0)
    given_up.cancel()
    with pytest.raises(asyncio.CancelledError):
        await given_up
    assert await record.worker.is_alive()
    await asyncio.to_thread(release, fifo)
    await blocking
    assert (await ask(registry, "a", "four"))["outputs"] == [4]  # "die" was never run
    assert record.leases == 0


async def test_the_queue_is_bounded(registry, shelf, settings):
    fifo = shelf.fifo("gate")
    record = await ready(registry, shelf.add("a"))
    asked = [asyncio.create_task(ask(registry, "a", f"wait:{fifo}")) for _ in range(settings.max_queue)]
    while record.leases < settings.max_queue:
        await asyncio.sleep(0)
    with pytest.raises(QueueFull) as caught:
        await ask(registry, "a", "four")
    assert caught.value.retry_after > 0
    os.kill(record.worker.pid, signal.SIGKILL)
    await asyncio.gather(*asked, return_exceptions=True)


async def test_a_task_it_cannot_do_is_refused_with_those_it_can(registry, shelf):
    await ready(registry, shelf.add("a"))
    with pytest.raises(TaskNotSupported, match="text-classification"):
        async with registry.lease("a", Task.FILL_MASK):
            pass


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
    me = psutil.Process()
    before = (me.num_fds(), me.num_threads(), len(me.children(recursive=True)))
    for _ in range(20):
        await ready(registry, spec)
        await registry.unload("a")
    assert (me.num_fds(), me.num_threads(), len(me.children(recursive=True))) == before


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


async def test_what_fails_for_the_moment_is_tried_again_by_the_next_request(registry, shelf):
    spec = shelf.add("remote")
    shelf.fetch_raises = [HubBusy("The Hub is busy.", retry_after=30)]
    job = await registry.load(spec)
    with pytest.raises(HubBusy):
        await job.done
    assert (await ask(registry, "remote", "four"))["outputs"] == [4]


async def test_a_model_that_was_ready_is_not_forgotten_when_it_cannot_come_back_at_once(registry, shelf):
    await ready(registry, shelf.add("a"))
    with pytest.raises(WorkerCrashed):
        await ask(registry, "a", "die")
    shelf.raises = [HubBusy("The Hub is busy.")]
    with pytest.raises(HubBusy):
        await ask(registry, "a", "four")
    assert (await ask(registry, "a", "four"))["outputs"] == [4]


async def test_a_model_comes_back_at_the_commit_it_was_loaded_at(registry, shelf):
    await ready(registry, shelf.add("remote"))
    with pytest.raises(WorkerCrashed):
        await ask(registry, "remote", "die")
    await ask(registry, "remote", "four")
    assert shelf.revisions == [None, "c0ffee"]


async def test_a_request_that_the_process_does_not_read_has_a_deadline_too(registry, shelf):
    record = await ready(registry, shelf.add("a"))
    os.kill(record.worker.pid, signal.SIGSTOP)
    with pytest.raises(DeadlineExceeded):
        await ask(registry, "a", "x" * 4_000_000, deadline_s=0.2)
    assert await record.worker.is_alive() is False


async def test_a_thread_that_never_ends_is_told_from_one_that_works(registry, shelf):
    fifo = shelf.fifo("gate")
    record = await ready(registry, shelf.add("a"))
    worker = record.worker
    with pytest.raises(DeadlineExceeded):
        await ask(registry, "a", f"text:{fifo}", deadline_s=0.1)  # on the text thread
    assert await worker.is_alive(busy_limit_s=1000) is True
    assert await worker.is_alive(busy_limit_s=0) is False
    await worker.died
    assert (await ask(registry, "a", "four"))["outputs"] == [4]
