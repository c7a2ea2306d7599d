"""A Korean conversation about a picture with the starter: as a form, by openai, by gradio_client and in the browser."""

from __future__ import annotations

import asyncio
import base64

import httpx
import pytest
from gradio_client import Client
from openai import AsyncOpenAI
from playwright.async_api import expect

from core.settings import PROJECT
from tests.ui.conftest import Open, Served
from tests.ui.steps import go_to, unfold
from ui.tabs import vision

MODEL = "starter-vision"
SAMPLES = PROJECT / "starter" / "vision" / "samples"
HOW_MANY, THREE = "도형이 몇 개야?", "도형이 세 개 있어요."
BACKGROUND, WHITE = "배경은 무슨 색이야?", "배경은 흰색이에요."
EXAMPLES = {  # of the page, with what is right to say
    "en": [
        "There are three shapes on a white background: a red circle at the top left, a blue square in the centre and a "
        "green triangle at the bottom right.",
        "There is a black circle at the top right.",
        "I see red and pink.",
    ],
    "ko": [
        "원 한 개, 사각형 한 개, 삼각형 한 개가 보여요.",
        "오른쪽 위에는 검은 원이 있어요.",
        "빨간색, 분홍색이 보여요.",
    ],
}


def picture(name: str = "three-shapes") -> bytes:
    return (SAMPLES / f"{name}.png").read_bytes()


def data_uri(name: str = "three-shapes") -> str:
    return f"data:image/png;base64,{base64.b64encode(picture(name)).decode()}"


async def test_as_a_form(served: Served) -> None:
    async with httpx.AsyncClient(base_url=served.url, timeout=60) as client:
        asked = {"message": HOW_MANY, "temperature": "0"}
        files = {"image": ("three.png", picture(), "image/png")}
        first = (await client.post("/api/v5/vision/chat", data=asked, files=files)).json()
        assert (first["response"], first["model"]) == (THREE, MODEL)
        follow = {"message": BACKGROUND, "temperature": 0, "conversation_id": first["conversation_id"]}
        assert (await client.post("/api/v5/vision/chat", json=follow)).json()["response"] == WHITE


async def test_by_openai(served: Served) -> None:
    async with AsyncOpenAI(base_url=f"{served.url}/v1", api_key="none") as client:
        parts = [{"type": "image_url", "image_url": {"url": data_uri()}}, {"type": "text", "text": HOW_MANY}]
        said = [{"role": "user", "content": parts}]
        first = await client.chat.completions.create(model=MODEL, messages=said, temperature=0)
        assert first.choices[0].message.content == THREE
        said += [{"role": "assistant", "content": THREE}, {"role": "user", "content": BACKGROUND}]
        second = await client.chat.completions.create(model=MODEL, messages=said, temperature=0)
        assert second.choices[0].message.content == WHITE


async def test_by_gradio_client(served: Served) -> None:
    client = await asyncio.to_thread(Client, served.url, verbose=False)

    async def ask(message: str, images: list[str], **given: object) -> dict[str, str]:
        return await asyncio.to_thread(
            client.predict, message, images, model=MODEL, temperature=0, api_name="/vision", **given
        )

    first = await ask(HOW_MANY, [data_uri()], keep=True)
    assert first["result"] == THREE
    assert (await ask(BACKGROUND, [], conversation_id=first["conversation_id"]))["result"] == WHITE


@pytest.mark.browser
async def test_in_the_browser(open_page: Open) -> None:
    page = await open_page(locale="ko-KR")
    await go_to(page, "vision")
    line = page.locator("#tab-vision .line").first
    await line.locator("select").select_option(MODEL)
    await expect(line.locator(".state")).to_have_class("state ready")
    await unfold(page, "vision")
    temperature = page.locator("#options-vision input[type=number]").nth(1)
    await temperature.fill("0")
    await temperature.press("Tab")
    await page.locator("#pictures-vision").set_input_files(SAMPLES / "three-shapes.png")
    answers = page.locator("#result-vision .message.assistant .markdown")
    for question, answer in ((HOW_MANY, THREE), (BACKGROUND, WHITE)):
        await page.locator("#message-vision").fill(question)
        await page.locator("#message-vision").press("Enter")
        await expect(answers.last).to_have_text(answer)
        await expect(page.locator("#send-vision")).to_be_visible()


@pytest.mark.parametrize("language", ["en", "ko"])
async def test_the_examples_of_the_page_are_answered_right(served: Served, language: str) -> None:
    """A first click must not teach something wrong."""
    client = await asyncio.to_thread(Client, served.url, verbose=False)
    for (name, question), answer in zip(vision.EXAMPLES[language], EXAMPLES[language], strict=True):
        told = await asyncio.to_thread(
            client.predict, question, [data_uri(name)], model=MODEL, temperature=0, api_name="/vision"
        )
        assert told["result"] == answer
