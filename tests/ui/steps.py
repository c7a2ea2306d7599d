"""What a reader does on the page, in the words of the tests."""

from __future__ import annotations

from playwright.async_api import Locator, Page, expect


async def go_to(page: Page, tab: str) -> Locator:
    """The tab, shown."""
    await page.locator(f"#tab-{tab}-button").click()
    place = page.locator(f"#tab-{tab}")
    await expect(place).to_be_visible()
    # Gradio fills a tab that is opened first in the frame after it is shown; nobody types before that
    await page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return place


async def choose(page: Page, tab: str, model: str) -> None:
    """`model` in the tab's model line, in memory."""
    line = page.locator(f"#tab-{tab} .line").first
    await line.locator("select").select_option(model)
    await expect(line.locator(".state")).to_have_text("Ready")


async def load(page: Page, model: str) -> None:
    """By id, on the Models tab; does nothing when it is there."""
    await go_to(page, "models")
    await page.locator("#load-id input").fill(model)
    await page.locator("#run-models").click()
    await expect(row(page, model).locator(".state")).to_have_text("Ready")


async def set_number(page: Page, tab: str, value: int, shown: Locator, text: str) -> None:
    """The tab's number option; `shown` says `text` then."""
    await _type(page.locator(f"#tab-{tab} input[type=number]"), value)
    await expect(shown).to_contain_text(text)


async def unfold(page: Page, tab: str) -> None:
    """The tab's options, open."""
    await page.locator(f"#options-{tab} .fold").click()


async def set_slider(page: Page, tab: str, label: str, value: float, shown: Locator, text: str) -> None:
    """The number beside a slider; `shown` says `text` then."""
    await _type(page.locator(f"#options-{tab}").get_by_label(f"number input for {label}"), value)
    await expect(shown).to_contain_text(text)


async def _type(field: Locator, value: float) -> None:
    await field.fill(str(value))
    await field.press("Tab")


def row(page: Page, model: str) -> Locator:
    """The row of `model` in the Models tab."""
    exact = page.get_by_text(model, exact=True)
    return page.locator("#models tbody tr").filter(has=page.locator("strong").and_(exact))


async def use(page: Page, tab: str, model: str) -> Locator:
    """The tab, with `model` loaded and chosen."""
    await load(page, model)
    place = await go_to(page, tab)
    await choose(page, tab, model)
    return place


def result(page: Page, tab: str) -> Locator:
    return page.locator(f"#result-{tab} .shown")


async def run(page: Page, tab: str, text: str) -> Locator:
    """The result of `text`, not one from before."""
    await page.locator(f"#result-{tab} .how").evaluate_all("all => all.forEach(one => one.classList.add('old'))")
    await page.locator(f"#tab-{tab} textarea").last.fill(text)
    await page.locator(f"#run-{tab}").click()
    await expect(page.locator(f"#result-{tab} .how:not(.old)").first).to_be_visible()
    return result(page, tab)
