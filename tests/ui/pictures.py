"""Takes the pictures in docs/images, of the starters: `python -m tests.ui.pictures`."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from playwright.async_api import Browser, Page, async_playwright, expect

from tests.ui.conftest import ARGUMENTS, CHROMIUM
from tests.ui.serving import ROOT, running
from tests.ui.steps import go_to, run

IMAGES = ROOT / "docs" / "images"
SENTENCE = "이서연 씨는 지난 금요일 부산에서 삼성전자 관계자를 만났다."


async def classify(page: Page) -> None:
    await page.locator("#tab-classify .chip").last.click()
    await expect(page.locator("#result-classify .how")).to_be_visible()


async def ner(page: Page) -> None:
    await go_to(page, "ner")
    await run(page, "ner", SENTENCE)


async def embed(page: Page) -> None:
    await go_to(page, "embed")
    await page.locator("#tab-embed .chip").nth(1).click()
    await page.locator("[data-pair='1-2'] rect").hover()


async def models(page: Page) -> None:
    await go_to(page, "models")
    await expect(page.locator("#models tbody tr")).to_have_count(3)
    await expect(page.locator("#memory .device")).to_be_visible()


# name → steps, and what the browser is like; in this order, since the last one shows what the others loaded
PICTURES = {
    "classify": (classify, {"viewport": {"width": 1440, "height": 640}}),
    "ner-en": (ner, {"viewport": {"width": 1440, "height": 680}}),
    "ner-ko": (ner, {"viewport": {"width": 1440, "height": 680}, "locale": "ko-KR"}),
    "ner-ko-dark": (ner, {"viewport": {"width": 1440, "height": 680}, "locale": "ko-KR", "color_scheme": "dark"}),
    "phone-ko": (ner, {"viewport": {"width": 390, "height": 844}, "locale": "ko-KR"}),
    "embed": (embed, {"viewport": {"width": 1440, "height": 760}}),
    "models": (models, {"viewport": {"width": 1440, "height": 900}}),
}


async def take(browser: Browser, url: str, name: str) -> None:
    steps, options = PICTURES[name]
    context = await browser.new_context(**options)
    page = await context.new_page()
    await page.goto(url)
    await expect(page.locator("#tab-classify .line .state").first).to_be_visible()
    await steps(page)
    visible = page.locator(".line .fact:visible, #models td[data-title=Memory]:visible").first
    await expect(visible).to_be_visible()  # loaded, and said so
    await page.screenshot(path=IMAGES / f"{name}.png", animations="disabled")
    await context.close()


async def main() -> None:
    with tempfile.TemporaryDirectory() as data:
        async with running(Path(data), HF_HUB_OFFLINE="1") as url, async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
            for name in PICTURES:
                await take(browser, url, name)
            await browser.close()


if __name__ == "__main__":
    asyncio.run(main())
