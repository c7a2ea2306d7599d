"""The exported documentation: complete, and shown by a browser from disk without asking anybody for anything."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.export_docs import ASSETS, description, export

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs")
    export(description(), folder)
    return folder


def test_it_describes_the_routes(folder: Path) -> None:
    schema = json.loads((folder / "openapi.json").read_text("utf-8"))
    assert schema["info"]["title"] == "Berth"
    assert {"/health", "/models", "/models/load", "/predict", "/api/v1/embed"} <= schema["paths"].keys()


def test_both_pages_read_the_same_description(folder: Path) -> None:
    script = (folder / "openapi.js").read_text("utf-8")
    assert script == f"window.openapi = {(folder / 'openapi.json').read_text('utf-8')};\n"


def test_exporting_again_replaces_what_was_there(folder: Path) -> None:
    (folder / "assets" / "left-over.js").write_text("")
    export(description(), folder)
    assert not (folder / "assets" / "left-over.js").exists()


@pytest.mark.parametrize("name", ["swagger-ui-bundle.js", "swagger-ui.css", "redoc.standalone.js"])
def test_no_asset_loads_anything_from_elsewhere(name: str) -> None:
    """No source map is asked for, and no picture, style or font of another host."""
    text = (ASSETS / name).read_text("utf-8")
    assert "sourceMappingURL=" not in text[-500:]
    assert not re.search(r"url\([\"']?https?:", text)
    assert not re.search(r"src:\s*[\"']https?:", text)


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.mark.browser
@pytest.mark.parametrize("page_name", ["index.html", "redoc.html"])
def test_a_browser_shows_it_from_disk(folder: Path, browser: object, page_name: str) -> None:
    page = browser.new_page()  # type: ignore[attr-defined]
    asked: list[str] = []
    failed: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: failed.append(str(error)))
    page.goto((folder / page_name).as_uri())
    page.get_by_text("/models/load").first.wait_for()
    assert "Berth" in page.title()
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
    assert failed == []
    page.close()
