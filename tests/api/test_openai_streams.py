"""Streams to the official `openai` client: many, broken off, left, and waited for."""

import asyncio
import json
import os
import shutil

import openai
import pytest
from openai import AsyncOpenAI

from core.core import Core
from core.fleet.launcher import Launcher
from core.types import ModelSpec
from tests.api.talk import user, words
from tests.serving import serve


@pytest.mark.parametrize("command", ["die", "oom", "bug"])
async def test_an_error_in_the_middle_of_a_stream_is_raised(ai, command):
    stream = await ai.chat.completions.create(model="writer", messages=user(f"then:{command}\ncount:9"), stream=True)
    said: list[str] = []
    with pytest.raises(openai.APIError) as caught:
        await words(stream, said)
    assert "".join(said) == "ab"
    assert caught.value.code == {"die": "worker_crashed", "oom": "insufficient_memory", "bug": "internal"}[command]
    assert "a bug" not in caught.value.message
    after = await ai.chat.completions.create(model="writer", messages=user("say:after"))
    assert after.choices[0].message.content == "after"


async def test_fifty_streams_at_once_are_what_the_answers_are(ai):
    async def whole(index: int) -> str:
        answer = await ai.chat.completions.create(model="writer", messages=user(f"say:{index} " + "가" * index))
        return answer.choices[0].message.content

    async def streamed(index: int) -> str:
        stream = await ai.chat.completions.create(
            model="writer", messages=user(f"say:{index} " + "가" * index), stream=True
        )
        text, ends = "", 0
        async for chunk in stream:
            text += chunk.choices[0].delta.content or ""
            ends += chunk.choices[0].finish_reason is not None
        assert ends == 1
        return text

    assert await asyncio.gather(*map(streamed, range(50))) == await asyncio.gather(*map(whole, range(50)))


async def test_a_client_that_leaves_stops_its_model(writer, ai, tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    record = writer.core.registry.get("writer")
    for stream in (True, False):
        asked = asyncio.create_task(_leave(ai, f"then:wait:{fifo}\ncount:4000", stream))
        hold = await asyncio.to_thread(os.open, fifo, os.O_WRONLY)  # it has written two and waits
        assert record.leases == 1
        asked.cancel()
        await asyncio.wait([asked])
        while record.leases:
            await asyncio.sleep(0.01)
        os.close(hold)
        after = await ai.chat.completions.create(model="writer", messages=user("say:after"))
        assert after.choices[0].message.content == "after"


async def _leave(ai: AsyncOpenAI, prompt: str, stream: bool) -> None:
    answer = await ai.chat.completions.create(model="writer", messages=user(prompt), stream=stream)
    if stream:
        await words(answer)


async def test_a_stream_is_kept_alive_while_its_model_loads(settings, fake_models, tmp_path, monkeypatch):
    monkeypatch.setattr("api.sse.OPEN_S", 0.05)
    monkeypatch.setattr("api.sse.KEEPALIVE_S", 0.05)
    directory = await asyncio.to_thread(_slow_model, fake_models, tmp_path)
    hasty = settings.model_copy(update={"load_wait_s": 0.05})
    async with serve(Core(hasty, Launcher("tests.fakes.runtime"))) as served:
        job = await served.core.load(ModelSpec("slow", str(directory)), admin=True)
        body = {"model": "slow", "messages": user("say:at last"), "stream": True}
        async with served.client.stream("POST", "/v1/chat/completions", json=body) as answer:
            lines = answer.aiter_lines()
            assert await anext(lines) == ": keepalive"
            whole = await served.client.post("/v1/chat/completions", json={**body, "stream": False})
            assert (whole.status_code, whole.json()["error"]["code"]) == (503, "model_loading")  # it has waited less
            await asyncio.to_thread((directory / "fifo").write_bytes, b"go")
            rest = [line async for line in lines]
        assert rest[-2] == "data: [DONE]"
        chunks = [json.loads(line[6:]) for line in rest if line.startswith("data: {")]
        said = [choice["delta"].get("content", "") for chunk in chunks for choice in chunk["choices"]]
        assert "".join(said) == "at last"
        await job.done


def _slow_model(fake_models, tmp_path):
    """A writer that is loaded once something is written to the FIFO beside it."""
    directory = tmp_path / "slow"
    shutil.copytree(fake_models / "writer", directory)
    os.mkfifo(directory / "fifo")
    (directory / "load.txt").write_text(f"wait:{directory / 'fifo'}")
    return directory
