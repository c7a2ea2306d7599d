"""Embed in a real browser."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from playwright.async_api import Page, expect

from tests.ui.steps import run, unfold, use

pytestmark = pytest.mark.browser

LINES = ["대한민국의 수도는 서울이다.", "The food was cold.", "음식은 맛이 없었다."]


async def vectors_of(page: Page) -> np.ndarray:
    async with page.expect_download() as waiting:
        await page.get_by_role("button", name="Download vectors").click()
    told = json.loads(Path(await (await waiting.value).path()).read_text("utf-8"))
    assert told["texts"] == LINES
    assert told["dimension"] == len(told["embeddings"][0])
    return np.array(told["embeddings"])


async def test_map_and_table_tell_what_the_vectors_say(page: Page) -> None:
    await use(page, "embed", "embedder")
    shown = await run(page, "embed", "\n".join(LINES))
    vectors = await vectors_of(page)
    norms = np.linalg.norm(vectors, axis=1)
    similar = vectors @ vectors.T / np.outer(norms, norms)
    cells = await shown.locator(".cell text").all_text_contents()
    assert cells == [f"{value:.2f}" for value in similar.flat]
    others = similar - 2 * np.eye(3)
    for index, row in enumerate(await shown.locator("tbody tr").all()):
        _, text, nearest, similarity, norm, _ = await row.locator("td").all_inner_texts()
        assert text == LINES[index]
        assert int(nearest) == int(others[index].argmax()) + 1
        assert float(similarity) == pytest.approx(others[index].max(), abs=6e-4)
        assert float(norm) == pytest.approx(norms[index], abs=6e-4)
    await expect(shown.locator(".actions")).to_contain_text(f"{vectors.shape[1]} dimensions")


async def test_the_pair_under_the_cursor_is_told(page: Page) -> None:
    await use(page, "embed", "embedder")
    shown = await run(page, "embed", "\n".join(LINES))
    await shown.locator("[data-pair='1-3'] rect").hover()
    await expect(shown.locator(".told")).to_contain_text(f"1. {LINES[0]}")
    await expect(shown.locator(".told")).to_contain_text(f"3. {LINES[2]}")
    await shown.locator("svg").press("ArrowDown")  # from 1-3 to 2-3
    await expect(shown.locator(".told")).to_contain_text(f"2. {LINES[1]}")
    await expect(shown.locator("[data-pair='2-3']")).to_have_class("cell at")


async def test_normalised_vectors_have_length_one(page: Page) -> None:
    await use(page, "embed", "embedder")
    await unfold(page, "embed")
    await page.get_by_label("one (normalised)").check()
    await run(page, "embed", "\n".join(LINES))
    assert np.linalg.norm(await vectors_of(page), axis=1) == pytest.approx(1, abs=1e-4)


async def test_a_map_shows_twenty_lines_and_says_so(page: Page) -> None:
    await use(page, "embed", "embedder")
    shown = await run(page, "embed", "\n".join(f"line {number}" for number in range(23)))
    await expect(shown.locator(".cell")).to_have_count(400)
    await expect(shown.locator(".notice")).to_contain_text("Only the first 20 lines were compared")


async def test_one_line_needs_no_map(page: Page) -> None:
    await use(page, "embed", "embedder")
    shown = await run(page, "embed", LINES[0])
    await expect(shown.locator("tbody tr")).to_have_count(1)
    await expect(shown.locator("svg")).to_have_count(0)
