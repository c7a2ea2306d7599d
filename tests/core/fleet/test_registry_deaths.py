"""Requests that fail, hang or are given up, and processes that die; over real processes."""

import asyncio
import os
import signal

import pytest

from core.errors import DeadlineExceeded, HubBusy, ModelFailed, QueueFull, WorkerCrashed
from core.types import State
from tests.core.fleet.steps import ask, ready, release


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
