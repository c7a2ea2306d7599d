"""NER in a real browser."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from playwright.async_api import Locator, Page, expect

from tests.ui.steps import run, unfold, use

pytestmark = pytest.mark.browser

TEXT = "김민수는 서울에서 태어나 😀 Anna Smith 씨와\nParis 로 여행을 떠났다."


async def saved(page: Page, button: str) -> str:
    async with page.expect_download() as waiting:
        await page.get_by_role("button", name=button).click()
    return Path(await (await waiting.value).path()).read_text("utf-8")


async def rows_of(shown: Locator) -> list[list[str]]:
    return [await row.locator("td").all_text_contents() for row in await shown.locator("tbody tr").all()]


@pytest.fixture
async def shown(page: Page) -> Locator:
    await use(page, "ner", "tagger")
    return await run(page, "ner", TEXT)


async def test_spans_and_offsets_say_the_same(shown: Locator) -> None:
    rows = await rows_of(shown)
    assert rows
    for word, label, _, start, end in rows:
        assert TEXT[int(start) : int(end)] == word
        assert label in ("PER", "LOC")
    marks = await shown.locator("mark").evaluate_all(
        "all => all.map(m => [m.firstChild.textContent, m.querySelector('b').textContent])"
    )
    assert marks == [[word, label] for word, label, *_ in rows]
    text = await shown.locator(".spans").evaluate(
        "s => { s = s.cloneNode(true); s.querySelectorAll('b').forEach(b => b.remove()); return s.textContent; }"
    )
    assert text == TEXT


async def test_the_legend_filters(shown: Locator) -> None:
    before = await rows_of(shown)
    kind = before[0][1]
    button = shown.locator(".legend").filter(has_text=kind)
    await button.click()
    await expect(button).to_have_attribute("aria-pressed", "false")
    assert await rows_of(shown) == [row for row in before if row[1] != kind]
    await button.click()
    assert await rows_of(shown) == before


async def test_the_threshold_works_on_the_last_result(page: Page, shown: Locator) -> None:
    before = await rows_of(shown)
    scores = sorted(float(row[2].rstrip(" %")) / 100 for row in before)
    threshold = round(scores[len(scores) // 2], 2)
    joined: list[str] = []
    page.on("request", lambda sent: joined.append(sent.url) if "queue/join" in sent.url else None)
    await shown.get_by_label("Threshold").fill(str(threshold))
    kept = [row for row in before if float(row[2].rstrip(" %")) / 100 >= threshold - 5e-5]
    assert await rows_of(shown) == kept
    assert len(kept) < len(before)
    await expect(shown.locator(".agree")).to_have_text(f"{len(kept)} of {len(before)} entities")
    assert joined == []


async def test_aggregation_none_gives_a_row_a_token(page: Page, shown: Locator) -> None:
    await unfold(page, "ner")
    await page.locator("#options-ner input[value=none]").check()
    await expect(page.locator("#options-ner .summary")).to_have_text("none")
    await run(page, "ner", TEXT)
    await expect(shown.locator("tbody td:nth-child(2)").first).to_contain_text("-")  # B-PER, not PER


async def test_jsonl_holds_the_entities_that_are_shown(page: Page, shown: Locator) -> None:
    rows = await rows_of(shown)
    (line,) = (await saved(page, "Download JSONL")).splitlines()
    told = json.loads(line)
    assert told["text"] == TEXT
    assert [entity["word"] for entity in told["entities"]] == [row[0] for row in rows]


async def test_conll_gives_back_every_entity(page: Page, shown: Locator) -> None:
    rows = await rows_of(shown)
    sentences = (await saved(page, "Download CoNLL")).strip("\n").split("\n\n")
    assert len(sentences) == 2  # a line of the text each
    tokens = [line.split("\t") for sentence in sentences for line in sentence.splitlines()]
    assert "".join(token for token, _ in tokens) == "".join(TEXT.split())
    begun = [tag.removeprefix("B-") for _, tag in tokens if tag.startswith("B-")]
    assert begun == [row[1] for row in rows]


async def test_a_long_text_is_told_to_be_read_in_windows(page: Page, shown: Locator) -> None:
    await run(page, "ner", TEXT * 8)
    await expect(shown.locator(".notice.hint")).to_contain_text("overlapping windows")
