"""Titles of conversations: those that users give, and those made from the first message."""

from __future__ import annotations

import unicodedata

from core.errors import InvalidRequest
from core.params import valid_text

MAX_TITLE = 200  # characters of a title that a user gives
_TITLE_FROM_TEXT = 60  # characters
_BIDIRECTIONAL = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def title_of(text: str) -> str:
    """A title from a message: its beginning on one line, without what controls a terminal or turns the writing."""
    shown = "".join(" " if unicodedata.category(c) in ("Cc", "Zl", "Zp") else c for c in text[:4000])
    line = " ".join("".join(c for c in shown if c not in _BIDIRECTIONAL).split())
    return line if 0 < len(line) <= _TITLE_FROM_TEXT else f"{line[: _TITLE_FROM_TEXT - 1].rstrip()}…"


def check_title(title: str) -> str:
    """Raises InvalidRequest unless it can be shown on a line."""
    title = valid_text("title", title).strip()
    if not 1 <= len(title) <= MAX_TITLE or any(unicodedata.category(c) == "Cc" for c in title):
        raise InvalidRequest(f"`title` must be 1 to {MAX_TITLE} characters on one line.")
    return title
