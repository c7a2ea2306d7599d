"""The words of the page, without a browser."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from core.errors import all_errors
from core.hub.catalog import Catalog
from core.types import State, Task
from ui.strings import en, ko

ROOT = Path(__file__).parents[2]
SCRIPTS = "\n".join(path.read_text("utf-8") for path in sorted((ROOT / "ui" / "static").glob("*.js")))
MODULES = "\n".join(path.read_text("utf-8") for path in (ROOT / "ui").rglob("*.py"))
HANGUL = re.compile("[가-힣]")
SAME = {"api_docs", "col_pid"}  # what reads alike in both


def placeholders(text: str) -> set[str]:
    return set(re.findall(r"\{(\w+)\}", text))


def test_both_languages_have_the_same_keys_in_the_same_order() -> None:
    assert list(en.WORDS) == list(ko.WORDS)


@pytest.mark.parametrize("key", en.WORDS)
def test_a_word_is_there_in_both_languages_with_the_same_gaps(key: str) -> None:
    assert placeholders(en.WORDS[key]) == placeholders(ko.WORDS[key])
    assert not HANGUL.search(en.WORDS[key])
    assert HANGUL.search(ko.WORDS[key]) or key in SAME


def test_every_key_that_a_script_or_a_module_names_is_there() -> None:
    named = set(re.findall(r'\bt\("([^"]+)"', SCRIPTS)) | set(re.findall(r'\bw\("([^"]+)"', MODULES))
    assert named - en.WORDS.keys() == set()


def test_every_key_is_used() -> None:
    made = ("error_", "stage_", "state_", "task_", "tab_", "normalize_", "ended_")  # their ends come from data
    parts = ("_run", "_empty", "_empty_hint")
    named = set(re.findall(r"\b(?:t|w)\(([^()]*)\)", SCRIPTS + MODULES)) | {MODULES}
    for key in en.WORDS:
        assert key.startswith(made) or key.endswith(parts) or any(f'"{key}"' in call for call in named), key


def test_every_error_state_and_task_has_its_words() -> None:
    for kind in all_errors():
        if not kind.__subclasses__():
            assert f"error_{kind.type}" in en.WORDS
    assert all(f"state_{state}" in en.WORDS for state in State)
    assert all(f"task_{task}" in en.WORDS for task in Task)


def test_the_catalogue_speaks_both_languages() -> None:
    for entry in Catalog().entries:
        assert entry.description_en
        assert not HANGUL.search(entry.description_en)
        assert HANGUL.search(entry.description_ko)
