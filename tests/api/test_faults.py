"""Workers that die, hang or are taken away while requests are in flight; clients that leave."""

import asyncio
import contextlib
import json
import os
import signal

import httpx
import psutil
import pytest

from core.core import Core
from core.fleet.launcher import Launcher
from core.worker.main import CONTEXT_LOST
from tests.serving import serve


@pytest.fixture
def fifo(tmp_path):
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return path


async def in_flight(served, name: str, count: int) -> None:
    while served.core.registry.get(name).leases < count:
        await asyncio.sleep(0.01)


async def reading(fifo) -> int:
    """Waits until the model has begun on `wait:FIFO`; the descriptor that lets it go on when closed."""
    return await asyncio.to_thread(os.open, fifo, os.O_WRONLY)


@contextlib.asynccontextmanager
async def busy(served, name, fifo):
    """The model `name` at work until the block ends."""
    first = asyncio.create_task(served.predict(name, f"wait:{fifo}"))
    hold = await reading(fifo)
    try:
        yield first
    finally:
        os.close(hold)
        await asyncio.wait([first])


async def test_a_killed_worker_answers_all_and_the_next_request_brings_it_back(shared, fifo):
    await shared.load("a")
    pid = shared.core.model("a").pid
    async with busy(shared, "a", fifo) as first:
        others = [asyncio.create_task(shared.predict("a", "four")) for _ in range(7)]
        await in_flight(shared, "a", 8)
        os.kill(pid, signal.SIGKILL)
        answers = await asyncio.wait_for(asyncio.gather(first, *others), 10)
    for answer in answers:
        assert (answer.status_code, answer.json()["error"]["type"]) == (503, "worker_crashed")
        assert answer.json()["error"]["retryable"] is True
        assert int(answer.headers["retry-after"]) >= 1
        assert "SIGKILL" in answer.json()["detail"]
    again = await shared.predict("a", "four")
    assert (again.status_code, again.json()["result"]) == (200, 4)
    assert shared.core.model("a").pid != pid


async def test_a_lost_context_answers_all_and_the_next_request_brings_it_back(shared, fifo):
    """As a device-side assert ends it, the process ends itself."""
    await shared.load("a")
    process = shared.core.registry.get("a").worker.process
    async with busy(shared, "a", fifo) as first:
        others = [asyncio.create_task(shared.predict("a", text)) for text in ("four", "context", *["four"] * 6)]
        await in_flight(shared, "a", 9)
    answers = await asyncio.wait_for(asyncio.gather(*others), 10)
    assert (await first).status_code in (200, 503)
    assert "context" in {json.loads(answer.request.content)["text"] for answer in answers if answer.status_code == 503}
    for answer in answers:
        if answer.status_code == 503:
            assert answer.json()["error"]["type"] == "worker_crashed"
            assert "device-side assert" in answer.json()["detail"]
    assert process.exited.result() == CONTEXT_LOST
    again = await shared.predict("a", "four")
    assert (again.status_code, again.json()["result"]) == (200, 4)
    assert shared.core.model("a").pid != process.pid


async def test_a_lost_context_ends_every_stream_with_a_typed_error(shared):
    await shared.load("writer")
    prompts = ["count:500000", "count:500000", "then:context\nsay:abcdef"]
    body = {"model": "writer", "max_new_tokens": 3000, "stream": True}
    answers = await asyncio.wait_for(
        asyncio.gather(*(shared.client.post("/generate", json={**body, "prompt": prompt}) for prompt in prompts)), 20
    )
    for answer in answers:
        assert "worker_crashed" in answer.text
        assert "device-side assert" in answer.text
    again = await shared.client.post("/generate", json={**body, "prompt": "say:back", "stream": False})
    assert again.status_code == 200


async def test_three_deaths_and_it_stays_down_until_it_is_loaded_again(shared):
    await shared.load("a")
    for _ in range(3):
        assert (await shared.predict("a", "die")).json()["error"]["type"] == "worker_crashed"
    for _ in range(2):
        refused = await shared.predict("a", "four")
        assert (refused.status_code, refused.json()["error"]["type"]) == (503, "model_failed")
        assert "SIGKILL" in refused.json()["detail"]
    assert (await shared.client.get("/models/a")).json()["status"] == "failed"
    await shared.load("a")
    assert (await shared.predict("a", "four")).status_code == 200


async def test_a_hung_worker_is_504_then_replaced(settings):
    core = Core(settings.model_copy(update={"request_timeout_s": 0.5}), Launcher("tests.fakes.runtime"))
    async with serve(core) as served:
        await served.load("a")
        process = psutil.Process(core.model("a").pid)
        answer = await served.predict("a", "hang")
        assert (answer.status_code, answer.json()["error"]["type"]) == (504, "deadline_exceeded")
        await asyncio.to_thread(psutil.wait_procs, [process], 20)
        assert not process.is_running()
        while core.registry.get("a").worker is not None:
            await asyncio.sleep(0.01)
        assert (await served.predict("a", "four")).json()["result"] == 4


