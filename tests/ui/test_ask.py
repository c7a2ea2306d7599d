"""Ask and Fill in a real browser."""

from __future__ import annotations

import pytest
from playwright.async_api import Page, expect

from tests.ui.steps import result, run, set_number, unfold, use

pytestmark = pytest.mark.browser

CONTEXT = "박지은 씨는 지난 3월 5일 도쿄로 여행을 떠났다. 😀 Anna stayed in Paris."


async def test_an_answer_is_marked_where_it_stands(page: Page) -> None:
    await use(page, "ask", "reader")
    question = page.get_by_label("Question", exact=True)
    await question.fill("Who stayed?")
    await page.get_by_label("Text to look in").fill(CONTEXT)
    await question.press("Enter")  # one line: Enter runs it
    shown = result(page, "ask")
    answer = await shown.locator(".answer strong").inner_text()
    assert answer in CONTEXT
    await expect(shown.locator("mark")).to_have_text(answer)
    await expect(shown.locator(".spans")).to_have_text(CONTEXT)


async def test_several_answers(page: Page) -> None:
    await use(page, "ask", "reader")
    await unfold(page, "ask")
    await set_number(page, "ask", 3, page.locator("#options-ask .summary"), "3")
    await page.get_by_label("Question", exact=True).fill("Who stayed?")
    shown = await run(page, "ask", CONTEXT)
    await expect(shown.locator(".bar")).to_have_count(3)


async def test_words_for_a_gap(page: Page) -> None:
    await use(page, "fill", "filler")
    shown = await run(page, "fill", "대한민국의 수도는 [MASK]이다.")
    await expect(shown.locator(".bar")).to_have_count(5)
    best = await shown.locator(".bar .label").first.inner_text()
    # A random model may like a special token best, which is not written out.
    await expect(shown.locator(".spans")).to_contain_text("" if best.startswith("[") else best.removeprefix("##"))
    await expect(shown.locator(".spans")).not_to_contain_text("[MASK]")


async def test_no_gap_is_told_as_a_sentence(page: Page) -> None:
    await use(page, "fill", "filler")
    await page.locator("#tab-fill textarea").fill("There is no gap in this.")
    await page.locator("#run-fill").click()
    await expect(result(page, "fill").locator(".notice.error")).to_contain_text("Change what is named below")
