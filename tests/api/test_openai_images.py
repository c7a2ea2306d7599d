"""Pictures in chats by the official `openai` client, with a model in a real worker process that says what it sees."""

import base64
from typing import Any

import openai
import pytest
from huggingface_hub import AsyncInferenceClient
from openai import AsyncOpenAI

from tests.api.talk import words
from tests.core.images.pictures import GREEN, RED, exif, gif_frames, picture, png, saved, with_exif

WHITE_GIF = saved(picture(20, 10, (255, 255, 255)), "GIF")
JPEG = with_exif(saved(picture(48, 32), "JPEG"), exif(6))


def url(data: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def shown(*parts: str | bytes) -> list[dict[str, Any]]:
    """The user's message of these texts and pictures."""
    content = [
        {"type": "text", "text": part}
        if isinstance(part, str)
        else {"type": "image_url", "image_url": {"url": url(part), "detail": "high"}}
        for part in parts
    ]
    return [{"role": "user", "content": content}]


@pytest.fixture
async def ai(seer):
    async with AsyncOpenAI(base_url=f"{seer.url}/v1", api_key="none", max_retries=0) as client:
        yield client


async def test_a_picture_and_a_question(ai):
    answer = await ai.chat.completions.create(model="seer", messages=shown(png(48, 32, GREEN), "look"))
    assert answer.choices[0].message.content == "48x32 #00ff00"
    assert answer.usage.prompt_tokens == len("user\n\nlook") + 4 + 1  # an image takes four places here
    assert answer.usage.prompt_tokens_details.image_tokens == 4
    again = await ai.chat.completions.create(model="seer", messages=shown(png(48, 32, GREEN), "look"))
    assert again.usage.prompt_tokens_details.cached_tokens == answer.usage.prompt_tokens - 1
    other = await ai.chat.completions.create(model="seer", messages=shown(png(48, 32, RED), "look"))
    assert other.usage.prompt_tokens_details.cached_tokens <= len("user\n")


async def test_several_pictures_over_several_turns(ai):
    messages = [
        {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
        *shown("first", png(8, 9), "then", png(10, 11, GREEN)),
        {"role": "assistant", "content": "two"},
        *shown(WHITE_GIF, JPEG, "look"),
    ]
    answer = await ai.chat.completions.create(model="seer", messages=messages)
    seen = answer.choices[0].message.content.split(" ")
    assert seen[0::2] == ["8x9", "10x11", "20x10", "32x48"]
    assert seen[1::2][:3] == ["#ff0000", "#00ff00", "#ffffff"]


async def test_a_stream(ai):
    stream = await ai.chat.completions.create(model="seer", messages=shown("look", png()), stream=True)
    assert await words(stream) == "48x32 #ff0000"


async def test_who_names_no_model_gets_one_that_sees(ai):
    looked = await ai.chat.completions.create(model="", messages=shown("look", png()))
    assert looked.model == "seer"


async def test_a_url_alone_and_huggingface_hub(ai, seer):
    messages = [
        {"role": "user", "content": [{"type": "image_url", "image_url": url(png())}, *shown("look")[0]["content"]]}
    ]
    assert (await ai.chat.completions.create(model="seer", messages=messages)).choices[0].message.content
    async with AsyncInferenceClient(base_url=f"{seer.url}/v1") as client:
        answer = await client.chat_completion(shown(png(9, 9), "look"), model="seer")
        assert answer.choices[0].message.content == "9x9 #ff0000"


async def test_a_model_that_reads_text_alone_says_who_can_look(ai):
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError, match="writer cannot look at images. These can: seer") as refused:
            await ai.chat.completions.create(model="writer", messages=shown(png(), "look"), stream=stream)
        assert refused.value.code == "task_not_supported"


async def test_text_alone_goes_to_either(ai):
    for model in ("seer", "writer"):
        answer = await ai.chat.completions.create(model=model, messages=shown("say:hi"))
        assert answer.choices[0].message.content == "hi"
        kept = await ai.chat.completions.create(model=model, messages=[{"role": "user", "content": "say:\ufffc"}])
        assert kept.choices[0].message.content == "\ufffc"


async def test_a_mark_that_somebody_wrote_takes_no_pictures_place(ai):
    answer = await ai.chat.completions.create(model="seer", messages=shown("\ufffc\ufffc", png(8, 8), "look"))
    assert answer.choices[0].message.content == "8x8 #ff0000"
    assert answer.usage.prompt_tokens == len("user\n\nlook") + 4 + 1


@pytest.mark.parametrize("address", ["http://127.0.0.1:1/x.png", "https://example.com/x.png", "file:///etc/passwd"])
async def test_nothing_is_fetched(ai, address):
    parts = [{"type": "image_url", "image_url": {"url": address}}]
    with pytest.raises(openai.BadRequestError, match="fetches nothing") as refused:
        await ai.chat.completions.create(model="seer", messages=[{"role": "user", "content": parts}])
    assert (refused.value.code, refused.value.param) == ("invalid_image", "messages[0].content")


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        (shown(b"<svg/>"), "SVG"),
        (shown(*[png()] * 4), "takes 3"),
        ([*shown(*[png()] * 3), *shown(png(), png())], "takes 4"),
        ([{"role": "system", "content": shown(png())[0]["content"]}], "only messages of the user"),
        ([{"role": "user", "content": [{"type": "input_audio"}]}], "text` or `image_url"),
        ([{"role": "user", "content": [{"type": "image_url"}]}], "image_url"),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": 1}}]}], "image_url"),
        ([{"role": "user", "content": [None]}], "text` or `image_url"),
    ],
)
async def test_what_is_refused(ai, messages, said):
    with pytest.raises(openai.BadRequestError, match=said):
        await ai.chat.completions.create(model="seer", messages=messages)


async def test_b18_a_data_uri_of_20_mb(ai):
    big = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url(b"\0" * 15_000_000)}}]}]
    with pytest.raises(openai.APIStatusError, match="larger than this server takes") as refused:
        await ai.chat.completions.create(model="seer", messages=big)
    assert refused.value.status_code == 413


async def test_an_animation_is_its_first_frame(ai):
    answer = await ai.chat.completions.create(model="seer", messages=shown(gif_frames(1000), "look"))
    assert answer.choices[0].message.content == "16x16 #ff0000"
