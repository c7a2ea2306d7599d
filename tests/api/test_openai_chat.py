"""Chats by the official `openai` client, unmodified, sync and async, with a model in a real worker process."""

import asyncio

import openai
import pytest
from huggingface_hub import AsyncInferenceClient
from openai import OpenAI

from tests.api.talk import SAY, user, words


async def test_a_chat(ai):
    answer = await ai.chat.completions.create(model="writer", messages=SAY, temperature=0)
    (choice,) = answer.choices
    assert (choice.message.role, choice.message.content, choice.finish_reason) == ("assistant", "안녕 🙂", "stop")
    assert (answer.object, answer.model, choice.logprobs) == ("chat.completion", "writer", None)
    assert answer.id.startswith("chatcmpl-")
    usage = answer.usage
    assert usage.prompt_tokens == len("system\nBe brief.\nuser\nsay:안녕 🙂\n".encode()) + 1
    assert usage.completion_tokens == len("안녕 🙂".encode()) + 1  # the end token is one
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


async def test_a_streamed_chat(ai):
    stream = await ai.chat.completions.create(
        model="writer", messages=SAY, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    *talk, last, usage = chunks
    assert len({chunk.id for chunk in chunks}) == 1
    assert talk[0].choices[0].delta.model_dump(exclude_none=True) == {"role": "assistant", "content": ""}
    assert "".join(chunk.choices[0].delta.content for chunk in talk) == "안녕 🙂"
    assert [chunk.choices[0].finish_reason for chunk in talk] == [None] * len(talk)
    assert last.choices[0].delta.model_dump(exclude_none=True) == {}
    assert last.choices[0].finish_reason == "stop"
    assert usage.choices == []
    assert usage.usage.completion_tokens == len("안녕 🙂".encode()) + 1
    without = await ai.chat.completions.create(model="writer", messages=SAY, stream=True)
    assert all(chunk.usage is None and chunk.choices for chunk in [chunk async for chunk in without])


async def test_the_sync_client(writer):
    def ask() -> None:
        with OpenAI(base_url=f"{writer.url}/v1", api_key="none", max_retries=0) as client:
            answer = client.chat.completions.create(model="writer", messages=SAY)
            assert answer.choices[0].message.content == "안녕 🙂"
            stream = client.chat.completions.create(model="writer", messages=SAY, stream=True)
            assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == "안녕 🙂"
            assert client.completions.create(model="writer", prompt="say:hi").choices[0].text == "hi"
            streamed = client.completions.create(model="writer", prompt="say:hi", stream=True)
            assert "".join(chunk.choices[0].text for chunk in streamed) == "hi"
            assert [model.id for model in client.models.list()][0] == "writer"
            with pytest.raises(openai.NotFoundError):
                client.models.retrieve("nobody")

    await asyncio.to_thread(ask)


async def test_the_helper_that_gathers_a_stream(ai):
    async with ai.chat.completions.stream(model="writer", messages=SAY, n=2) as stream:
        done = await stream.get_final_completion()
    assert [choice.message.content for choice in done.choices] == ["안녕 🙂"] * 2
    assert [choice.finish_reason for choice in done.choices] == ["stop"] * 2


async def test_several_answers(ai):
    answer = await ai.chat.completions.create(model="writer", messages=user("count:3"), n=3, seed=7)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert [choice.message.content for choice in answer.choices] == ["abc"] * 3
    stream = await ai.chat.completions.create(model="writer", messages=user("count:3"), n=3, stream=True)
    texts = ["", "", ""]
    async for chunk in stream:
        texts[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert texts == ["abc"] * 3


@pytest.mark.parametrize("stream", [False, True])
async def test_logprobs(ai, stream):
    asked = {"model": "writer", "messages": user("say:ab"), "logprobs": True, "top_logprobs": 2}
    if stream:
        chunks = [chunk async for chunk in await ai.chat.completions.create(**asked, stream=True)]
        scores = [score for chunk in chunks if chunk.choices[0].logprobs for score in chunk.choices[0].logprobs.content]
    else:
        scores = (await ai.chat.completions.create(**asked)).choices[0].logprobs.content
    assert [score.token for score in scores] == ["a", "b"]
    assert [score.bytes for score in scores] == [[97], [98]]
    for score in scores:
        assert score.logprob == pytest.approx(0, abs=1e-6)
        assert [len(score.top_logprobs), score.top_logprobs[0].token] == [2, score.token]
    bare = await ai.chat.completions.create(model="writer", messages=user("say:ab"), logprobs=True)
    assert bare.choices[0].logprobs.content[0].top_logprobs == []


async def test_where_an_answer_ends(ai):
    async def ask(**fields):
        answer = await ai.chat.completions.create(model="writer", messages=user("say:one, two, three"), **fields)
        return answer.choices[0].message.content, answer.choices[0].finish_reason

    assert await ask(stop=", t") == ("one", "stop")
    assert await ask(stop=["three", "two"]) == ("one, ", "stop")
    assert await ask(stop=[]) == ("one, two, three", "stop")
    assert await ask(max_tokens=5) == ("one, ", "length")
    assert await ask(max_completion_tokens=3, max_tokens=5) == ("one", "length")


async def test_fields_that_change_nothing_are_taken(ai):
    answer = await ai.chat.completions.create(
        model="writer", messages=user("say:x"), temperature=1.5, top_p=0.5, presence_penalty=-2, frequency_penalty=2,
        seed=1, user="me", metadata={"a": "b"}, store=False, tools=[], tool_choice="none", logit_bias={},
        response_format={"type": "text"}, modalities=["text"], service_tier="auto", parallel_tool_calls=True,
        reasoning_effort="low", extra_body={"top_k": 5, "min_p": 0.1, "repetition_penalty": 1.1, "unheard_of": {}},
    )  # fmt: skip
    assert answer.choices[0].message.content == "x"


async def test_messages_in_parts_and_in_every_role(ai):
    parts = [{"type": "text", "text": "say:"}, {"type": "text", "text": "part"}]
    messages = [{"role": "developer", "content": "x"}, *user("y"), {"role": "assistant", "content": "z"}]
    answer = await ai.chat.completions.create(model="writer", messages=[*messages, {"role": "user", "content": parts}])
    assert answer.choices[0].message.content == "part"


async def test_the_client_of_the_hub(writer):
    async with AsyncInferenceClient(base_url=f"{writer.url}/v1", api_key="none") as client:
        answer = await client.chat_completion(SAY, max_tokens=50)  # it sends the model "dummy", and `stream` always
        assert answer.choices[0].message.content == "안녕 🙂"
        stream = await client.chat_completion(SAY, stream=True, max_tokens=50)
        assert await words(stream) == "안녕 🙂"
