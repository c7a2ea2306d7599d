"""The bilingual word list: nouns by domain, adjectives with a polarity, verbs with the objects they take."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from starter.corpus.korean import Predicate

HERE = Path(__file__).parent
SINGULAR_S = {"bus", "news", "politics", "series", "tennis", "gas", "guidance"}


@dataclass(frozen=True)
class Noun:
    ko: tuple[str, ...]
    en: tuple[str, ...]
    domain: str


@dataclass(frozen=True)
class Adjective:
    ko: Predicate
    en: tuple[str, ...]
    label: str  # P, N or U
    domains: tuple[str, ...]


@dataclass(frozen=True)
class Verb:
    ko: tuple[Predicate, ...]
    en: tuple[tuple[str, str, str], ...]  # base, past, -ing
    domains: tuple[str, ...]  # of its object; empty: it takes none


def is_plural(word: str) -> bool:
    return word.endswith("s") and not word.endswith("ss") and word not in SINGULAR_S


def _predicates(text: str, verb: bool) -> tuple[Predicate, ...]:
    return tuple(Predicate(*one.split("/"), verb=verb) for one in text.split(","))


class Lexicon:
    """Reads `lexicon.txt`."""

    def __init__(self) -> None:
        self.nouns: dict[str, list[Noun]] = {}
        self.adjectives: list[Adjective] = []
        self.verbs: list[Verb] = []
        self.acts: list[Verb] = []
        for line in (HERE / "lexicon.txt").read_text(encoding="utf-8").splitlines():
            if line and not line.startswith("#"):
                self._read(line)

    def _read(self, line: str) -> None:
        head, _, rest = line.partition(":")
        kind, *words = head.split()
        if kind == "NOUN":
            entries = [one.split("=") for one in rest.strip().split("; ")]
            self.nouns[words[0]] = [Noun(tuple(ko.split(",")), tuple(en.split(",")), words[0]) for ko, en in entries]
        elif kind == "ADJ":
            for one in rest.strip().split("; "):
                ko, en = one.split("=")
                self.adjectives.append(
                    Adjective(_predicates(ko, False)[0], tuple(en.split(",")), words[0], tuple(words[1:]))
                )
        else:
            text, _, domains = rest.partition(" : ")
            ko, en = text.strip().split("=")
            forms = [one.split("/") for one in en.split(",")]
            verb = Verb(_predicates(ko, True), tuple((a, b, c) for a, b, c in forms), tuple(domains.split()))
            (self.verbs if kind == "VERB" else self.acts).append(verb)
