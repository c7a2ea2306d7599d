"""A generation through the front process: real fork server, worker, scheduler and wire; a writer for a model."""

from __future__ import annotations

import asyncio
import contextlib
import os

import pytest

from core.errors import BerthError, ContextOverflow, TaskNotSupported, WorkerCrashed
from core.types import Begun, Delta, Generated, ModelSpec, Prompt, Sampling, State, Task

GREEDY = Sampling(temperature=0)


@pytest.fixture
async def ready(core):
    """The core with `writer` in memory."""
    await core.start()
    job = await core.load(ModelSpec("writer", "writer"), admin=True)
    await job.done
    yield core
    await core.stop()


async def test_what_is_said_and_in_which_order(ready):
    items = [item async for item in ready.generate(Prompt(text="say:안녕 🙂"), GREEDY, "writer")]
    begun, *deltas, generated = items
    assert isinstance(begun, Begun)
    assert (begun.model, begun.has_chat_template) == ("writer", None)
    assert isinstance(generated, Generated)
    assert all(isinstance(delta, Delta) for delta in deltas)
    assert "".join(delta.text for delta in deltas) == "안녕 🙂"
    assert generated.usage.prompt_tokens == begun.prompt_tokens == len("say:안녕 🙂".encode()) + 1
    assert generated.finish_reasons == ("stop",)


async def test_a_chat_is_rendered_by_the_model(ready):
    messages = ({"role": "system", "content": "say:no"}, {"role": "user", "content": "say:yes"})
    completion = await ready.complete(Prompt(messages=messages), Sampling(temperature=0, n=2))
    assert completion.texts == ("yes", "yes")
    assert completion.begun.has_chat_template is True


async def test_fifty_streams_at_once_are_each_whole(ready):
    async def ask(index: int) -> str:
        return (await ready.complete(Prompt(text=f"say:{index} " + "가" * index), GREEDY, "writer")).texts[0]

    assert await asyncio.gather(*map(ask, range(50))) == [f"{index} " + "가" * index for index in range(50)]


async def test_closing_a_stream_stops_the_model_and_frees_the_lease(ready, tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    stream = ready.generate(Prompt(text=f"then:wait:{fifo}\ncount:4000"), GREEDY, "writer")
    assert isinstance(await anext(stream), Begun)
    assert [(await anext(stream)).text for _ in "ab"] == ["a", "b"]
    gate = await asyncio.to_thread(fifo.open, "wb")  # open once the model waits at the other end
    await stream.aclose()
    assert ready.registry.get("writer").leases == 0
    gate.close()
    after = await ready.complete(Prompt(text="say:after"), GREEDY, "writer")
    assert after.texts == ("after",)


async def test_a_cancelled_caller_stops_the_model_too(ready):
    calls = [asyncio.create_task(ready.complete(Prompt(text="count:4000"), GREEDY, "writer")) for _ in range(8)]
    await asyncio.sleep(0)
    for call in calls:
        call.cancel()
    await asyncio.wait(calls)
    assert ready.registry.get("writer").leases == 0
    assert (await ready.complete(Prompt(text="say:after"), GREEDY, "writer")).texts == ("after",)


async def test_errors_before_the_first_token_come_with_the_first_item(ready):
    with pytest.raises(ContextOverflow, match=r"5,001 tokens.*4,096"):
        await anext(ready.generate(Prompt(text="x" * 5000), GREEDY, "writer"))


async def _listen(stream, said: list[object]) -> None:
    async with contextlib.aclosing(stream):
        async for item in stream:
            said.append(item)


async def test_a_model_that_dies_in_the_middle_says_so_and_comes_back(ready):
    stream = ready.generate(Prompt(text="then:die\ncount:10"), GREEDY, "writer")
    said: list[object] = []
    with pytest.raises(WorkerCrashed):
        await _listen(stream, said)
    assert isinstance(said[0], Begun)
    assert "".join(item.text for item in said[1:]) == "ab"
    assert (await ready.complete(Prompt(text="say:back"), GREEDY, "writer")).texts == ("back",)


@pytest.mark.parametrize(("command", "kind"), [("oom", "insufficient_memory"), ("bug", "internal")])
async def test_one_that_fails_in_the_middle_fails_alone(ready, command, kind):
    good = ready.generate(Prompt(text="count:4000"), Sampling(temperature=0, max_tokens=300), "writer")
    assert isinstance(await anext(good), Begun)
    with pytest.raises(BerthError) as caught:
        await ready.complete(Prompt(text=f"then:{command}\ncount:10"), GREEDY, "writer")
    assert caught.value.type == kind
    if command == "oom":
        assert len("".join([item.text async for item in good if isinstance(item, Delta)])) == 300
    await good.aclose()
    assert (await ready.complete(Prompt(text="say:after"), GREEDY, "writer")).texts == ("after",)


async def test_a_classifier_does_not_write_and_a_writer_does_not_classify(ready):
    job = await ready.load(ModelSpec("a", "a"), admin=True)
    await job.done
    with pytest.raises(TaskNotSupported):
        await ready.complete(Prompt(text="x"), GREEDY, "a")
    with pytest.raises(TaskNotSupported):
        await ready.run(Task.TEXT_CLASSIFICATION, ["x"], {}, "writer")


async def test_unloading_lets_a_stream_finish(ready):
    stream = ready.generate(Prompt(text="count:300"), GREEDY, "writer")
    assert isinstance(await anext(stream), Begun)
    unloading = asyncio.create_task(ready.unload("writer"))
    text = "".join([item.text async for item in stream if isinstance(item, Delta)])
    assert len(text) == 300
    await unloading
    assert ready.registry.find("writer") is None or ready.registry.get("writer").state is State.ABSENT
