""" "Use it from code": every program on the page is run as it stands, and answers what the page shows."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from tests.ui.conftest import Open
from tests.ui.steps import choose, go_to, load, result, run, set_number, unfold, use

pytestmark = pytest.mark.browser

LANGUAGES = ("curl", "Python", "gradio_client", "JavaScript")
TRICKY = 'It\'s "quoted", $HOME `id` \\n 한국어 😀 {x} <b>'


async def program(page: Page, tab: str, language: str) -> str:
    """The program on the screen."""
    place = page.locator(f"#code-{tab}")
    if not await place.locator("pre").is_visible():
        await place.locator("summary").click()
    await place.get_by_role("button", name=language, exact=True).click()
    await expect(place.locator("code")).to_contain_text(page.url.split("?")[0].rstrip("/"))
    return await place.locator("code").inner_text()


async def output(language: str, code: str, folder: Path) -> str:
    """What it prints."""
    name = {"curl": "call.sh", "JavaScript": "call.mjs"}.get(language, "call.py")
    command = {"curl": "sh", "JavaScript": "node"}.get(language, sys.executable)
    (folder / name).write_text(code, "utf-8")
    process = await asyncio.create_subprocess_exec(
        command, name, cwd=folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    told, complained = await process.communicate()
    assert process.returncode == 0, complained.decode()
    lines = told.decode().splitlines()
    return "\n".join(line for line in lines if not line.startswith("Loaded as API"))  # gradio_client's greeting


def numbers(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"(?<![\w.])-?\d+\.\d+(?:e-?\d+)?", text)]


async def classify(page: Page) -> list[str]:
    shown = await run(page, "classify", TRICKY)
    return await shown.locator(".bar .label").all_inner_texts()


async def classify_lines(page: Page) -> list[str]:
    shown = await run(page, "classify", f"{TRICKY}\nThe food was cold.")
    return await shown.locator("td:nth-child(3)").all_inner_texts()


async def zero_shot(page: Page) -> list[str]:
    await page.get_by_label("Labels to choose from").fill("travel, it's food")
    shown = await run(page, "classify", TRICKY)
    return await shown.locator(".bar .label").all_inner_texts()


async def ner(page: Page) -> list[str]:
    shown = await run(page, "ner", f"{TRICKY}\nAnna lives in Paris.")
    return await shown.locator("td:nth-child(1)").all_text_contents()


async def embed(page: Page) -> list[str]:
    await run(page, "embed", f"{TRICKY}\nThe food was cold.")
    return []


async def ask(page: Page) -> list[str]:
    await page.get_by_label("Question", exact=True).fill("Who's there?")
    shown = await run(page, "ask", f"{TRICKY} Anna lives in Paris.")
    return [await shown.locator(".answer strong").inner_text()]


async def fill(page: Page) -> list[str]:
    shown = await run(page, "fill", '대한민국의 수도는 [MASK]이다. It\'s "so".')
    return await shown.locator(".bar .label").all_inner_texts()


CASES: list[tuple[str, str, Callable[[Page], Awaitable[list[str]]]]] = [
    ("classify", "classify-a", classify),
    ("classify", "classify-a", classify_lines),
    ("classify", "nli", zero_shot),
    ("ner", "tagger", ner),
    ("embed", "embedder", embed),
    ("ask", "reader", ask),
    ("fill", "filler", fill),
]


@pytest.mark.parametrize(("tab", "model", "show"), CASES, ids=[case[2].__name__ for case in CASES])
async def test_the_programs_say_what_the_page_shows(
    page: Page, tmp_path: Path, tab: str, model: str, show: Callable[[Page], Awaitable[list[str]]]
) -> None:
    await use(page, tab, model)
    words = await show(page)
    codes = {language: await program(page, tab, language) for language in LANGUAGES}
    # one after the other: in one batch, a random model's near ties may fall otherwise than they did on the page
    told = {language: await output(language, code, tmp_path) for language, code in codes.items()}
    body = json.loads(told["curl"])
    for word in words:
        spellings = {word, json.dumps(word)[1:-1], json.dumps(word, ensure_ascii=False)[1:-1], repr(word)[1:-1]}
        for language, text in told.items():
            assert any(spelling in text for spelling in spellings), (language, word, text)
    assert numbers(told["Python"])
    assert numbers(told["gradio_client"]) == pytest.approx(numbers(told["Python"]), abs=1e-5)
    assert body["model_name"] == model


@pytest.fixture
async def writer(open_page: Open, writing: str) -> Page:
    page = await open_page(url=writing)
    await load(page, "writer")
    return page


async def outputs(page: Page, tab: str, folder: Path) -> dict[str, str]:
    codes = {language: await program(page, tab, language) for language in (*LANGUAGES, "openai")}
    return {language: await output(language, code, folder) for language, code in codes.items()}


async def test_the_programs_generate_what_the_page_shows(writer: Page, tmp_path: Path) -> None:
    await go_to(writer, "generate")
    await choose(writer, "generate", "writer")
    await unfold(writer, "generate")
    await writer.get_by_label("Stop at").fill("END\n\\n")
    await writer.locator("#tab-generate").get_by_label("Seed").fill("7")
    await writer.locator("#tab-generate textarea").first.fill(f"say:{TRICKY}END more")
    await writer.locator("#run-generate").click()
    await expect(result(writer, "generate").locator(".written")).to_have_text(TRICKY)
    told = await outputs(writer, "generate", tmp_path)
    assert json.loads(told.pop("curl"))["choices"][0]["text"] == TRICKY
    assert told.pop("gradio_client") == repr([TRICKY])
    assert told == dict.fromkeys(("Python", "JavaScript", "openai"), TRICKY)


async def test_the_programs_chat_as_the_page_does(writer: Page, tmp_path: Path) -> None:
    await go_to(writer, "chat")
    await choose(writer, "chat", "writer")
    await writer.locator("#message-chat").fill(f"say:{TRICKY}")
    await writer.locator("#message-chat").press("Enter")
    await expect(writer.locator("#result-chat .message.assistant .about")).to_contain_text("tokens")
    await expect(writer.locator("#send-chat")).to_be_visible()
    told = await outputs(writer, "chat", tmp_path)
    assert json.loads(told.pop("curl"))["choices"][0]["message"]["content"] == TRICKY
    assert told == dict.fromkeys(("Python", "gradio_client", "JavaScript", "openai"), TRICKY)


async def test_the_code_follows_what_is_typed(page: Page) -> None:
    await load(page, "classify-a")
    await go_to(page, "classify")
    await program(page, "classify", "curl")
    code = page.locator("#code-classify code")
    await page.locator("#tab-classify textarea").first.fill("typed just now")
    await expect(code).to_contain_text("typed just now")
    await unfold(page, "classify")
    await set_number(page, "classify", 2, code, '"top_k": 2')


async def test_nothing_on_the_page_ends_the_quotes_of_a_program(page: Page, tmp_path: Path) -> None:
    await use(page, "classify", "classify-a")
    canary = tmp_path / "canary"
    await run(page, "classify", f"'; touch {canary}; echo '")
    await output("curl", await program(page, "classify", "curl"), tmp_path)
    assert not canary.exists()