async def test_a_full_queue_is_429_at_once(shared, fifo):
    await shared.load("a")
    async with busy(shared, "a", fifo):
        waiting = [asyncio.create_task(shared.predict("a", "four")) for _ in range(63)]
        await in_flight(shared, "a", 64)
        refused = await asyncio.gather(*(shared.predict("a", "four") for _ in range(10)))
        for answer in refused:
            assert (answer.status_code, answer.json()["error"]["type"]) == (429, "queue_full")
            assert "retry-after" in answer.headers
        stats = (await shared.client.get("/models")).json()["data"][0]["stats"]
        assert (stats["queue_absolute"], stats["queue_fraction"]) == (64, 1.0)
    assert {answer.status_code for answer in await asyncio.gather(*waiting)} == {200}


async def test_unload_lets_ten_finish_and_takes_no_more(shared, fifo):
    await shared.load("a")
    async with busy(shared, "a", fifo) as first:
        others = [asyncio.create_task(shared.predict("a", "four")) for _ in range(9)]
        await in_flight(shared, "a", 10)
        unload = asyncio.create_task(shared.client.post("/models/a/unload"))
        while shared.core.model("a").state != "draining":
            await asyncio.sleep(0.01)
        late = await shared.predict("a", "four")
        assert (late.status_code, late.json()["error"]["type"]) == (503, "model_draining")
        load = await shared.client.post("/models/load", json={"model_name": "a", "model_path": "a"})
        assert load.status_code == 503
        assert not unload.done()
    assert {answer.status_code for answer in await asyncio.gather(first, *others)} == {200}
    assert (await unload).status_code == 200
    assert (await shared.predict("a", "four")).status_code == 404


async def test_a_client_that_leaves_takes_its_request_with_it(shared, fifo, tmp_path):
    await shared.load("a")
    never = tmp_path / "never"
    os.mkfifo(never)
    async with busy(shared, "a", fifo):
        async with httpx.AsyncClient(base_url=shared.url) as leaver:
            gone = [
                asyncio.create_task(leaver.post("/models/a/predict", json={"text": f"wait:{never}"})) for _ in range(5)
            ]
            await in_flight(shared, "a", 6)
            for task in gone:
                task.cancel()
            await asyncio.wait(gone)
        while shared.core.registry.get("a").leases > 1:
            await asyncio.sleep(0.01)
    # had one of them been run, the model would now wait for ever
    assert (await shared.predict("a", "four")).json()["result"] == 4
    assert shared.statuses.count(499) == 5


async def test_a_client_that_leaves_does_not_stop_a_load(shared, fake_models, fifo):
    from tests.fakes.repositories import ENCODER, bert_config, write_repository

    write_repository(fake_models / "waits", bert_config(), ENCODER, {"load.txt": f"wait:{fifo}"})
    body = {"model_name": "waits", "model_path": "waits"}
    load = asyncio.create_task(shared.client.post("/models/load?wait=true", json=body))
    hold = await reading(fifo)
    load.cancel()
    await asyncio.wait([load])
    os.close(hold)
    await shared.core.registry.get("waits").job.done
    assert (await shared.predict("waits", "four")).status_code == 200


async def test_a_bug_in_a_worker_is_a_500_that_tells_nothing(shared):
    await shared.load("a")
    answer = await shared.predict("a", "bug")
    assert (answer.status_code, answer.json()["error"]["type"]) == (500, "internal")
    assert "a bug" not in answer.text
    assert answer.json()["error"]["request_id"] in answer.json()["detail"]
    assert any("a bug" in record.getMessage() for record in shared.log)
    shared.log.clear()  # this one was wanted


async def test_no_memory_is_507(shared):
    await shared.load("a")
    answer = await shared.predict("a", "oom")
    assert (answer.status_code, answer.json()["error"]["type"]) == (507, "insufficient_memory")
    assert (await shared.predict("a", "four")).status_code == 200


async def test_health_answers_while_every_model_is_busy(shared, fifo, tmp_path):
    await shared.load("a", "b")
    other = tmp_path / "other"
    os.mkfifo(other)
    async with busy(shared, "a", fifo), busy(shared, "b", other):
        waiting = [asyncio.create_task(shared.predict(name, "four")) for name in "ab" for _ in range(30)]
        await in_flight(shared, "a", 31)
        for path in ("/health", "/ready", "/models", "/metrics", "/system/status", "/"):
            assert (await shared.client.get(path)).status_code == 200
        assert not any(task.done() for task in waiting)
    assert {answer.status_code for answer in await asyncio.gather(*waiting)} == {200}


async def test_while_stopping_nothing_new_is_taken(settings, fifo):
    core = Core(settings, Launcher("tests.fakes.runtime"))
    async with serve(core) as served:
        await served.load("a")
        async with busy(served, "a", fifo) as first:
            stopping = asyncio.create_task(core.registry.stop())
            while not core.registry.is_stopping:
                await asyncio.sleep(0)
            for answer in (
                await served.client.get("/ready"),
                await served.predict("b", "four"),
                await served.client.post("/models/load", json={"model_name": "b", "model_path": "b"}),
            ):
                assert answer.status_code in (503, 404)
            assert (await served.client.get("/ready")).json()["error"]["type"] == "server_shutting_down"
            assert (await served.client.get("/health")).status_code == 200
        assert (await first).status_code == 200
        await stopping
