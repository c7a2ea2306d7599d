"""Models in a real browser: load, follow, cancel, unload, clean up, the machine, the catalogue."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.async_api import Page, expect

from tests.fakes.hub import Fault
from tests.ui.conftest import SLOW, Served
from tests.ui.steps import choose, go_to, load, result, row, unfold

pytestmark = pytest.mark.browser


@pytest.fixture
def stalled(served: Served) -> Iterator[None]:
    """Half of the slow model's weights arrive, and no more."""
    served.hub.fail(SLOW, "model.safetensors", kind=Fault.STALL, after=1)  # the first request reads the header
    yield
    served.hub.heal()


async def test_a_model_loads_by_its_id_and_unloads(page: Page) -> None:
    await load(page, "classify-b")
    here = row(page, "classify-b")
    for word in ("classification", "transformers", "fp32", "CPU", "MiB"):
        await expect(here).to_contain_text(word)
    assert int(await here.locator("td[data-title=PID]").inner_text()) > 1
    await here.get_by_role("button", name="Unload").click()
    await expect(here).to_contain_text("Unload it? That frees")
    await here.get_by_role("button", name="Keep").click()
    await here.get_by_role("button", name="Unload").click()
    await here.get_by_role("button", name="Yes, unload").click()
    await expect(here).to_have_count(0)
    await expect(page.locator(".news")).to_contain_text("classify-b is unloaded.")
    await page.get_by_role("button", name="Close").click()
    await expect(page.locator(".news .notice")).to_have_count(0)


async def test_options_name_a_model_and_say_how_it_loads(page: Page) -> None:
    await go_to(page, "models")
    await unfold(page, "models")
    await page.get_by_label("Name it goes by here").fill("team/other")
    await page.locator("#load-id input").fill("classify-b")
    await page.locator("#load-id input").press("Enter")
    await expect(row(page, "team/other").locator(".state")).to_have_text("Ready")
    await expect(row(page, "team/other")).to_contain_text("classify-b")


async def test_a_download_shows_its_progress_and_can_be_cancelled(page: Page, stalled: None) -> None:
    await go_to(page, "models")
    await page.locator("#load-id input").fill(SLOW)
    await page.locator("#run-models").click()
    here = row(page, SLOW)
    await expect(here.locator(".state")).to_contain_text("Downloading · ")
    await expect(here.locator(".progress")).to_have_attribute("aria-valuenow", r := await shown_share(page))
    assert 0 < int(r) < 100
    await here.get_by_role("button", name="Cancel").click()
    await expect(here).to_have_count(0)


async def shown_share(page: Page) -> str:
    """The per cent in the bar, once there is one."""
    bar = row(page, SLOW).locator(".progress:not(.unknown)")
    await expect(bar).to_be_visible()
    return await bar.get_attribute("aria-valuenow") or ""


async def test_choosing_a_model_loads_it_in_sight_and_keeps_the_text(page: Page, stalled: None) -> None:
    await go_to(page, "models")  # known to the page, so that the model line offers it
    await page.locator("#load-id input").fill(SLOW)
    await page.locator("#run-models").click()
    await expect(row(page, SLOW).locator(".state")).to_contain_text("Downloading · ")
    await go_to(page, "classify")
    text = page.locator("#tab-classify textarea").first
    await text.fill("typed before")
    line = page.locator("#tab-classify .line").first
    await line.locator("select").select_option(SLOW)
    await expect(line.locator(".progress")).to_be_visible()
    await page.locator("#run-classify").click()
    await expect(page.locator("#result-classify .above")).to_contain_text(f"Loading {SLOW}")
    await text.press("Escape")  # stops the run, not the load
    await expect(page.locator("#result-classify .above .notice")).to_have_count(0)
    await expect(line.locator(".progress")).to_be_visible()
    await line.get_by_role("button", name="Cancel").click()
    await expect(line.locator(".state")).to_have_text("Not in memory")
    await expect(text).to_have_value("typed before")


async def test_what_cannot_be_loaded_says_why_and_leaves_nothing(page: Page) -> None:
    await go_to(page, "models")
    for source, sentence in (("org/nothing", "No repository goes by that id."), ("../etc", "Change what is named")):
        await page.locator("#load-id input").fill(source)
        await page.locator("#run-models").click()
        await expect(page.locator(".news .notice.error").filter(has_text=sentence)).to_be_visible()
        await expect(row(page, source)).to_have_count(0)


async def test_clean_up_says_what_it_did(page: Page) -> None:
    await go_to(page, "models")
    await page.locator("#cleanup").click()
    await expect(page.locator(".news")).to_contain_text("Cleaned up.")


async def test_memory_is_drawn_by_share(page: Page) -> None:
    await load(page, "classify-a")
    memory = page.locator("#memory")
    await expect(memory).to_contain_text("Main memory")
    share = memory.locator("li").filter(has_text="classify-a")
    await expect(share).to_contain_text("MiB")
    widths = (
        await memory.locator(".shares")
        .first.locator("i")
        .evaluate_all("all => all.map(i => parseFloat(i.style.width))")
    )
    assert 0 < sum(widths) <= 100


async def test_the_catalogue_is_searched_and_filtered(page: Page) -> None:
    await go_to(page, "models")
    entries = page.locator("#catalogue .entries li")
    count = await entries.count()
    await page.locator("#catalogue input").fill("starter-ner")
    await expect(entries).to_have_count(1)
    await page.locator("#catalogue input").fill("nothing like this")
    await expect(page.locator("#catalogue")).to_contain_text("Nothing in the catalogue fits.")
    await page.locator("#catalogue input").fill("")
    await expect(entries).to_have_count(count)
    await page.locator("#catalogue select").select_option("token-classification")
    for text in await entries.locator(".meta").all_inner_texts():
        assert text.startswith("named entities")


async def test_a_catalogue_model_that_the_hub_lacks_says_so_in_both_places(page: Page) -> None:
    await go_to(page, "models")
    await page.get_by_role("button", name="Load dslim/bert-base-NER").click()
    await expect(page.locator(".news .notice.error")).to_contain_text("No repository goes by that id.")
    await go_to(page, "ner")
    line = page.locator("#tab-ner .line").first
    await line.locator("select").select_option("dslim/bert-base-NER")
    await expect(line.locator(".state")).to_have_text("Failed")
    await page.locator("#tab-ner textarea").fill("Anna")
    await page.locator("#run-ner").click()
    await expect(result(page, "ner").locator(".notice.error")).to_contain_text("No repository goes by that id.")


async def test_a_loaded_model_is_offered_before_the_catalogue(page: Page) -> None:
    await load(page, "tagger")
    await go_to(page, "ner")
    await choose(page, "ner", "tagger")
    groups = page.locator("#tab-ner .line optgroup")
    assert await groups.evaluate_all("all => all.map(g => g.label)") == ["In memory", "Catalogue"]
    assert "tagger" in await groups.first.locator("option").all_inner_texts()
