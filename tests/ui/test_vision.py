"""Pictures in a real browser, with a model that says what it is shown: size, and the colour of one corner."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from playwright.async_api import Locator, Page, Route, expect

from tests.ui.conftest import Open
from tests.ui.serving import running
from tests.ui.steps import choose, go_to, load
from tests.ui.test_code import LANGUAGES, output, program

pytestmark = pytest.mark.browser

RED, BLUE = "48x32 #ff0000", "40x40 #0000ff"


def png(width: int, height: int, colour: str) -> bytes:
    made = BytesIO()
    Image.new("RGB", (width, height), colour).save(made, "PNG")
    return made.getvalue()


def files(*pictures: bytes) -> list[Any]:
    return [{"name": f"{index}.png", "mimeType": "image/png", "buffer": data} for index, data in enumerate(pictures)]


RED_FILE, BLUE_FILE = png(48, 32, "#ff0000"), png(40, 40, "#0000ff")


@pytest.fixture
async def place(open_page: Open, writing: str) -> Page:
    """The page, with the seer ready in Vision."""
    page = await open_page(url=writing)
    await load(page, "seer")
    await go_to(page, "vision")
    await choose(page, "vision", "seer")
    return page


def answers(page: Page, section: str = "vision") -> Locator:
    return page.locator(f"#result-{section} .message.assistant .markdown")


def strip(page: Page, section: str = "vision") -> Locator:
    return page.locator(f"#result-{section} .strip img")


async def send(page: Page, text: str, section: str = "vision") -> None:
    await page.locator(f"#message-{section}").fill(text)
    await page.locator(f"#message-{section}").press("Enter")


async def ask(page: Page, text: str, answer: str, section: str = "vision") -> None:
    """A turn, to its end."""
    await send(page, text, section)
    await expect(answers(page, section).last).to_have_text(answer)
    await expect(page.locator(f"#send-{section}")).to_be_visible()


async def give(page: Page, pictures: Sequence[bytes], section: str = "vision") -> None:
    await page.locator(f"#pictures-{section}").set_input_files(files(*pictures))
    await expect(strip(page, section)).to_have_count(len(pictures))


async def test_a_picture_is_talked_about_and_the_talk_survives_a_reload(place: Page) -> None:
    await give(place, [RED_FILE])
    await ask(place, "look", RED)
    await expect(strip(place)).to_have_count(0)
    await expect(place.locator("#result-vision .seen figcaption span")).to_have_text("48 × 32 pixels · 4 tokens")
    await ask(place, "look", RED)  # the same picture, from the conversation
    await expect(place.locator("#result-vision .seen img")).to_have_count(1)
    assert "tab=vision&model=seer&conversation=" in place.url
    await place.reload()
    await expect(answers(place)).to_have_text([RED, RED])
    shown = place.locator("#result-vision .seen img")
    await expect(shown).to_have_js_property("naturalWidth", 48)
    await ask(place, "look", RED)


def halves() -> bytes:
    """Red on the left, blue on the right."""
    made, out = Image.new("RGB", (48, 32), "#ff0000"), BytesIO()
    made.paste("#0000ff", (24, 0, 48, 32))
    made.save(out, "PNG")
    return out.getvalue()


COLOUR = """(image) => {
    const canvas = Object.assign(document.createElement("canvas"), { width: 1, height: 1 });
    canvas.getContext("2d").drawImage(image, 0, 0);
    return [image.naturalWidth, image.naturalHeight, ...canvas.getContext("2d").getImageData(0, 0, 1, 1).data];
}"""


async def seen(page: Page, place: Locator) -> None:
    """What the fake says it sees: all of it, small, and its halves."""
    await place.get_by_role("button", name="What the model saw").click()
    views = place.locator(".preview .view")
    await expect(views.locator("figcaption")).to_have_text(["8 × 8 pixels", "2 × 1 tiles of 24 × 32 pixels each"])
    await expect(place.locator(".preview")).to_contain_text("seer · 4 tokens")
    for tile, colour in zip(await views.last.locator("img").all(), ([255, 0, 0], [0, 0, 255]), strict=True):
        await expect(tile).to_have_js_property("complete", True)
        assert await tile.evaluate(COLOUR) == [24, 32, *colour, 255]
    left, right = [await each.bounding_box() or {} for each in await views.last.locator("img").all()]
    assert left["x"] < right["x"]
    assert left["y"] == right["y"]


async def test_what_the_model_saw_is_shown_on_demand(place: Page) -> None:
    asked: list[str] = []
    place.on(
        "request", lambda sent: asked.append(sent.post_data or "") if '"preview"' in (sent.post_data or "") else None
    )
    await give(place, [halves()])
    await expect(place.get_by_role("button", name="What the model saw")).to_have_count(0)  # nobody has looked yet
    await ask(place, "look", "48x32 #0000ff")
    pane = place.locator("#result-vision .seen")
    assert asked == []
    await seen(place, pane)
    assert len(asked) == 1
    await ask(place, "look", "48x32 #0000ff")
    await expect(pane.locator(".preview")).to_be_visible()  # stays open
    await pane.get_by_role("button", name="What the model saw").click()
    await expect(pane.locator(".preview")).to_be_hidden()
    await place.reload()
    await expect(answers(place)).to_have_count(2)
    await seen(place, pane)


async def test_chat_shows_what_the_model_saw(place: Page) -> None:
    await go_to(place, "chat")
    await choose(place, "chat", "seer")
    await give(place, [halves()], "chat")
    await ask(place, "look", "48x32 #0000ff", "chat")
    message = place.locator("#result-chat .message.user")
    await message.hover()
    await seen(place, message)


async def test_a_library_that_does_not_tell_and_a_model_that_is_gone(place: Page, writing: str) -> None:
    await load(place, "blinker")
    await go_to(place, "vision")
    await choose(place, "vision", "blinker")
    await give(place, [halves()])
    await ask(place, "look", "48x32 #0000ff")
    pane = place.locator("#result-vision .seen")
    button = pane.get_by_role("button", name="What the model saw")
    async with httpx.AsyncClient(base_url=writing) as client:
        assert (await client.post("/models/blinker/unload")).status_code == 200
    await expect(place.locator("#tab-vision .line .state")).to_have_text("Not in memory")
    await button.click()
    await expect(pane.locator(".previews")).to_contain_text("blinker is not in memory")
    await button.click()
    await load(place, "blinker")
    await go_to(place, "vision")
    await button.click()
    await expect(pane.locator(".view figcaption")).to_have_text("48 × 32 pixels")
    await expect(pane.locator(".preview")).to_contain_text("without showing how")


async def test_enter_waits_for_a_picture_that_is_being_read(place: Page) -> None:
    await place.evaluate("""() => {
        const read = window.createImageBitmap;
        window.createImageBitmap = (file) => new Promise((done) => { window.letGo = () => done(read(file)); });
    }""")
    await place.locator("#pictures-vision").set_input_files(files(RED_FILE))
    await send(place, "look")
    await expect(place.locator("#result-vision .strip [role=status]")).to_contain_text("still being read")
    await expect(place.locator("#result-vision .message")).to_have_count(0)
    await place.locator("#message-vision").press("Enter")  # once is enough
    await place.evaluate("letGo()")
    await expect(answers(place)).to_have_text([RED])
    await expect(place.locator("#send-vision")).to_be_visible()
    await place.evaluate("""() => {
        window.createImageBitmap = () => new Promise((_, fail) => { window.letGo = () => fail(new Error("damaged")); });
    }""")
    heavy = {"name": "heavy.png", "mimeType": "image/png", "buffer": bytes(6_000_001)}
    await place.locator("#pictures-vision").set_input_files([heavy])
    await send(place, "look")
    await expect(place.locator("#result-vision .strip [role=status]")).to_be_visible()
    await place.evaluate("letGo()")
    await expect(place.locator("#result-vision .notice.error")).to_contain_text("heavy.png")
    await expect(place.locator("#message-vision")).to_have_value("look")
    await expect(answers(place)).to_have_count(1)


async def test_pictures_that_are_read_side_by_side_are_all_there(place: Page) -> None:
    await place.evaluate("""() => {
        const read = window.createImageBitmap;
        window.letGo = [];
        window.createImageBitmap = (file) => new Promise((done) => letGo.push(() => done(read(file))));
    }""")
    for picture in (RED_FILE, BLUE_FILE):
        await place.locator("#pictures-vision").set_input_files(files(picture))
    await place.evaluate("letGo[1]()")
    await expect(strip(place)).to_have_count(1)
    await place.evaluate("letGo[0]()")
    await expect(strip(place)).to_have_count(2)
    await place.locator("#pictures-vision").set_input_files(files(RED_FILE))
    await place.get_by_role("button", name="Remove this picture").first.click()  # while another is being read
    await place.evaluate("letGo[2]()")
    await expect(strip(place)).to_have_count(2)
    await ask(place, "look", f"{RED} {RED}")


async def test_too_many_pictures_are_not_sent_by_an_enter_that_waited(place: Page) -> None:
    await place.evaluate("""() => {
        const read = window.createImageBitmap;
        const gate = new Promise((done) => { window.letGo = done; });
        window.createImageBitmap = (file) => gate.then(() => read(file));
    }""")
    await place.locator("#pictures-vision").set_input_files(files(*[RED_FILE] * 9))
    await send(place, "look")
    await place.evaluate("letGo()")
    await expect(place.locator("#result-vision .notice.error")).to_contain_text("8 pictures")
    await expect(strip(place)).to_have_count(8)
    await expect(place.locator("#message-vision")).to_have_value("look")


async def test_several_pictures_in_a_message_and_over_a_conversation(place: Page) -> None:
    await give(place, [RED_FILE, BLUE_FILE])
    await ask(place, "look", f"{RED} {BLUE}")
    await give(place, [BLUE_FILE])
    await ask(place, "look", f"{RED} {BLUE} {BLUE}")
    await expect(place.locator("#result-vision .seen img")).to_have_count(3)


async def test_a_picture_can_be_left_out_again(place: Page) -> None:
    await give(place, [RED_FILE, BLUE_FILE])
    await place.get_by_role("button", name="Remove this picture").first.click()
    await expect(strip(place)).to_have_count(1)
    await expect(place.get_by_role("button", name="Remove this picture")).to_be_focused()
    await ask(place, "look", BLUE)


async def test_pictures_are_pasted_and_dropped(place: Page) -> None:
    handed = """([kind, data]) => {
        const bytes = Uint8Array.from(atob(data), (each) => each.charCodeAt(0));
        const transfer = new DataTransfer();
        transfer.items.add(new File([bytes], "picture.png", { type: "image/png" }));
        const target = document.querySelector(kind === "drop" ? "#result-vision .drop" : "#message-vision");
        const how = { dataTransfer: transfer, clipboardData: transfer, bubbles: true, cancelable: true };
        target.dispatchEvent(kind === "drop" ? new DragEvent("drop", how) : new ClipboardEvent("paste", how));
    }"""
    await place.evaluate(handed, ["paste", base64.b64encode(RED_FILE).decode()])
    await expect(strip(place)).to_have_count(1)
    await place.evaluate(handed, ["drop", base64.b64encode(BLUE_FILE).decode()])
    await expect(strip(place)).to_have_count(2)
    await ask(place, "look", f"{RED} {BLUE}")


async def test_a_file_that_is_dropped_beside_does_not_take_the_place_of_the_page(place: Page) -> None:
    dropped = """(on) => {
        const transfer = new DataTransfer();
        transfer.items.add(new File(["x"], "picture.png", { type: "image/png" }));
        const how = { dataTransfer: transfer, bubbles: true, cancelable: true };
        return ["dragover", "drop"].map((kind) => !document.querySelector(on).dispatchEvent(new DragEvent(kind, how)));
    }"""
    assert await place.evaluate(dropped, "#options-vision") == [True, True]
    await expect(strip(place)).to_have_count(0)


async def test_a_picture_is_taken_with_the_camera(place: Page) -> None:
    await place.get_by_role("button", name="Use the camera").click()
    await expect(place.locator(".camera video")).to_be_visible()
    await place.get_by_role("button", name="Take the picture").click()
    await expect(strip(place)).to_have_count(1)
    await expect(place.locator(".camera")).to_be_hidden()
    await expect(place.get_by_role("button", name="Use the camera")).to_be_focused()
    await send(place, "look")
    await expect(answers(place)).to_contain_text("x")
    await expect(place.locator("#send-vision")).to_be_visible()


async def test_the_camera_goes_off_when_the_tab_is_left(place: Page) -> None:
    await place.evaluate("""() => {
        const given = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
        navigator.mediaDevices.getUserMedia = async (what) => (window.filmed = await given(what));
    }""")
    await place.get_by_role("button", name="Use the camera").click()
    await expect(place.locator(".camera video")).to_be_visible()
    assert await place.evaluate("filmed.getTracks().map((each) => each.readyState)") == ["live"]
    await go_to(place, "chat")
    assert await place.evaluate("filmed.getTracks().map((each) => each.readyState)") == ["ended"]
    await go_to(place, "vision")
    await expect(place.locator(".camera")).to_be_hidden()


async def test_a_tab_without_a_model_says_so_from_the_start(open_page: Open, tmp_path: Path) -> None:
    async with running(tmp_path, BERTH_STARTER_DIR=str(tmp_path / "none")) as url:
        page = await open_page("?tab=vision", url=url)
        await page.add_init_script("""
            const heading = () => document.querySelector("#result-vision .notice.empty strong")?.textContent;
            const look = () => heading() && said.add(heading());
            window.said = new Set();
            new MutationObserver(look).observe(document, { subtree: true, childList: true });
        """)
        await page.reload()
        await expect(page.locator("#result-vision .notice.empty")).to_contain_text("There is no model yet")
        assert await page.evaluate("[...said]") == ["There is no model yet that looks at pictures"]
        await page.context.close()  # before its server goes


async def test_a_heavy_photo_is_made_lighter(place: Page) -> None:
    noise = Image.effect_noise((3000, 1500), 120).convert("RGB")
    made = BytesIO()
    noise.save(made, "PNG")
    assert len(made.getvalue()) > 1_000_000
    await give(place, [made.getvalue()])
    await send(place, "look")
    await expect(answers(place)).to_contain_text("2048x1024 #")
    await expect(place.locator("#send-vision")).to_be_visible()


async def test_what_is_no_picture_is_told_and_nothing_is_lost(place: Page) -> None:
    fake = {"name": "fake.png", "mimeType": "image/png", "buffer": b"<svg xmlns='http://www.w3.org/2000/svg'></svg>"}
    await place.locator("#pictures-vision").set_input_files([fake])
    await expect(strip(place)).to_have_count(1)
    await send(place, "look at this")
    await expect(place.locator("#result-vision .notice.error")).to_contain_text("an SVG drawing")
    await expect(place.locator("#message-vision")).to_have_value("look at this")
    await expect(strip(place)).to_have_count(1)


async def test_too_many_pictures_are_told(place: Page) -> None:
    await place.locator("#pictures-vision").set_input_files(files(*[RED_FILE] * 9))
    await expect(strip(place)).to_have_count(8)
    await expect(place.locator("#result-vision .notice.error")).to_contain_text("8 pictures")


async def test_retry_and_edit_keep_the_pictures(place: Page) -> None:
    await give(place, [RED_FILE])
    await ask(place, "look", RED)
    await place.reload()  # the page has its pictures from the server now
    await expect(answers(place)).to_have_text([RED])
    await place.locator("#result-vision .message.assistant .retry").click()
    await expect(answers(place)).to_have_text([RED])
    await expect(place.locator("#send-vision")).to_be_visible()
    await place.locator("#result-vision .message.user").hover()
    await place.locator("#result-vision .message.user").get_by_role("button", name="Edit").click()
    await place.locator(".editor textarea").fill("say:edited")
    await place.locator(".editor textarea").press("Enter")
    await expect(answers(place)).to_have_text(["edited"])
    await expect(place.locator("#result-vision .message.user img")).to_have_count(1)


async def test_a_picture_too_large_to_be_sent_back_is_asked_about_again(place: Page) -> None:
    """A WebP file is kept as PNG, which takes ten times as much."""
    made = BytesIO()
    noise = [Image.effect_noise((2000, 1900), 60) for _ in range(3)]
    Image.merge("RGB", noise).save(made, "WEBP", quality=1, method=0)
    assert len(made.getvalue()) < 1_000_000  # sent as it is
    sent = {"name": "noise.webp", "mimeType": "image/webp", "buffer": made.getvalue()}
    await place.locator("#pictures-vision").set_input_files([sent])
    await expect(strip(place)).to_have_count(1)
    await send(place, "look")
    await expect(answers(place)).to_contain_text("2000x1900 #")
    await expect(place.locator("#send-vision")).to_be_visible()
    await place.reload()
    shown = place.locator("#result-vision .seen img")
    await expect(shown).to_have_js_property("naturalWidth", 2000)
    assert len(await shown.get_attribute("src") or "") > 10 * 2**20  # of a request
    await place.locator("#result-vision .message.assistant .retry").click()
    await expect(place.locator("#send-vision")).to_be_visible()
    await expect(answers(place)).to_contain_text("2000x1900 #")
    await expect(place.locator("#result-vision .notice.error")).to_have_count(0)


async def test_a_turn_that_cannot_be_done_again_stays_as_it_was(place: Page) -> None:
    await give(place, [RED_FILE])
    await ask(place, "look", RED)
    await place.locator("#result-vision .message.user").hover()
    await place.locator("#result-vision .message.user").get_by_role("button", name="Edit").click()
    await place.locator(".editor textarea").fill("oom")
    await place.locator(".editor textarea").press("Enter")
    await expect(place.locator("#result-vision .notice.error")).to_contain_text("not enough memory")
    await expect(place.locator("#result-vision .message.user .said")).to_have_text("look")
    await expect(place.locator("#message-vision")).to_have_value("oom")
    await expect(strip(place)).to_have_count(0)
    await ask(place, "look", RED)
    await expect(answers(place)).to_have_text([RED, RED])
    await place.reload()
    await expect(answers(place)).to_have_text([RED, RED])  # as the server has them


async def test_an_error_takes_nothing_of_the_next_message(place: Page) -> None:
    let_go = asyncio.Event()

    async def held(route: Route) -> None:
        await let_go.wait()
        await route.continue_()

    await place.route("**/queue/join**", held)
    await give(place, [RED_FILE])
    await send(place, "oom")
    await expect(strip(place)).to_have_count(0)
    await give(place, [BLUE_FILE])
    await place.locator("#message-vision").fill("look")
    let_go.set()
    await expect(place.locator("#result-vision .notice.error")).to_contain_text("not enough memory")
    await expect(strip(place)).to_have_count(2)
    await expect(place.locator("#message-vision")).to_have_value("oom\nlook")
    await ask(place, "look", f"{RED} {BLUE}")


async def test_a_picture_grows_and_shrinks(place: Page) -> None:
    await give(place, [png(40, 400, "#00ff00")])
    await ask(place, "look", "40x400 #00ff00")
    picture = place.locator("#result-vision .message.user .picture")
    small = (await picture.bounding_box() or {})["height"]
    await picture.click()
    assert (await picture.bounding_box() or {})["height"] > small
    await picture.click()
    assert (await picture.bounding_box() or {})["height"] == small


async def test_stop_and_a_new_conversation(place: Page, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "gate")
    await give(place, [RED_FILE])
    await send(place, f"then:wait:{tmp_path / 'gate'}\ncount:500")
    await expect(answers(place)).to_contain_text("ab")
    await place.locator("#stop-vision").click()
    (tmp_path / "gate").write_text("")
    await expect(place.locator("#send-vision")).to_be_visible()
    await place.locator("#new-vision").click()
    await expect(answers(place)).to_have_count(0)
    await expect(place.locator("#result-vision .seen img")).to_have_count(0)
    await ask(place, "look", "nothing")


async def test_chat_takes_pictures_when_its_model_sees(place: Page) -> None:
    await load(place, "writer")
    await go_to(place, "chat")
    await choose(place, "chat", "writer")
    await expect(place.locator("#tab-chat .add-picture")).to_be_hidden()
    await choose(place, "chat", "seer")
    await expect(place.locator("#tab-chat .add-picture")).to_be_visible()
    await give(place, [RED_FILE, BLUE_FILE], "chat")
    await ask(place, "look", f"{RED} {BLUE}", "chat")
    await expect(place.locator("#result-chat .message.user img")).to_have_count(2)


async def test_a_conversation_with_pictures_is_taken_out_and_brought_in(place: Page, tmp_path: Path) -> None:
    await give(place, [RED_FILE])
    await ask(place, "look", RED)
    await go_to(place, "chat")
    await choose(place, "chat", "seer")
    await place.reload()
    line = place.locator(".conversations li").first
    await line.locator("summary").click()
    async with place.expect_download() as told:
        await line.get_by_role("button", name="Export").click()
    await (await told.value).save_as(tmp_path / "talk.json")
    assert json.loads((tmp_path / "talk.json").read_text())
    await place.locator("#bring-in").set_input_files(tmp_path / "talk.json")
    await expect(answers(place, "chat")).to_have_text([RED])
    await expect(place.locator("#result-chat .message.user img")).to_have_js_property("naturalWidth", 48)
    await ask(place, "look", RED, "chat")


async def test_the_programs_look_as_the_page_does(place: Page, tmp_path: Path) -> None:
    (tmp_path / "picture.png").write_bytes(RED_FILE)
    await give(place, [RED_FILE])
    await ask(place, "look", RED)
    told = {}
    for language in (*LANGUAGES, "openai"):
        told[language] = await output(language, await program(place, "vision", language), tmp_path)
    assert json.loads(told.pop("curl"))["response"] == RED
    assert told == dict.fromkeys(("Python", "gradio_client", "JavaScript", "openai"), RED)


async def test_what_is_deleted_is_gone_from_the_disk(place: Page, writing: str) -> None:
    await give(place, [png(20, 20, "#123456")])
    await ask(place, "look", "20x20 #123456")
    async with httpx.AsyncClient(base_url=writing) as client:
        listed = (await client.get("/api/v4/conversations")).json()["items"]
        shown = (await client.get(f"/api/v4/conversations/{listed[0]['id']}")).json()
        [image] = shown["messages"][0]["images"]
        assert (await client.get(image["url"])).status_code == 200
        assert (await client.delete(f"/api/v4/conversations/{listed[0]['id']}")).status_code == 200
        assert (await client.get(image["url"])).status_code == 404
