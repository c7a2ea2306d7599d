"""Classify in a real browser."""

from __future__ import annotations

import csv
import io

import pytest
from playwright.async_api import Page, expect

from tests.ui.conftest import NASTY, Open
from tests.ui.steps import choose, go_to, load, result, run, set_number, unfold, use

pytestmark = pytest.mark.browser

REVIEWS = "배우들의 연기도 좋았다.\nThe food was cold.\n=cmd()"


async def csv_of(page: Page) -> list[list[str]]:
    async with page.expect_download() as waiting:
        await page.get_by_role("button", name="Download CSV").click()
    path = await (await waiting.value).path()
    return list(csv.reader(io.StringIO(path.read_bytes().decode("utf-8-sig"))))


async def test_one_text_gives_bars_best_first(page: Page) -> None:
    await use(page, "classify", "classify-a")
    shown = await run(page, "classify", "The acting was superb!")
    scores = [float(text.rstrip(" %")) for text in await shown.locator(".bar .number").all_inner_texts()]
    assert len(scores) == 3
    assert scores == sorted(scores, reverse=True)
    assert sum(scores) == pytest.approx(100, abs=0.02)
    await expect(shown.locator(".how")).to_contain_text("classify-a@local")
    await expect(shown.locator(".how")).to_contain_text("tokens")


async def test_ctrl_enter_runs_a_long_text(page: Page) -> None:
    await use(page, "classify", "classify-a")
    await page.locator("#tab-classify textarea").first.fill("Good")
    await page.keyboard.press("Control+Enter")
    await expect(result(page, "classify").locator(".bar")).to_have_count(3)


async def test_many_lines_give_a_table_that_sorts(page: Page) -> None:
    await use(page, "classify", "classify-a")
    shown = await run(page, "classify", REVIEWS)
    rows = shown.locator("tbody tr")
    await expect(rows).to_have_count(3)
    await shown.get_by_role("button", name="Score").click()
    scores = [float(text.rstrip(" %")) for text in await shown.locator("tbody td:nth-child(4)").all_inner_texts()]
    assert scores == sorted(scores, reverse=True)
    await shown.get_by_role("button", name="Score").click()
    again = [float(text.rstrip(" %")) for text in await shown.locator("tbody td:nth-child(4)").all_inner_texts()]
    assert again == sorted(scores)


async def test_the_csv_holds_every_line_and_no_formula(page: Page) -> None:
    await use(page, "classify", "classify-a")
    await run(page, "classify", REVIEWS)
    heading, *rows = await csv_of(page)
    assert heading == ["line", "text", "label", "score", "negative", "neutral", "positive"]
    assert [row[1] for row in rows] == ["배우들의 연기도 좋았다.", "The food was cold.", "'=cmd()"]
    assert all(sum(map(float, row[4:])) == pytest.approx(1) for row in rows)


async def test_an_example_fills_the_text_and_runs(page: Page) -> None:
    await use(page, "classify", "classify-a")
    example = page.locator("#tab-classify .chip").first
    await example.click()
    await expect(result(page, "classify").locator(".bar")).to_have_count(3)
    await expect(page.locator("#tab-classify textarea").first).to_have_value(await example.inner_text())


async def test_two_models_stand_side_by_side(page: Page) -> None:
    await load(page, "classify-b")
    await use(page, "classify", "classify-a")
    await unfold(page, "classify")
    await page.locator("#tab-classify .options .line select").select_option("classify-b")
    await expect(page.locator("#options-classify .summary")).to_contain_text("with classify-b")
    shown = await run(page, "classify", REVIEWS)
    await expect(shown.locator(".side-by-side h3")).to_have_text(["classify-a", "classify-b"])
    await expect(shown.locator(".how")).to_have_count(2)
    await expect(shown.locator(".agree")).to_contain_text("of 3")


async def test_fewer_labels_and_a_whole_text(page: Page) -> None:
    await use(page, "classify", "classify-a")
    await unfold(page, "classify")
    await set_number(page, "classify", 1, page.locator("#options-classify .summary"), "top 1")
    await page.get_by_label("Each line is a text of its own").uncheck()
    await expect(page.locator("#options-classify .summary")).to_have_text("top 1 · one text")
    shown = await run(page, "classify", REVIEWS)
    await expect(shown.locator(".bar")).to_have_count(1)


async def test_labels_of_ones_own_where_the_model_can(page: Page) -> None:
    await use(page, "classify", "classify-a")
    labels = page.get_by_label("Labels to choose from")
    await expect(labels).to_be_hidden()
    await load(page, "nli")
    await go_to(page, "classify")
    await choose(page, "classify", "nli")
    await labels.fill("travel, food")
    await page.locator("#tab-classify textarea").first.fill("The soup was cold.")
    await labels.press("Enter")
    await expect(result(page, "classify").locator(".bar .label")).to_have_count(2)
    assert sorted(await result(page, "classify").locator(".bar .label").all_inner_texts()) == ["food", "travel"]


async def test_what_users_and_models_wrote_is_text(page: Page) -> None:
    await use(page, "classify", "nasty")
    nasty = "<script>document.title='owned'</script>\n<img src=x onerror=document.title='owned'>"
    shown = await run(page, "classify", nasty)
    await expect(shown.locator("tbody tr")).to_have_count(2)
    await expect(shown.locator("td.wide").first).to_have_text("<script>document.title='owned'</script>")
    shown = await run(page, "classify", "one")
    assert NASTY in await shown.locator(".bar .label").all_inner_texts()
    assert await page.locator(".gradio-container img, .gradio-container script").count() == 0
    assert await page.title() == "Berth"


async def test_a_long_text_is_told_to_be_cut(page: Page) -> None:
    await use(page, "classify", "classify-a")
    shown = await run(page, "classify", "The food was cold. " * 40)
    await expect(shown.locator(".notice")).to_contain_text("the model reads 64. The rest was not read.")


async def test_nothing_typed_asks_for_a_text(page: Page) -> None:
    await use(page, "classify", "classify-a")
    await page.locator("#run-classify").click()
    await expect(result(page, "classify")).to_contain_text("Type a text first")


async def test_how_it_was_made_can_be_copied(open_page: Open) -> None:
    page = await open_page(permissions=["clipboard-read", "clipboard-write"])
    await use(page, "classify", "classify-a")
    shown = await run(page, "classify", "Good")
    await shown.get_by_role("button", name="Copy").click()
    await expect(shown.get_by_role("button", name="Copied")).to_be_visible()
    assert (await page.evaluate("navigator.clipboard.readText()")).startswith("classify-a@local · queue ")
