"""Sentences with gold entities: hand-written patterns, filled with names from lists and from Faker."""

from __future__ import annotations

import random
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from starter.corpus import korean
from starter.corpus.clauses import Clauses
from starter.corpus.names import Names
from starter.corpus.plain import Plain

HERE = Path(__file__).parent
SLOT = re.compile(r"\{([A-Z]+)\}")
KIND = {"GIVEN": "PER", "FIRST": "PER", "LAST": "PER", "YEAR": "DAT"}


@dataclass(frozen=True, slots=True)
class Span:
    start: int  # characters
    end: int
    label: str


@dataclass(frozen=True, slots=True)
class Tagged:
    text: str
    spans: tuple[Span, ...]


def fill(pattern: str, lang: str, names: Names) -> Tagged:
    """One pattern filled; spans leave out an English "the" and every Korean particle."""
    text, spans, at = "", [], 0
    for match in SLOT.finditer(pattern):
        text = korean.agree(text + pattern[at : match.start()])
        value, at = names.draw(match[1], lang), match.end()
        start = len(text) + (4 if value.startswith("the ") else 0)
        text += value
        if not text[:start].strip() and value.startswith("the "):
            text = "T" + text[1:]
        kind = KIND.get(match[1], match[1])
        if kind in ("PER", "ORG", "LOC", "DAT"):
            spans.append(Span(start, len(text), kind))
        if (
            match[1] == "GIVEN"
            and korean.coda(value)
            and pattern[at : at + 1] not in (" ", "아")
            and names.random.random() < 0.6
        ):
            text += "이"  # "지현이가", as people say
    return Tagged(korean.agree(text + pattern[at:]), tuple(spans))


def join(left: Tagged, right: Tagged) -> Tagged:
    shift = len(left.text) + 1
    moved = tuple(Span(span.start + shift, span.end + shift, span.label) for span in right.spans)
    return Tagged(f"{left.text} {right.text}", left.spans + moved)


def roughen(tagged: Tagged, source: random.Random) -> Tagged:
    """Punctuation as people leave it; spans stay where they are."""
    text = tagged.text
    last = max((span.end for span in tagged.spans), default=0)
    if source.random() < 0.25 and text[-1] in ".!?" and len(text) > last:
        text = text[:-1]
    if source.random() < 0.06:
        text += source.choice([" ㅋㅋ", " ㅠㅠ", "~", " ^^", "!!", " lol", " 😀", "..."])
    return Tagged(text, tagged.spans)


def patterns(lang: str) -> list[str]:
    return (HERE / f"ner_{lang}.txt").read_text(encoding="utf-8").splitlines()


class Maker:
    """Makes one sentence after another from the patterns and the lists."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.names = Names(self.random)
        self.plain = Plain(self.random)
        self.clauses = Clauses(self.random)
        self.patterns = {lang: patterns(lang) for lang in ("ko", "en")}

    def one(self, lang: str) -> Tagged:
        roll = self.random.random()
        if roll < 0.1:
            return Tagged(self.plain.sentence(lang), ())
        case = self.random.random()
        self.names.known = case < 0.12
        drawn = self.clauses.pattern(lang) if roll < 0.3 else self.random.choice(self.patterns[lang])
        pattern = self.plain.vary(drawn, lang)
        tagged = roughen(fill(pattern, lang, self.names), self.random)
        if case < 0.14:
            text = tagged.text.lower() if case < 0.12 else tagged.text.upper()
            tagged = Tagged(text, tagged.spans) if len(text) == len(tagged.text) else tagged
        return tagged


def corpus(seed: int, count: int) -> Iterator[Tagged]:
    """`count` sentences, the same for the same seed; a sixth of them are two or three sentences in a row."""
    maker = Maker(seed)
    for _ in range(count):
        lang = maker.random.choice(("ko", "en"))
        tagged = maker.one(lang)
        while maker.random.random() < 0.16:
            tagged = join(tagged, maker.one(lang if maker.random.random() < 0.8 else "ko"))
        yield decomposed(tagged) if maker.random.random() < 0.02 else tagged


def decomposed(tagged: Tagged) -> Tagged:
    """The sentence in NFD, as some systems paste Korean; spans follow."""
    ends = [0]
    for char in tagged.text:
        ends.append(ends[-1] + len(unicodedata.normalize("NFD", char)))
    spans = tuple(Span(ends[span.start], ends[span.end], span.label) for span in tagged.spans)
    return Tagged(unicodedata.normalize("NFD", tagged.text), spans)
