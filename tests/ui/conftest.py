"""A real server with small real models, and a real browser that complains about what it should not have seen."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, ConsoleMessage, Error, Page, async_playwright, expect

from core.types import Task
from tests.fakes.hub import FakeHub
from tests.fakes.images import write_classifier
from tests.fakes.models import write_model
from tests.fakes.repositories import ENCODER, bert_config, write_repository
from tests.fakes.seeing import SEES
from tests.ui.serving import running

CHROMIUM = "/usr/bin/chromium"
expect.set_options(timeout=15_000)  # ms; a load on a busy machine takes longer than Playwright's five seconds
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--use-fake-device-for-media-stream",  # a camera that shows a test picture
    "--use-fake-ui-for-media-stream",  # and that the reader allows
)
NASTY = "<img src=x onerror=document.title='owned'>"  # a label that a careless page would run

MODELS: dict[str, tuple[Task, dict[str, Any]]] = {
    "classify-a": (Task.TEXT_CLASSIFICATION, {"labels": ("negative", "positive", "neutral")}),
    "classify-b": (Task.TEXT_CLASSIFICATION, {"labels": ("negative", "positive", "neutral"), "seed": 3}),
    "nasty": (Task.TEXT_CLASSIFICATION, {"labels": (NASTY, "=1+1")}),
    "nli": (Task.ZERO_SHOT_CLASSIFICATION, {}),
    "tagger": (Task.TOKEN_CLASSIFICATION, {}),
    "reader": (Task.QUESTION_ANSWERING, {}),
    "filler": (Task.FILL_MASK, {}),
    "embedder": (Task.FEATURE_EXTRACTION, {}),
}
NAMER = "namer"  # labels for pictures
SLOW = "org/slow"  # on the Hub; a test decides how its weights arrive


@dataclass(frozen=True)
class Served:
    url: str
    hub: FakeHub


Open = Callable[..., Awaitable[Page]]


@pytest.fixture(scope="session")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    for name, (task, options) in MODELS.items():
        write_model(root / name, "bert", task, **options)
    write_classifier(root / NAMER, "vit")
    return root


@pytest.fixture(scope="session")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeHub]:
    root = tmp_path_factory.mktemp("hub")
    write_model(root / SLOW, "bert", Task.TEXT_CLASSIFICATION)
    with FakeHub(root) as served:
        yield served


@pytest.fixture(scope="session")
async def served(models_dir: Path, hub: FakeHub, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    """Open to everybody, since it is bound to loopback and has no keys."""
    data = tmp_path_factory.mktemp("data")
    async with running(data, BERTH_MODELS_DIR=str(models_dir), HF_ENDPOINT=hub.endpoint) as url:
        yield Served(url, hub)


@pytest.fixture(scope="session")
async def writing(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """The address of a server whose `writer` writes what its prompt says (`tests/fakes/generator.py`); its `seer` also
    says what it is shown (`tests/fakes/seeing.py`), and its `blinker` does not tell what it makes of that."""
    models, data = tmp_path_factory.mktemp("writers"), tmp_path_factory.mktemp("writing")
    for name, files in (("writer", None), ("seer", {SEES: "yes"}), ("blinker", {SEES: "blindly"})):
        write_repository(models / name, bert_config("LlamaForCausalLM", model_type="llama"), ENCODER, files)
    async with running(data, program=("-m", "tests.fakes.program"), BERTH_MODELS_DIR=str(models)) as url:
        yield url


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        yield browser
        await browser.close()


@pytest.fixture
async def open_page(browser: Browser, served: Served) -> AsyncIterator[Open]:
    """Opens the page in a context of its own. At the end: no error in a console but what the test `expects`, no word
    to another host."""
    complaints: list[str] = []
    async with contextlib.AsyncExitStack() as stack:

        async def opened(path: str = "", url: str = served.url, expects: str = "\0", **options: Any) -> Page:
            context = await browser.new_context(**{"viewport": {"width": 1440, "height": 900}, **options})
            stack.push_async_callback(context.close)
            page = await context.new_page()
            page.set_default_timeout(15_000)
            page.on("console", lambda said: complaints.append(said.text) if is_bad(said, expects) else None)
            page.on("pageerror", lambda error: None if is_left(error) else complaints.append(str(error)))
            page.on("request", lambda sent: complaints.append(sent.url) if is_foreign(sent.url, url) else None)
            await page.goto(f"{url}/{path}")
            return page

        yield opened
    assert complaints == []


def is_left(error: Error | str) -> bool:
    """Whether it is of a stream of Gradio's that ends since the page is left: Gradio tells of it in two errors."""
    return str(error).startswith(("AbortError: signal is aborted without reason", "Connection errored out."))


def is_bad(said: ConsoleMessage, expected: str) -> bool:
    return said.type == "error" and expected not in said.text and not is_left(said.text)


def is_foreign(url: str, own: str) -> bool:
    return not url.startswith((own, "data:", "blob:"))


@pytest.fixture
async def page(open_page: Open) -> Page:
    page = await open_page()
    await expect(page.locator("#tab-classify .line .state").first).to_be_visible()
    return page
