"""The page as a whole: its address, its languages, its colours, its manners."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import Page, expect

from tests.ui.conftest import Open
from tests.ui.steps import choose, go_to, load

pytestmark = pytest.mark.browser
POLL = re.compile("component_server")


async def test_tab_and_model_survive_a_reload_and_travel_in_a_link(page: Page, open_page: Open) -> None:
    await load(page, "tagger")
    await go_to(page, "ner")
    await choose(page, "ner", "tagger")
    assert page.url.endswith("?tab=ner&model=tagger")
    await page.reload()
    await expect(page.locator("#tab-ner .line select").first).to_have_value("tagger")
    other = await open_page(page.url.rpartition("/")[2])
    await expect(other.locator("#tab-ner .line select").first).to_have_value("tagger")


async def test_the_browser_says_which_language(open_page: Open) -> None:
    page = await open_page(locale="ko-KR")
    tabs = page.locator("button[role=tab]")
    await expect(tabs.first).to_have_text("분류")
    assert [text.strip() for text in await tabs.all_inner_texts()] == [
        "분류",
        "개체명",
        "임베딩",
        "생성",
        "대화",
        "이미지",
        "질의응답",
        "빈칸",
        "모델",
    ]
    await expect(page.get_by_role("button", name="분류하기")).to_be_visible()
    assert await page.evaluate("document.documentElement.lang") == "ko"


@pytest.mark.parametrize(
    ("path", "locale", "button"), [("?lang=ko", "en-US", "분류하기"), ("?lang=en", "ko-KR", "Classify")]
)
async def test_the_address_overrides_the_browser(open_page: Open, path: str, locale: str, button: str) -> None:
    page = await open_page(path, locale=locale)
    await expect(page.locator("#run-classify")).to_have_text(button)
    await expect(page.locator("#options-classify")).to_contain_text("옵션" if "ko" in path else "Options")


async def test_the_language_can_be_switched(page: Page) -> None:
    await page.get_by_role("button", name="한국어").click()
    await expect(page.locator("#run-classify")).to_have_text("분류하기")
    await page.get_by_role("button", name="English").click()
    await expect(page.locator("#run-classify")).to_have_text("Classify")


async def test_korean_errors_are_korean(open_page: Open) -> None:
    page = await open_page("?tab=models", locale="ko-KR")
    await page.locator("#load-id input").fill("org/nothing")
    await page.locator("#run-models").click()
    await expect(page.locator(".news .notice.error strong")).to_have_text(
        "그런 아이디의 저장소가 없어요. 철자와 리비전을 확인해 주세요."
    )


@pytest.mark.parametrize(("scheme", "is_dark"), [("light", False), ("dark", True)])
async def test_colours_follow_the_system(open_page: Open, scheme: str, is_dark: bool) -> None:
    page = await open_page(color_scheme=scheme)
    await expect(page.locator("#run-classify")).to_be_visible()
    for selector in ("body", "#tab-classify textarea"):
        colour = await page.locator(selector).first.evaluate("e => getComputedStyle(e).backgroundColor")
        red, green, blue = (int(part) for part in colour.removeprefix("rgb(").rstrip(")").split(","))
        assert (red + green + blue < 200) is is_dark


async def test_a_hidden_tab_asks_nothing(page: Page) -> None:
    await page.clock.install()
    await page.reload()
    await expect(page.locator("#tab-classify .line .state").first).to_be_visible()
    asked: list[str] = []
    page.on("request", lambda sent: asked.append(sent.url) if POLL.search(sent.url) else None)
    async with page.expect_request(POLL):
        await page.clock.run_for(10_000)
    hide = (
        "Object.defineProperty(document, 'hidden', {get: () => %s, configurable: true});"
        "document.dispatchEvent(new Event('visibilitychange'))"
    )
    await page.evaluate(hide % "true")
    before = len(asked)
    await page.clock.run_for(60_000)
    assert len(asked) == before
    async with page.expect_request(POLL):
        await page.evaluate(hide % "false")
    assert len(asked) == before + 1


async def test_an_unreachable_server_is_told_and_found_again(open_page: Open) -> None:
    page = await open_page(expects="net::ERR_FAILED")
    await page.route(POLL, lambda route: route.abort())
    await expect(page.locator(".brand .offline")).to_be_visible()
    await page.unroute(POLL)
    await expect(page.locator(".brand .offline")).to_be_hidden()


@pytest.mark.parametrize("width", [1440, 390])
async def test_no_tab_is_wider_than_the_window(open_page: Open, width: int) -> None:
    page = await open_page("?tab=ner", viewport={"width": width, "height": 844})
    await expect(page.locator("#tab-ner-button")).to_have_attribute("aria-selected", "true")
    for tab in ("classify", "ner", "embed", "generate", "chat", "ask", "fill", "models"):
        await go_to(page, tab)
        assert await page.evaluate("document.documentElement.scrollWidth") <= width


async def test_input_and_result_are_in_sight_together(page: Page) -> None:
    for tab in ("classify", "ner", "embed", "generate", "ask", "fill"):
        place = await go_to(page, tab)
        text = place.locator("textarea:visible").last
        for part in (text, page.locator(f"#run-{tab}"), page.locator(f"#result-{tab}")):
            box = await part.bounding_box()
            assert box is not None
            assert box["y"] + box["height"] <= 900


async def test_nothing_of_gradio_s_own_is_left(page: Page) -> None:
    await expect(page.locator("#run-classify")).to_be_visible()
    assert await page.locator("footer:visible").count() == 0
    for word in ("Built with Gradio", "Use via API", "Flag", "Share"):
        assert await page.get_by_text(word).count() == 0
