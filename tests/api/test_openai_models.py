"""Models by the official `openai` client."""

from contextlib import aclosing

import openai
import pytest
from huggingface_hub import AsyncInferenceClient
from openai import AsyncOpenAI

from core.core import Core
from core.fleet.launcher import Launcher
from core.types import State
from tests.api.talk import SAY, words
from tests.fakes.repositories import ENCODER, bert_config, write_repository
from tests.serving import serve

BOUND = "org/w"  # a second name of the writer


async def test_models(writer, ai):
    await writer.load("org/c")
    listed = [model async for model in ai.models.list()]
    assert [(model.id, model.object) for model in listed[:2]] == [("writer", "model"), ("org/c", "model")]
    assert all(model.created > 0 and model.owned_by for model in listed[:2])
    assert (await ai.models.retrieve("org/c")).id == "org/c"  # sent as org%2Fc
    with pytest.raises(openai.NotFoundError) as caught:
        await ai.models.retrieve("org/d")
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


@pytest.mark.parametrize("name", ["writer", "", "dummy", "tgi", "default", "writer:latest", "writer@main"])
async def test_names_that_mean_the_model(ai, name):
    answer = await ai.chat.completions.create(model=name, messages=SAY)
    assert answer.model == "writer"


@pytest.mark.parametrize("name", ["nobody", "writer@v2", "writer:8bit", "writer:Q4_K_M", ":latest@", "@", "gpt-4o"])
async def test_names_that_mean_no_model(ai, name):
    with pytest.raises(openai.NotFoundError) as caught:
        await ai.chat.completions.create(model=name, messages=SAY)
    assert caught.value.code == "model_not_found"


async def test_a_name_that_says_how_it_is_quantised(writer, ai):
    body = {"model_name": "writer-8", "model_path": "writer", "quantization": "8bit"}
    await writer.client.post("/models/load?wait=true", json=body)
    answer = await ai.chat.completions.create(model="writer-8:8bit", messages=SAY)
    assert answer.model == "writer-8"
    await writer.core.unload("writer-8")


async def test_models_that_a_request_would_load_are_listed(settings, tmp_path):
    write_repository(tmp_path / "starter" / "sentiment", bert_config("BertForSequenceClassification"), ENCODER)
    own = settings.model_copy(
        update={"starter_dir": tmp_path / "starter", "embed_model": "starter:embed", "classify_model": "b"}
    )
    async with (
        serve(Core(own, Launcher("tests.fakes.runtime"))) as served,
        AsyncOpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0) as client,
    ):
        listed = [model async for model in client.models.list()]
        assert [model.id for model in listed] == ["b", "starter-sentiment"]  # the embedder did not come along
        assert [model.capabilities for model in listed] == [["classify"], ["classify"]]
        assert (await client.models.retrieve("starter-sentiment")).object == "model"
        assert (await client.models.retrieve("google/flan-t5-base")).id == "google/flan-t5-base"  # of the catalogue
        for away in ("starter-embed", "a"):
            with pytest.raises(openai.NotFoundError):
                await client.models.retrieve(away)
        assert served.core.models() == []  # looking loads nothing
        for model in listed:
            assert (await served.predict(model.id, "four")).status_code == 200
        after = [model async for model in client.models.list()]
        assert sorted(model.id for model in after) == ["b", "starter-sentiment"]
        assert all(model.created > 0 for model in after)
        assert served.core.model("b").state is State.READY


@pytest.fixture
async def bound(writer):
    """The official client with the address of one model, whose name has a slash."""
    await writer.client.post("/models/load?wait=true", json={"model_name": BOUND, "model_path": "writer"})
    async with AsyncOpenAI(base_url=f"{writer.url}/models/{BOUND}/v1", api_key="none", max_retries=0) as client:
        yield client
    await writer.core.unload(BOUND)


@pytest.mark.parametrize("said", ["writer", "dummy", "", BOUND])
async def test_the_model_in_the_address_wins(bound, said):
    assert (await bound.chat.completions.create(model=said, messages=SAY)).model == BOUND
    assert (await bound.completions.create(model=said, prompt="say:hi")).choices[0].text == "hi"
    stream = await bound.chat.completions.create(model=said, messages=SAY, stream=True)
    async with aclosing(stream):
        assert await words(stream) == "안녕 🙂"


async def test_the_models_of_an_address(bound):
    assert [model.id async for model in bound.models.list()] == [BOUND]
    assert (await bound.models.retrieve(BOUND)).id == BOUND


async def test_errors_of_an_address_are_openais(writer, bound):
    with pytest.raises(openai.BadRequestError) as caught:
        await bound.chat.completions.create(model="", messages=[])
    assert caught.value.type == "invalid_request_error"
    with pytest.raises(openai.BadRequestError) as caught:
        await bound.chat.completions.create(model="", messages=5)
    assert caught.value.param == "messages"
    for nowhere in ("org%2Fnobody", "no/body", "x" * 300):
        async with AsyncOpenAI(base_url=f"{writer.url}/models/{nowhere}/v1", api_key="none", max_retries=0) as client:
            with pytest.raises(openai.NotFoundError) as caught:
                await client.chat.completions.create(model="writer", messages=SAY)
            assert caught.value.code == "model_not_found"
            with pytest.raises(openai.NotFoundError):
                await client.models.list()


@pytest.mark.parametrize("path", ["org/w", "org%2Fw"])
async def test_hugging_faces_client_with_the_address_of_a_model(writer, bound, path):
    async with AsyncInferenceClient(model=f"{writer.url}/models/{path}", token="none") as client:
        answer = await client.chat_completion(messages=SAY)  # its body says "dummy"
    assert (answer.model, answer.choices[0].message.content) == (BOUND, "안녕 🙂")
