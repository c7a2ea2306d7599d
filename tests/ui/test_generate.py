"""Generate in a real browser, with a model that writes what its prompt says."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from tests.ui.conftest import Open
from tests.ui.steps import choose, go_to, load, result, set_slider, unfold

pytestmark = pytest.mark.browser


@pytest.fixture
async def place(open_page: Open, writing: str) -> Page:
    """The page, with the writer ready in Generate."""
    page = await open_page(url=writing)
    await load(page, "writer")
    await go_to(page, "generate")
    await choose(page, "generate", "writer")
    return page


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """What a model waits for after two letters, until somebody writes."""
    os.mkfifo(tmp_path / "gate")
    return tmp_path / "gate"


async def ask(page: Page, prompt: str) -> None:
    await page.locator("#tab-generate textarea").first.fill(prompt)
    await page.locator("#run-generate").click()


async def test_a_text_is_written_and_says_how(place: Page) -> None:
    await ask(place, "say:안녕 🙂 <b>bold</b>")
    shown = result(place, "generate")
    await expect(shown.locator(".written")).to_have_text("안녕 🙂 <b>bold</b>")
    await expect(shown.locator(".sample .how")).to_contain_text("24 tokens · came to its end")
    how = shown.locator(".how").last
    await expect(how).to_contain_text("writer@local")
    await expect(how).to_contain_text("first token")
    await expect(how).to_contain_text("tokens/s")
    await expect(how).to_contain_text("28 tokens read")
    assert await place.locator(".written b").count() == 0


async def test_what_is_written_is_seen_while_the_model_works_and_stop_keeps_it(place: Page, gate: Path) -> None:
    await ask(place, f"then:wait:{gate}\ncount:2000")
    await expect(place.locator(".written")).to_have_text("ab")
    await expect(place.locator("#run-generate")).to_be_visible()
    opened = await asyncio.to_thread(gate.open, "wb")  # the model waits at its other end
    await place.locator("#stop-generate").click()
    shown = result(place, "generate")
    await expect(shown.locator(".sample .how")).to_contain_text("stopped")
    await expect(place.locator("#stop-generate")).to_be_hidden()
    opened.close()
    await expect(shown.locator(".written")).to_have_text("ab")
    await ask(place, "say:free again")  # nothing is left of it in the model
    await expect(shown.locator(".written")).to_have_text("free again")


async def test_escape_stops(place: Page, gate: Path) -> None:
    await ask(place, f"then:wait:{gate}\ncount:2000")
    await expect(place.locator(".written")).to_have_text("ab")
    opened = await asyncio.to_thread(gate.open, "wb")
    await place.keyboard.press("Escape")
    await expect(result(place, "generate").locator(".sample .how")).to_contain_text("stopped")
    opened.close()


async def test_a_page_that_is_closed_stops_the_model(place: Page, gate: Path, open_page: Open, writing: str) -> None:
    await ask(place, f"then:wait:{gate}\ncount:2000")
    await expect(place.locator(".written")).to_have_text("ab")
    await place.close()
    other = await open_page(url=writing)
    await expect(other.locator("#tab-classify .line .state").first).to_be_visible()
    await go_to(other, "generate")
    state = other.locator("#tab-generate .line .state")
    opened = await asyncio.to_thread(gate.open, "wb")
    await expect(state).to_have_text("Ready", timeout=30_000)  # nobody waits for it any more
    opened.close()


async def test_samples_stand_side_by_side(place: Page) -> None:
    await unfold(place, "generate")
    summary = place.locator("#options-generate .summary")
    await set_slider(place, "generate", "Samples", 3, summary, "3 samples")
    await ask(place, "say:one\nsay:two")
    written = result(place, "generate").locator(".written")
    await expect(written).to_have_text(["two", "two", "two"])
    await expect(result(place, "generate").locator("h3")).to_have_text(["Sample 1", "Sample 2", "Sample 3"])
    boxes = [await written.nth(index).bounding_box() for index in range(3)]
    assert len({box["y"] for box in boxes if box}) == 1


async def test_the_token_limit_and_stop_strings_end_a_text(place: Page) -> None:
    await unfold(place, "generate")
    summary = place.locator("#options-generate .summary")
    await set_slider(place, "generate", "Tokens at most", 5, summary, "5 tokens")
    await ask(place, "count:20")
    shown = result(place, "generate")
    await expect(shown.locator(".written")).to_have_text("abcde")
    await expect(shown.locator(".sample .how")).to_contain_text("cut at the token limit")
    await place.get_by_label("Stop at").fill("cd")
    await expect(place.locator("#code-generate")).to_be_visible()
    await ask(place, "count:20")
    await expect(shown.locator(".written")).to_have_text("ab")
    await expect(shown.locator(".sample .how")).to_contain_text("came to its end")


async def test_a_seed_that_is_no_number_is_told(place: Page) -> None:
    await unfold(place, "generate")
    await place.locator("#tab-generate").get_by_label("Seed").fill("lucky")
    await expect(place.locator("#options-generate .summary")).to_contain_text("seed lucky")
    await ask(place, "say:x")
    await expect(result(place, "generate").locator(".notice.error")).to_contain_text("`seed` must be a whole number")


async def test_what_else_a_token_could_have_been(place: Page) -> None:
    await unfold(place, "generate")
    await place.get_by_label("Show what else each token could have been").check()
    await ask(place, "say:ab 한 c")
    shown = result(place, "generate")
    tokens = shown.locator(".token")
    await expect(tokens).to_have_text(["a", "b", " ", "한", " ", "c"])
    await tokens.nth(1).hover()
    await expect(shown.locator(".alternatives p")).to_contain_text("b, drawn at 100.00 %")
    await expect(shown.locator(".alternatives .bar")).to_have_count(5)
    await shown.locator(".tokens").focus()
    await place.keyboard.press("ArrowLeft")
    await expect(shown.locator(".alternatives p")).to_contain_text("a, drawn at 100.00 %")


async def test_an_error_in_the_middle_keeps_what_was_written(place: Page) -> None:
    await ask(place, "then:oom\ncount:20")
    shown = result(place, "generate")
    await expect(shown.locator(".notice.error strong")).to_contain_text("There is not enough memory")
    await expect(shown.locator(".written")).to_have_text("ab")


async def test_a_prompt_that_is_too_long_is_told_with_its_numbers(place: Page) -> None:
    await ask(place, "x" * 5000)
    error = result(place, "generate").locator(".notice.error")
    await expect(error).to_contain_text("longer than writer can take in")
    await expect(error).to_contain_text("5,001 tokens")


async def test_examples_run_and_nothing_typed_asks_for_a_text(place: Page) -> None:
    await place.locator("#run-generate").click()
    await expect(result(place, "generate")).to_contain_text("Type a text first")
    await place.locator("#tab-generate .chip").first.click()
    await expect(result(place, "generate").locator(".written")).to_have_text("ok")


async def test_a_model_that_is_gone_is_told(place: Page) -> None:
    await place.evaluate("fetch('models/writer/unload', {method: 'POST'})")
    await expect(place.locator("#tab-generate .line .state")).not_to_have_text("Ready")
    await ask(place, "say:awake")
    await expect(result(place, "generate").locator(".notice.error strong")).to_contain_text("writer is not here")
