"""The plan card in a real browser: whether a load fits, and one click for what makes it fit."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from playwright.async_api import Locator, Page, expect

from core.types import Task
from tests.fakes.decoders import write_decoder
from tests.fakes.models import write_model
from tests.ui.conftest import Open
from tests.ui.serving import running
from tests.ui.steps import go_to, load, row, unfold

pytestmark = pytest.mark.browser

BUDGET_MB = 120  # one process with a tiny model and no more


@pytest.fixture
async def tight(tight_server: str) -> str:
    """The address of a server that has room for one of its models, and none in memory."""
    async with httpx.AsyncClient(base_url=tight_server, timeout=60) as client:
        for model in (await client.get("/models")).json()["all_models"]:
            (await client.post(f"/models/{model}/unload")).raise_for_status()
    return tight_server


@pytest.fixture(scope="module")
async def tight_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """The address of a server with room for one of its models; the cache of `talker` is beyond it."""
    models, data = tmp_path_factory.mktemp("tight"), tmp_path_factory.mktemp("data")
    for name in ("one", "other"):
        write_model(models / name, "bert", Task.TEXT_CLASSIFICATION, labels=("no", "yes"))
        grow(models / name)
    write_decoder(models / "talker", "llama", max_position_embeddings=1_048_576)
    async with running(data, BERTH_MODELS_DIR=str(models), BERTH_CPU_MEMORY_BUDGET_MB=str(BUDGET_MB)) as url:
        yield url


def grow(directory: Path) -> None:
    """Makes the weights of a tiny model 40 MiB larger, by a tensor that no layer asks for."""
    import torch
    from safetensors.torch import load_file, save_file

    path = directory / "model.safetensors"
    save_file({**load_file(path), "unused": torch.zeros(10 * 1024 * 1024)}, path, metadata={"format": "pt"})


async def check(page: Page, model: str) -> Locator:
    await page.locator("#load-id input").fill(model)
    await page.locator("#check-fit").click()
    card = page.locator("#plan .plan")
    await expect(card).to_contain_text(model)
    return card


async def test_what_fits_says_what_it_takes(page: Page) -> None:
    await go_to(page, "models")
    card = await check(page, "classify-a")
    await expect(card.locator("h3")).to_contain_text("It fits")
    for words in ("classification", "transformers", "fp32", "Weights", "Process and libraries", "already here"):
        await expect(card).to_contain_text(words)
    await card.get_by_role("button", name="Close").click()
    await expect(card).to_have_count(0)


async def test_a_model_gives_its_place_to_the_one_that_was_planned(open_page: Open, tight: str) -> None:
    page = await open_page(url=tight)
    await load(page, "one")
    card = await check(page, "other")
    await expect(card.locator("h3")).to_contain_text("It fits after unloading")
    await card.get_by_role("button", name="Unload one and load").click()
    await expect(card).to_have_count(0)
    await expect(row(page, "other").locator(".state")).to_have_text("Ready")
    await expect(row(page, "one").locator(".state", has_text="Ready")).to_have_count(0)


async def test_who_made_room_is_told_with_the_hour_before(open_page: Open, tight: str) -> None:
    page = await open_page(url=tight)
    await load(page, "one")
    await load(page, "other")
    memory = page.locator("#memory")
    await expect(memory.locator(".evictions li").first).to_contain_text("one made room for other;")
    await expect(memory).to_contain_text(f"Models may take {BUDGET_MB} MiB of it together.")
    await expect(memory.locator("li", has_text="other").first).to_contain_text("planned ")


async def test_a_shorter_context_makes_it_fit(open_page: Open, tight: str) -> None:
    page = await open_page(url=tight)
    await go_to(page, "models")
    await unfold(page, "models")
    await page.get_by_label("Context length, tokens").fill("1000000")
    card = await check(page, "talker")
    await expect(card.locator("h3")).to_contain_text("It fits with a shorter context")
    await card.get_by_role("button", name="Load with a context of").click()
    await expect(row(page, "talker").locator(".state")).to_have_text("Ready")


async def test_a_load_that_is_refused_leaves_its_plan(open_page: Open, tight: str) -> None:
    page = await open_page(url=tight)
    await go_to(page, "models")
    await unfold(page, "models")
    await page.get_by_label("Context length, tokens").fill("1000000")
    await page.locator("#load-id input").fill("talker")
    await page.locator("#run-models").click()
    card = page.locator("#plan .plan")
    await expect(card.locator("h3")).to_contain_text("It fits with a shorter context")
    await expect(page.locator("#models .notice.error")).to_contain_text("talker needs")
    await card.get_by_role("button", name="Load with a context of").click()
    await expect(row(page, "talker").locator(".state")).to_have_text("Ready")
    await expect(card).to_have_count(0)


async def test_what_was_measured_stands_beside_what_is_reckoned(open_page: Open, tight: str) -> None:
    page = await open_page(url=tight)
    await load(page, "one")
    card = await check(page, "one")
    await expect(card).to_contain_text("Reckoned together")
    await expect(card).to_contain_text("Measured before, at most")


async def test_what_does_not_fit_is_loaded_all_the_same_when_somebody_insists(open_page: Open, tight: str) -> None:
    page = await open_page(url=tight)
    await load(page, "one")
    card = await check(page, "other")
    await card.get_by_role("button", name="Load anyway").click()
    await expect(row(page, "other").locator(".state")).to_have_text("Ready")


async def test_what_is_no_model_is_told(open_page: Open, served) -> None:  # type: ignore[no-untyped-def]
    page = await open_page(url=served.url)
    await go_to(page, "models")
    await page.locator("#check-fit").click()
    await expect(page.locator("#plan .notice.error")).to_contain_text("Type the id of a model first")
