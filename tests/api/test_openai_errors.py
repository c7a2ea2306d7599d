"""What the official `openai` client raises, and what it tries again."""

import asyncio
import os

import httpx
import openai
import pytest
from openai import AsyncOpenAI

from core.core import Core
from core.fleet.launcher import Launcher
from tests.api.talk import SAY, user
from tests.serving import serve


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": []}, "messages"), ({"messages": SAY * 501}, "messages"), ({"n": 10**9}, "n"),
        ({"n": 0}, "n"), ({"stop": "x" * 800_000}, "stop"), ({"stop": ["x"] * 17}, "stop"),
        ({"temperature": -1}, "temperature"), ({"top_p": 2}, "top_p"), ({"max_tokens": 0}, "max_tokens"),
        ({"seed": -1}, "seed"), ({"presence_penalty": 3}, "presence_penalty"), ({"top_logprobs": 3}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"), ({"tools": [{"type": "function"}]}, "tools"),
        ({"response_format": {"type": "json_object"}}, "response_format"), ({"audio": {"voice": "x"}}, "audio"),
        ({"logit_bias": {"1": 5}}, "logit_bias"), ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages"), ({"messages": ["x"]}, "messages.0"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages"),
        ({"temperature": "hot"}, "temperature"), ({"logprobs": 3}, "logprobs"),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)  # fmt: skip
async def test_a_wrong_field_is_named(ai, fields, param):
    with pytest.raises(openai.BadRequestError) as caught:
        await ai.chat.completions.create(**{"model": "writer", "messages": SAY, **fields})
    assert (caught.value.param, caught.value.type) == (param, "invalid_request_error")
    assert caught.value.code == "invalid_request"
    assert len(str(caught.value.body)) < 1000


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": []}, "prompt"), ({"prompt": ["x"] * 129}, "prompt"), ({"suffix": "x"}, "suffix"),
        ({"best_of": 3}, "best_of"), ({"echo": True, "logprobs": 1}, "echo"), ({"echo": True, "prompt": [5]}, "echo"),
        ({"logprobs": 99}, "logprobs"), ({"max_tokens": -5}, "max_tokens"),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)  # fmt: skip
async def test_a_wrong_field_of_a_completion_is_named(ai, fields, param):
    with pytest.raises(openai.BadRequestError) as caught:
        await ai.completions.create(**{"model": "writer", "prompt": "x", **fields})
    assert caught.value.param == param


async def test_errors_are_of_the_clients_own_types(writer, ai):
    await writer.load("a")
    with pytest.raises(openai.BadRequestError) as caught:
        await ai.chat.completions.create(model="writer", messages=user("x" * 5000))
    assert caught.value.code == "context_length_exceeded"
    assert "4,096" in caught.value.message
    with pytest.raises(openai.BadRequestError) as caught:
        await ai.chat.completions.create(model="a", messages=SAY)
    assert caught.value.code == "task_not_supported"
    with pytest.raises(openai.InternalServerError) as caught:
        await ai.completions.create(model="writer", prompt="oom")
    assert (caught.value.code, caught.value.type) == ("insufficient_memory", "server_error")
    for stream in (False, True):  # an error before the first token is an answer of its own
        with pytest.raises(openai.InternalServerError) as caught:
            await ai.completions.create(model="writer", prompt="die", stream=stream)
        assert (caught.value.status_code, caught.value.code) == (503, "worker_crashed")
        assert caught.value.response.headers["x-should-retry"] == "true"
    assert (await ai.completions.create(model="writer", prompt="say:back")).choices[0].text == "back"


async def test_what_the_framework_refuses_has_the_same_form(writer):
    for method, path, status, code in (
        ("GET", "/v1", 404, "not_found"), ("GET", "/v1/nothing", 404, "not_found"),
        ("GET", "/v1/chat/completions", 405, "method_not_allowed"), ("DELETE", "/v1/models", 405, "method_not_allowed"),
    ):  # fmt: skip
        answer = await writer.client.request(method, path)
        assert answer.status_code == status
        assert answer.json()["error"]["code"] == code
    for body, kind, status in ((b"{", "application/json", 400), (b"x", "text/plain", 415), (b"", "", 400)):
        answer = await writer.client.post("/v1/completions", content=body, headers={"Content-Type": kind})
        assert answer.status_code == status
        assert answer.json()["error"].keys() == {"message", "type", "param", "code"}
    nan = b'{"messages": [{"role": "user", "content": "x"}], "temperature": NaN}'
    answer = await writer.client.post("/v1/chat/completions", content=nan, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400


async def test_a_full_queue_is_a_rate_limit_and_is_tried_again_when_told(settings, tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    core = Core(settings.model_copy(update={"max_queue": 1}), Launcher("tests.fakes.runtime"))
    async with serve(core) as served, AsyncOpenAI(base_url=f"{served.url}/v1", api_key="x", max_retries=0) as ai:
        await served.load("writer")
        slow = asyncio.create_task(ai.completions.create(model="writer", prompt=f"wait:{fifo}"))
        hold = await asyncio.to_thread(os.open, fifo, os.O_WRONLY)
        with pytest.raises(openai.RateLimitError) as caught:
            await ai.completions.create(model="writer", prompt="say:x")
        assert caught.value.code == "queue_full"
        assert int(caught.value.response.headers["retry-after"]) >= 1

        answers: list[int] = []

        async def on_answer(answer: httpx.Response) -> None:
            answers.append(answer.status_code)
            if answer.status_code == 429 and hold not in closed:
                closed.append(hold)
                os.close(hold)

        closed: list[int] = []
        http = httpx.AsyncClient(event_hooks={"response": [on_answer]})
        async with AsyncOpenAI(base_url=f"{served.url}/v1", api_key="x", max_retries=5, http_client=http) as patient:
            answer = await patient.completions.create(model="writer", prompt="say:x")
        assert answer.choices[0].text == "x"
        assert answers[0] == 429
        assert answers[-1] == 200
        await slow


async def test_without_a_key_where_one_is_needed(settings):
    core = Core(settings.model_copy(update={"api_keys": ("right",)}), Launcher("tests.fakes.runtime"))
    async with serve(core) as served:
        async with AsyncOpenAI(base_url=f"{served.url}/v1", api_key="wrong") as ai:
            with pytest.raises(openai.AuthenticationError):
                await ai.models.list()
        async with AsyncOpenAI(base_url=f"{served.url}/v1", api_key="right") as ai:
            assert [model.id for model in (await ai.models.list()).data] == [settings.embed_model]
