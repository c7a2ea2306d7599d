"""Pictures in Classify, in a real browser, with a tiny classifier of transformers."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.async_api import Page, expect

from tests.fakes.images import picture
from tests.ui.conftest import NAMER, Served
from tests.ui.steps import choose, load, result, set_slider, unfold, use
from tests.ui.test_code import LANGUAGES, output, program

pytestmark = pytest.mark.browser

ONE, TWO = picture(1, 48, 40)["data"], picture(2, 30, 60)["data"]
HAND = """([kind, data]) => {
    const bytes = Uint8Array.from(atob(data), (each) => each.charCodeAt(0));
    const transfer = new DataTransfer();
    transfer.items.add(new File([bytes], "picture.png", { type: "image/png" }));
    const how = { dataTransfer: transfer, clipboardData: transfer, bubbles: true, cancelable: true };
    if (kind === "drop") document.querySelector("#tab-classify .drop").dispatchEvent(new DragEvent("drop", how));
    else document.body.dispatchEvent(new ClipboardEvent("paste", how));
}"""


@pytest.fixture
async def place(page: Page) -> Page:
    await use(page, "classify", NAMER)
    return page


def file(data: bytes, name: str = "picture.png") -> Any:
    return {"name": name, "mimeType": "image/png", "buffer": data}


async def give(page: Page, data: bytes, width: int) -> None:
    await page.locator("#pictures-classify").set_input_files([file(data)])
    await expect(page.locator("#tab-classify .shot img")).to_have_js_property("naturalWidth", width)


async def labels(page: Page) -> list[str]:
    """Of the picture that is there, best first."""
    await page.locator("#result-classify .how").evaluate_all("all => all.forEach(one => one.classList.add('old'))")
    await page.locator("#run-classify").click()
    await expect(page.locator("#result-classify .how:not(.old)")).to_be_visible()
    return await result(page, "classify").locator(".bar .label").all_inner_texts()


async def predicted(served: Served, data: bytes) -> list[str]:
    async with httpx.AsyncClient(base_url=served.url) as client:
        told = await client.post(f"/models/{NAMER}/predict", content=data, headers={"Content-Type": "image/png"})
        return [row["label"] for row in told.json()["result"]]


async def test_a_picture_gets_bars_however_it_comes(place: Page, served: Served) -> None:
    await expect(place.locator("#tab-classify textarea").first).to_be_hidden()
    await expect(place.locator("#tab-classify .panel-examples").first).to_be_hidden()
    await place.locator("#run-classify").click()
    await expect(result(place, "classify")).to_contain_text("Choose a picture first")
    await give(place, ONE, 48)
    assert await labels(place) == await predicted(served, ONE)
    await place.evaluate(HAND, ["drop", base64.b64encode(TWO).decode()])
    await expect(place.locator("#tab-classify .shot img")).to_have_js_property("naturalWidth", 30)
    assert await labels(place) == await predicted(served, TWO)
    await place.evaluate(HAND, ["paste", base64.b64encode(ONE).decode()])
    await expect(place.locator("#tab-classify .shot img")).to_have_js_property("naturalWidth", 48)
    await unfold(place, "classify")
    await set_slider(place, "classify", "Labels shown", 2, place.locator("#options-classify .summary"), "top 2")
    assert await labels(place) == (await predicted(served, ONE))[:2]


async def test_another_model_reads_text_again(place: Page, served: Served) -> None:
    await load(place, "classify-a")
    await place.locator("#tab-classify-button").click()
    await give(place, ONE, 48)
    await choose(place, "classify", "classify-a")
    sent: list[str] = []
    place.on("request", lambda request: sent.append(request.post_data or ""))
    await expect(place.locator("#tab-classify textarea").first).to_be_visible()
    await expect(place.locator("#tab-classify .drop")).to_be_hidden()
    await place.locator("#tab-classify textarea").first.fill("Good")
    await place.locator("#run-classify").click()
    await expect(result(place, "classify").locator(".bar")).to_have_count(3)
    assert any("Good" in each for each in sent)
    assert not any("data:image/" in each for each in sent)  # a model of text is not sent the picture
    await choose(place, "classify", NAMER)
    await expect(place.locator("#tab-classify .drop")).to_be_visible()
    assert await labels(place) == await predicted(served, ONE)


async def test_two_models_side_by_side_and_one_that_cannot_look(place: Page) -> None:
    await load(place, "classify-a")
    await place.locator("#tab-classify-button").click()
    await give(place, ONE, 48)
    await unfold(place, "classify")
    await place.locator("#options-classify .line select").select_option("classify-a")
    await place.locator("#run-classify").click()
    await expect(result(place, "classify").locator(".bar")).to_have_count(5)
    await expect(result(place, "classify").locator(".notice.error")).to_contain_text("classify-a")


async def test_what_is_no_picture_is_told(place: Page) -> None:
    await place.locator("#pictures-classify").set_input_files([file(b"<svg xmlns='http://www.w3.org/2000/svg'></svg>")])
    await expect(place.locator("#tab-classify .shot .picture")).to_have_count(1)
    await place.locator("#run-classify").click()
    await expect(place.locator("#result-classify .notice.error")).to_contain_text("an SVG drawing")


async def test_what_nobody_takes_for_a_picture_is_told_too(place: Page) -> None:
    """Dropped, or chosen among all files: a system may not know what kind a photo is of."""
    photo = {"name": "photo.heic", "mimeType": "", "buffer": b"\0\0\0\x18ftypheic" + bytes(100)}
    await place.locator("#pictures-classify").set_input_files([photo])
    await place.locator("#run-classify").click()
    await expect(place.locator("#result-classify .notice.error")).to_contain_text("This picture cannot be read")


async def test_the_programs_name_the_picture_as_the_page_does(place: Page, tmp_path: Path) -> None:
    (tmp_path / "picture.png").write_bytes(ONE)
    await give(place, ONE, 48)
    shown = await labels(place)
    told = {}
    for language in LANGUAGES:
        told[language] = await output(language, await program(place, "classify", language), tmp_path)
    assert [row["label"] for row in json.loads(told["curl"])["result"]] == shown
    for text in told.values():
        assert sorted(shown, key=text.index) == shown
