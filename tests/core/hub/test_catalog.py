"""The catalogue's data: whole, in both languages, and every source one that a load would take."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from core.hub.catalog import Catalog, CatalogEntry
from core.hub.source import STARTER_PREFIX, parse_repo_id
from core.types import Task

CATALOG = Catalog()


def test_starters_come_first() -> None:
    starters = [entry.name for entry in CATALOG.entries if entry.starter]
    assert starters == ["starter-sentiment", "starter-ner", "starter-embed", "starter-chat", "starter-vision"]
    assert [entry.name for entry in CATALOG.entries[: len(starters)]] == starters


def test_every_task_has_a_model() -> None:
    for task in Task:
        assert CATALOG.for_task(task), task


def test_names_are_unique_and_found() -> None:
    assert len({entry.name for entry in CATALOG.entries}) == len(CATALOG.entries)
    assert CATALOG.get("BAAI/bge-m3") is CATALOG.get("BAAI/bge-m3")
    by_source = CATALOG.get("sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2")
    assert by_source is CATALOG.get("paraphrase-multilingual-MiniLM-L12-v2")
    assert by_source is not None
    assert CATALOG.get("nothing") is None


@pytest.mark.parametrize("entry", CATALOG.entries, ids=lambda entry: entry.name)
def test_an_entry_is_whole(entry: CatalogEntry) -> None:
    assert entry.source.startswith(STARTER_PREFIX) == entry.starter
    assert entry.starter or parse_repo_id(entry.source) == entry.source
    assert re.search("[가-힣]", entry.description("ko"))
    assert not re.search("[가-힣]", entry.description("en"))
    assert max(len(entry.description_en), len(entry.description_ko)) <= 100
    assert entry.spec.source == entry.source


def test_an_unknown_field_is_no_catalogue(tmp_path: Path) -> None:
    (tmp_path / "catalog.toml").write_text('[[model]]\nname = "x"\nsource = "y"\ntask = "fill-mask"\ncolour = "red"\n')
    with pytest.raises(TypeError):
        Catalog(tmp_path / "catalog.toml")
