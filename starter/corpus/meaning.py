"""One thing said in several ways, and those that were written by hand."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Meaning:
    """One thing said in several ways; label P, N, U (neutral) or X (no clear sentiment)."""

    ko: tuple[str, ...]
    en: tuple[str, ...]
    label: str


def pairs() -> list[Meaning]:
    """The hand-written sentence pairs."""
    lines = (HERE / "pairs.txt").read_text(encoding="utf-8").splitlines()
    return [Meaning((ko,), (en,), label) for label, ko, en in (line.split("|") for line in lines)]
