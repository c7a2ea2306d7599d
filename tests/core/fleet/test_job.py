"""How long a load is waited for; on a clock that the tests move."""

import asyncio

import pytest
import pytest_asyncio

from core.errors import CorruptModel
from core.fleet.job import LoadJob

# an event loop for each test: who else waits on the one that the other tests share would wait as much longer
pytestmark = pytest.mark.asyncio(loop_scope="function")


@pytest_asyncio.fixture(loop_scope="function")
async def advance(monkeypatch):
    """Lets so many seconds pass at once."""
    loop, ahead = asyncio.get_running_loop(), [0.0]
    true = loop.time
    monkeypatch.setattr(loop, "time", lambda: true() + ahead[0])

    async def advance(seconds: float) -> None:
        await _settled()
        ahead[0] += seconds
        await _settled()

    return advance


async def _settled() -> None:
    for _ in range(10):  # as many turns as a step takes to reach those who wait
        await asyncio.sleep(0)


async def test_a_stream_waits_from_each_step_of_a_download(advance):
    job = LoadJob("a")
    plain, patient = (asyncio.create_task(job.wait(60, from_each_step=each)) for each in (False, True))
    for done in range(3):
        job.say("downloading", done=done)
        await advance(40)
    with pytest.raises(TimeoutError):
        await plain
    assert not patient.done()
    await advance(21)  # 61 since the last step
    with pytest.raises(TimeoutError):
        await patient


async def test_a_process_that_starts_has_its_own_limit(advance):
    job = LoadJob("a")
    job.say("loading")
    waiting = [asyncio.create_task(job.wait(60, from_each_step=True)) for _ in range(2)]
    await advance(600)
    job.say("warming")
    await advance(600)
    assert not any(each.done() for each in waiting)
    job.fail(CorruptModel("a is cut."))
    for each in waiting:
        with pytest.raises(CorruptModel):
            await each


async def test_who_comes_late_waits_no_more():
    job = LoadJob("a")
    job.fail(CorruptModel("a is cut."))
    for each in (False, True):
        with pytest.raises(CorruptModel):
            await job.wait(0, from_each_step=each)
