"""Chat in a real browser, with a model that writes what its last message says."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import httpx
import pytest
from playwright.async_api import Locator, Page, expect

from tests.ui.conftest import Open
from tests.ui.steps import choose, go_to, load, unfold

pytestmark = pytest.mark.browser

NASTY = (
    "<img src=x onerror=document.title='owned'> [bad](javascript:alert(1)) **bold** `co<b>de` https://example.com/a."
)


@pytest.fixture
async def place(open_page: Open, writing: str) -> Page:
    """The page, with the writer ready in Chat."""
    page = await open_page(url=writing)
    await load(page, "writer")
    await go_to(page, "chat")
    await choose(page, "chat", "writer")
    return page


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """What a model waits for after two letters, until somebody writes."""
    os.mkfifo(tmp_path / "gate")
    return tmp_path / "gate"


def answers(page: Page) -> Locator:
    return page.locator("#result-chat .message.assistant .markdown")


def questions(page: Page) -> Locator:
    return page.locator("#result-chat .message.user .said")


async def send(page: Page, text: str) -> None:
    await page.locator("#message-chat").fill(text)
    await page.locator("#message-chat").press("Enter")


async def ask(page: Page, text: str, answer: str) -> None:
    """A turn, to its end."""
    await send(page, text)
    await expect(answers(page).last).to_have_text(answer)
    await expect(page.locator("#send-chat")).to_be_visible()


async def test_a_conversation_goes_on_and_survives_a_reload(place: Page) -> None:
    await ask(place, "say:안녕하세요 🙂", "안녕하세요 🙂")
    await ask(place, "say:two", "two")
    await expect(place.locator(".meter")).to_contain_text("of 4,096 tokens")
    await expect(place.locator("li[aria-current]")).to_contain_text("say:안녕하세요 🙂")
    assert "?tab=chat&model=writer&conversation=" in place.url
    await place.reload()
    await expect(answers(place)).to_have_text(["안녕하세요 🙂", "two"])
    await expect(questions(place)).to_have_text(["say:안녕하세요 🙂", "say:two"])
    await expect(place.locator(".meter")).to_contain_text("of 4,096 tokens")
    await ask(place, "say:three", "three")


async def test_enter_sends_and_shift_enter_breaks_the_line(place: Page) -> None:
    field = place.locator("#message-chat")
    await field.fill("first")
    await field.press("Shift+Enter")
    await field.press_sequentially("say:x")
    await expect(field).to_have_value("first\nsay:x")
    composing = "e => e.dispatchEvent(new KeyboardEvent('keydown', {key: 'Enter', isComposing: true, bubbles: true}))"
    await field.evaluate(composing)  # the Enter that ends a Korean syllable
    await expect(questions(place)).to_have_count(0)
    await field.press("Enter")
    await expect(questions(place)).to_have_text(["first\nsay:x"])
    await expect(answers(place)).to_have_text(["x"])


async def test_stop_keeps_what_was_written_and_the_conversation_goes_on(place: Page, gate: Path) -> None:
    await send(place, f"then:wait:{gate}\ncount:2000")
    await expect(answers(place)).to_have_text("ab")
    opened = await asyncio.to_thread(gate.open, "wb")  # the model waits at its other end
    await place.locator("#stop-chat").click()
    await expect(place.locator("#send-chat")).to_be_visible()
    opened.close()
    await expect(place.locator(".message.assistant .about")).to_contain_text("stopped")
    await expect(answers(place)).to_have_text("ab")
    await send(place, "say:on")
    await expect(answers(place).last).to_have_text("on")
    await asyncio.to_thread(gate.write_bytes, b"go")  # the first message is in the prompt of the second, too
    await expect(place.locator("#send-chat")).to_be_visible()
    await place.reload()
    await expect(answers(place)).to_have_text(["ab", "on"])


async def test_escape_stops(place: Page, gate: Path) -> None:
    await send(place, f"then:wait:{gate}\ncount:2000")
    await expect(answers(place)).to_have_text("ab")
    opened = await asyncio.to_thread(gate.open, "wb")
    await place.locator("#message-chat").press("Escape")
    await expect(place.locator("#send-chat")).to_be_visible()
    opened.close()


async def test_an_answer_is_written_again(place: Page) -> None:
    await ask(place, "say:one", "one")
    await ask(place, "say:two", "two")
    await place.get_by_role("button", name="Try again").last.click()
    await expect(place.locator("#send-chat")).to_be_visible()
    await expect(answers(place)).to_have_text(["one", "two"])
    await place.reload()
    await expect(answers(place)).to_have_text(["one", "two"])


async def test_an_earlier_message_is_edited_and_the_conversation_goes_on_from_there(place: Page) -> None:
    await ask(place, "say:one", "one")
    await ask(place, "say:two", "two")
    await place.locator(".message.user").first.hover()
    await place.locator(".message.user").first.get_by_role("button", name="Edit").click()
    editor = place.locator(".editor textarea")
    await expect(editor).to_have_value("say:one")
    await editor.fill("say:uno")
    await place.locator(".editor").get_by_role("button", name="Send").click()
    await expect(answers(place)).to_have_text(["uno"])
    await expect(place.locator("#send-chat")).to_be_visible()
    await place.reload()
    await expect(questions(place)).to_have_text(["say:uno"])


async def test_conversations_are_renamed_exported_deleted_and_imported(place: Page) -> None:
    await ask(place, "say:keep me", "keep me")
    row = place.locator("li[aria-current]")
    await row.locator("summary").click()
    await row.get_by_role("button", name="Rename").click()
    await row.get_by_role("textbox").fill("책 이야기")
    await row.get_by_role("textbox").press("Enter")
    await expect(row.locator(".open")).to_have_text("책 이야기")
    await row.locator("summary").click()
    async with place.expect_download() as waiting:
        await row.get_by_role("button", name="Export").click()
    download = await waiting.value
    assert download.suggested_filename == "책 이야기.json"
    path = await download.path()
    told = json.loads(path.read_text("utf-8"))["conversations"][0]
    assert [message["content"] for message in told["messages"]] == ["say:keep me", "keep me"]
    await row.locator("summary").click()
    await row.get_by_role("button", name="Delete").click()
    await expect(row).to_contain_text("Delete for good?")
    await row.get_by_role("button", name="Delete").click()
    await expect(place.locator(".conversations .open", has_text="책 이야기")).to_have_count(0)
    await expect(answers(place)).to_have_count(0)
    assert "conversation=" not in place.url
    await place.locator("#bring-in").set_input_files(path)
    await expect(answers(place)).to_have_text(["keep me"])
    await expect(place.locator("li[aria-current]")).to_contain_text("책 이야기")


async def test_a_file_that_is_no_conversation_is_refused(place: Page, tmp_path: Path) -> None:
    for text, sentence in (("{", "is not JSON"), ('{"a": 1}', "`format`")):
        (tmp_path / "x.json").write_text(text)
        await place.locator("#bring-in").set_input_files(tmp_path / "x.json")
        await expect(place.locator("#result-chat .notice.error")).to_contain_text(sentence)


async def test_a_new_conversation_and_back_to_the_old(place: Page) -> None:
    await ask(place, "say:old", "old")
    await place.locator("#new-conversation").click()
    await expect(answers(place)).to_have_count(0)
    await ask(place, "say:new", "new")
    await place.locator(".conversations .open", has_text="say:old").first.click()
    await expect(answers(place)).to_have_text(["old"])
    await place.locator(".conversations .open", has_text="say:new").first.click()
    await expect(answers(place)).to_have_text(["new"])


async def test_another_conversation_can_be_read_while_one_is_written(place: Page, gate: Path) -> None:
    await ask(place, "say:quiet", "quiet")
    await place.locator("#new-conversation").click()
    await send(place, f"count:5\nthen:wait:{gate}")
    await expect(answers(place)).to_have_text(["ab"])
    await place.locator(".conversations .open", has_text="say:quiet").first.click()
    await expect(answers(place)).to_have_text(["quiet"])
    await asyncio.to_thread(gate.write_bytes, b"go")
    await expect(place.locator("#send-chat")).to_be_visible()
    await expect(answers(place)).to_have_text(["quiet"])
    await place.locator(".conversations .open", has_text="count:5").first.click()
    await expect(answers(place)).to_have_text(["abcde"])


async def test_what_a_model_writes_is_markdown_and_never_markup(place: Page) -> None:
    await send(place, f"say:{NASTY}")
    shown = answers(place)
    await expect(shown.locator("strong")).to_have_text("bold")
    await expect(shown.locator("code")).to_have_text("co<b>de")
    await expect(shown).to_contain_text("<img src=x onerror=document.title='owned'> [bad](javascript:alert(1))")
    await expect(shown.locator("a")).to_have_attribute("href", "https://example.com/a")
    assert await place.locator("#result-chat :is(img, script, b)").count() == 0
    assert await place.title() == "Berth"


async def test_the_blocks_of_markdown(place: Page) -> None:
    text = "# Title\n\none\ntwo\n\n- a\n- b\n  1. deep\n\n> said\n\n```python\nx = '<b>'\n\ny\n```\n---\n3. three"
    html = await place.evaluate(
        "text => { const shown = berth.markdown();"
        " for (let end = 1; end <= text.length; end += 1) shown.write(text.slice(0, end));"
        " shown.box.querySelectorAll('button').forEach((each) => each.remove()); return shown.box.innerHTML; }",
        text,
    )
    assert html == (
        '<p class="heading">Title</p><p>one\ntwo</p><ul><li>a</li><li>b<ol><li>deep</li></ol></li></ul>'
        "<blockquote>said</blockquote>"
        '<figure class="code-block"><figcaption><span>python</span></figcaption>'
        "<pre tabindex=\"0\"><code>x = '&lt;b&gt;'\n\ny</code></pre></figure>"
        '<hr><ol start="3"><li>three</li></ol>'
    )


async def test_only_the_last_message_is_drawn_while_it_is_written(place: Page, gate: Path) -> None:
    await ask(place, "say:one", "one")
    await send(place, f"then:wait:{gate}\ncount:200")
    await expect(answers(place).last).to_have_text("ab")
    await place.evaluate(
        "() => { window.touched = new Set(); new MutationObserver((all) => all.forEach((one) => {"
        " const message = one.target.parentElement?.closest('.message') ?? one.target.closest?.('.message');"
        " if (message) touched.add([...document.querySelectorAll('#result-chat .message')].indexOf(message)); }))"
        ".observe(document.querySelector('.messages'), {subtree: true, childList: true, characterData: true}); }"
    )
    await asyncio.to_thread(gate.write_bytes, b"go")
    await expect(place.locator("#send-chat")).to_be_visible()
    assert await place.evaluate("[...touched]") == [3]


async def test_a_template_with_its_variables_and_a_system_prompt(place: Page, writing: str) -> None:
    await unfold(place, "chat")
    select = place.get_by_label("Template")
    await select.select_option("sql_assistant")
    await expect(place.locator("#frame .aside")).not_to_be_empty()
    await place.locator("#frame input[name=dialect]").fill("SQLite")
    await expect(place.locator("#options-chat .summary")).to_contain_text("SQL")
    await ask(place, "say:SELECT 1", "SELECT 1")
    conversation = place.url.partition("conversation=")[2]
    async with httpx.AsyncClient(base_url=writing) as client:
        stored = (await client.get(f"/api/v4/conversations/{conversation}")).json()
    assert "SQLite" in json.dumps(stored, ensure_ascii=False)
    await select.select_option("")
    await place.get_by_label("System prompt").fill("say:from the system")
    await ask(place, "hello", "SELECT 1")  # what the newest message with a command says
    await place.reload()
    await unfold(place, "chat")
    await expect(place.get_by_label("System prompt")).to_have_value("say:from the system")


async def test_an_error_before_the_first_word_gives_the_message_back(place: Page) -> None:
    await send(place, "x" * 5000)
    await expect(place.locator("#result-chat .notice.error")).to_contain_text("longer than writer can take in")
    await expect(place.locator("#message-chat")).to_have_value("x" * 5000)
    await expect(answers(place)).to_have_count(0)
    await ask(place, "say:short", "short")


async def test_an_error_in_the_middle_keeps_what_was_written(place: Page) -> None:
    await send(place, "then:oom\ncount:20")
    await expect(place.locator("#result-chat .notice.error strong")).to_contain_text("There is not enough memory")
    await expect(answers(place)).to_have_text("ab")
    await expect(place.locator(".message.assistant .about")).to_contain_text("stopped")


async def test_a_conversation_that_is_gone_is_told(open_page: Open, writing: str) -> None:
    page = await open_page("?tab=chat&conversation=00000000-0000-0000-0000-000000000000", url=writing)
    await expect(page.locator("#result-chat .notice.error strong")).to_contain_text("That conversation is gone")


async def test_without_a_model_the_page_says_what_to_do(place: Page) -> None:
    await place.evaluate("fetch('models/writer/unload', {method: 'POST'})")
    empty = place.locator("#result-chat .notice.empty")
    await expect(empty).to_contain_text("There is no model for chat yet")
    await place.evaluate("berth.store.catalog = []; berth.told()")
    await empty.get_by_role("button", name="Choose a model").click()
    await expect(place.locator("#load-id")).to_be_visible()
