"""Generation as a prediction, by a writer in a real worker process."""

from __future__ import annotations

import pytest

from core.errors import InvalidRequest
from core.types import ModelSpec, Sampling, State, Task
from core.writing import sampling_of


@pytest.fixture
async def ready(core):
    """The core with `writer` in memory."""
    await core.start()
    await (await core.load(ModelSpec("writer", "writer"), admin=True)).done
    yield core
    await core.stop()


async def test_a_text_is_given_with_its_continuation(ready):
    reply = await ready.predict("writer", ["say:안녕"], {})
    assert reply.task is Task.TEXT_GENERATION
    assert reply.outputs == [[{"generated_text": "say:안녕안녕"}]]
    assert reply.input_tokens == (len("say:안녕".encode()) + 1,)
    assert (reply.windows, reply.truncated) == ((1,), (False,))
    assert reply.timing.total_ms >= reply.timing.model_ms > 0


async def test_many_texts_keep_their_order(ready):
    texts = [f"say:{index}" for index in range(40)]
    reply = await ready.predict("writer", texts, {"max_new_tokens": 1})
    assert [row[0]["generated_text"] for row in reply.outputs] == [text + text[4] for text in texts]


async def test_one_text_that_fails_fails_the_request_and_leaves_nothing(ready):
    with pytest.raises(InvalidRequest, match="gives no token"):
        await ready.predict("writer", ["count:4000", "", "count:4000"], {})
    assert ready.registry.get("writer").leases == 0
    assert (await ready.run(Task.TEXT_GENERATION, ["say:b"], {})).outputs == [[{"generated_text": "say:bb"}]]


async def test_lengths_are_counted_as_transformers_counts_them(ready):
    prompt = "count:400"  # ten tokens

    async def written(**fields: int) -> int:
        reply = await ready.predict("writer", [prompt], fields)
        return len(reply.outputs[0][0]["generated_text"]) - len(prompt)

    assert await written() == 256
    assert await written(max_length=14) == 4
    assert await written(max_length=14, max_new_tokens=30) == 30
    with pytest.raises(InvalidRequest, match=r"max_length.*10.*max_new_tokens"):
        await written(max_length=10)


def test_the_likeliest_token_unless_a_draw_is_asked_for():
    assert sampling_of({"temperature": None, "top_k": 7}) == Sampling(max_tokens=256, temperature=0, top_k=7)
    assert sampling_of({"temperature": 0}) == Sampling(max_tokens=256, temperature=0)
    assert sampling_of({"temperature": 0.5}) == Sampling(max_tokens=256, temperature=0.5, top_k=50)
    assert sampling_of({"do_sample": True, "top_k": 3}) == Sampling(max_tokens=256, top_k=3)
    assert sampling_of({"do_sample": False, "temperature": 0.5, "max_length": 9}) == Sampling(
        max_length=9, temperature=0
    )


async def test_without_a_name_the_default_the_only_one_or_none(ready):
    assert ready.resolve(None, Task.TEXT_GENERATION) == "writer"
    await (await ready.load(ModelSpec("second", "writer"), admin=True)).done
    assert ready.default_model(Task.TEXT_GENERATION) is None  # which of the two?
    ready.set_default(Task.TEXT_GENERATION, "second")
    assert ready.resolve(None, Task.TEXT_GENERATION) == "second"
    await ready.unload("second")
    reply = await ready.run(Task.TEXT_GENERATION, ["say:!"], {})  # brought back, from where it came
    assert (reply.model, ready.registry.get("second").spec.source) == ("second", "writer")
    assert ready.registry.get("second").state is State.READY
