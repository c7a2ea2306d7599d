"""Models by the official `openai` client."""

import openai
import pytest

from tests.api.talk import SAY


async def test_models(writer, ai):
    await writer.load("org/c")
    listed = [model async for model in ai.models.list()]
    assert [(model.id, model.object) for model in listed] == [("writer", "model"), ("org/c", "model")]
    assert all(model.created > 0 and model.owned_by for model in listed)
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
