"""Takes the pictures in docs/images, of the starters: `python -m tests.ui.pictures`."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import httpx
from playwright.async_api import Browser, Page, async_playwright, expect

from tests.ui.conftest import ARGUMENTS, CHROMIUM
from tests.ui.serving import ROOT, running
from tests.ui.steps import go_to, run, unfold

IMAGES = ROOT / "docs" / "images"
TEMPERATURE = 1  # among the numbers of the options
PROMPTS = {"en": "On the Models tab,", "ko": "모델 탭에서"}
QUESTIONS = {
    "en": ("How do I change the port?", "How do I load a model?", "Can I use the openai client?"),
    "ko": ("포트를 바꾸려면?", "모델을 어떻게 불러와?", "openai 클라이언트로 쓸 수 있어?"),
}
SHOWN = ROOT / "starter" / "vision" / "samples" / "three-shapes.png"
LOOKS = {
    "en": ("What do you see?", "How many are there?"),
    "ko": ("그림을 설명해 줘", "모두 몇 개야?", "배경은 무슨 색이야?"),
}
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


async def generate(page: Page) -> None:
    """With what else a token could have been."""
    await go_to(page, "generate")
    await unfold(page, "generate")
    await set_temperature(page, "generate", 0)
    await page.locator("#options-generate input[type=checkbox]").check()
    await unfold(page, "generate")
    await page.locator("#tab-generate textarea").first.fill(PROMPTS[await language(page)])
    await page.locator("#run-generate").click()
    await expect(page.locator("#result-generate .how").last).to_contain_text("starter-chat")
    await page.locator("#result-generate .token").first.hover()
    await page.evaluate("scrollTo(0, 0)")


async def chat(page: Page) -> None:
    """A conversation of two turns, after one of one."""
    await go_to(page, "chat")
    await unfold(page, "chat")
    await set_temperature(page, "chat", 0)
    await unfold(page, "chat")
    earlier, *turns = QUESTIONS[await language(page)]
    await say(page, earlier)
    await page.locator("#new-conversation").click()
    for turn in turns:
        await say(page, turn)
    await expect(page.locator(".conversations li")).to_have_count(2)
    await page.mouse.move(0, 0)
    await page.evaluate("scrollTo(0, 0)")


async def vision(page: Page) -> None:
    """A picture, described."""
    await go_to(page, "vision")
    await unfold(page, "vision")
    await set_temperature(page, "vision", 0)
    await unfold(page, "vision")
    await page.locator("#pictures-vision").set_input_files(SHOWN)
    await expect(page.locator("#result-vision .strip img")).to_have_count(1)
    for question in LOOKS[await language(page)]:
        await say(page, question, "vision")
    await page.mouse.move(0, 0)
    await page.evaluate("scrollTo(0, 0)")


async def models(page: Page) -> None:
    await go_to(page, "models")
    await expect(page.locator("#models tbody tr")).to_have_count(5)
    await expect(page.locator("#memory .device")).to_be_visible()


async def language(page: Page) -> str:
    return str(await page.evaluate("() => document.documentElement.lang"))[:2]


async def set_temperature(page: Page, tab: str, value: float) -> None:
    field = page.locator(f"#options-{tab} input[type=number]").nth(TEMPERATURE)
    await field.fill(str(value))
    await field.press("Tab")


async def say(page: Page, text: str, section: str = "chat") -> None:
    """A turn, to its end."""
    await page.locator(f"#message-{section}").fill(text)
    await page.locator(f"#message-{section}").press("Enter")
    place = page.locator(f"#result-{section}")
    await expect(place.locator(".message.user .said").last).to_have_text(text)
    await expect(place.locator(".message.assistant .retry").last).to_be_visible()
    await expect(page.locator(f"#send-{section}")).to_be_visible()


# name → steps, and what the browser is like; in this order, since the last one shows what the others loaded
PICTURES = {
    "classify": (classify, {"viewport": {"width": 1440, "height": 640}}),
    "ner-en": (ner, {"viewport": {"width": 1440, "height": 680}}),
    "ner-ko": (ner, {"viewport": {"width": 1440, "height": 680}, "locale": "ko-KR"}),
    "ner-ko-dark": (ner, {"viewport": {"width": 1440, "height": 680}, "locale": "ko-KR", "color_scheme": "dark"}),
    "phone-ko": (ner, {"viewport": {"width": 390, "height": 844}, "locale": "ko-KR"}),
    "embed": (embed, {"viewport": {"width": 1440, "height": 760}}),
    "generate": (generate, {"viewport": {"width": 1440, "height": 680}}),
    "generate-ko-dark": (
        generate,
        {"viewport": {"width": 1440, "height": 680}, "locale": "ko-KR", "color_scheme": "dark"},
    ),
    "chat": (chat, {"viewport": {"width": 1440, "height": 900}}),
    "chat-ko": (chat, {"viewport": {"width": 1440, "height": 900}, "locale": "ko-KR"}),
    "chat-phone-ko-dark": (
        chat,
        {"viewport": {"width": 390, "height": 844}, "locale": "ko-KR", "color_scheme": "dark"},
    ),
    "vision": (vision, {"viewport": {"width": 1440, "height": 760}}),
    "vision-ko": (vision, {"viewport": {"width": 1440, "height": 760}, "locale": "ko-KR"}),
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
    await forget_conversations(url)


async def forget_conversations(url: str) -> None:
    async with httpx.AsyncClient(base_url=url) as client:
        for each in (await client.get("/api/v4/conversations")).json()["items"]:
            await client.delete(f"/api/v4/conversations/{each['id']}")


async def main() -> None:
    with tempfile.TemporaryDirectory() as data:
        async with running(Path(data), HF_HUB_OFFLINE="1") as url, async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
            for name in PICTURES:
                await take(browser, url, name)
            await browser.close()


if __name__ == "__main__":
    asyncio.run(main())
