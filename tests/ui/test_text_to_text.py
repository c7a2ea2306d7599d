"""An encoder-decoder in the Generate tab, held against plain transformers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import expect
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from tests.fakes.decoders import write_decoder
from tests.ui.conftest import Open
from tests.ui.serving import running
from tests.ui.steps import choose, go_to, load, result, set_slider, unfold

pytestmark = pytest.mark.browser

TEXT = "The town library will stay open until ten in the evening from next month."
TOKENS = 12


@pytest.fixture(scope="module")
def summariser(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_decoder(tmp_path_factory.mktemp("models") / "summariser", "t5")


@pytest.fixture(scope="module")
async def server(summariser: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    async with running(tmp_path_factory.mktemp("data"), BERTH_MODELS_DIR=str(summariser.parent)) as url:
        yield url


def expected(directory: Path) -> str:
    tokenizer = AutoTokenizer.from_pretrained(directory)
    model = AutoModelForSeq2SeqLM.from_pretrained(directory)
    ids = tokenizer(TEXT, return_tensors="pt")
    [answer] = model.generate(**ids, max_new_tokens=TOKENS, do_sample=False, repetition_penalty=1.1)
    return tokenizer.decode(answer, skip_special_tokens=True)


async def test_another_text_is_made_of_a_text(open_page: Open, server: str, summariser: Path) -> None:
    page = await open_page(url=server)
    await load(page, "summariser")
    await go_to(page, "generate")
    await choose(page, "generate", "summariser")
    await unfold(page, "generate")
    summary = page.locator("#options-generate .summary")
    await set_slider(page, "generate", "Temperature", 0, summary, "temperature 0")
    await set_slider(page, "generate", "Tokens at most", TOKENS, summary, f"{TOKENS} tokens")
    await page.locator("#tab-generate textarea").first.fill(TEXT)
    await page.locator("#run-generate").click()
    shown = result(page, "generate")
    await expect(shown.locator(".how").last).to_contain_text("summariser@local")
    assert (await shown.locator(".written").text_content() or "").strip() == expected(summariser).strip()
