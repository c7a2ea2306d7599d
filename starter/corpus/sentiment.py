"""Labelled sentences: hand-written patterns and pairs, opinions of the bilingual grammar, plain facts."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from starter.corpus import korean
from starter.corpus.dates import MONTHS_EN
from starter.corpus.meaning import Meaning, pairs
from starter.corpus.ner import Maker
from starter.corpus.parallel import REVIEWED, Grammar

HERE = Path(__file__).parent
LABELS = {"N": "negative", "U": "neutral", "P": "positive"}
SLOT = re.compile(r"\{([a-zA-Z_]+)\}")
TAILS = {
    "P": [" ㅎㅎ", " ㅋㅋ", " ^^", "!!", " 👍", " 😊", " :)", " ❤️", " 😍", "~", " 최고", " thanks!", " 굿"],
    "N": [" ㅠㅠ", " ㅡㅡ", "...", " 😡", " 😞", " :(", " 👎", " ;;", " 하...", " 헐", " smh", " ㅜㅜ"],
    "U": [".", "?", " ㅇㅇ", "..", " ok", "~"],
}
LEADS = {
    "ko": [
        "솔직히 ",
        "개인적으로 ",
        "음... ",
        "일단 ",
        "저는 ",
        "이번에 ",
        "오늘 ",
        "어제 ",
        "가족이랑 ",
        "친구가 그러는데 ",
        "와 ",
        "아 ",
    ],
    "en": [
        "honestly, ",
        "well, ",
        "to be fair, ",
        "i think ",
        "overall ",
        "yesterday ",
        "my wife says ",
        "oh ",
        "to be honest ",
        "in short, ",
    ],
}


@dataclass(frozen=True, slots=True)
class Labelled:
    text: str
    label: str


class Reviews:
    """Draws labelled sentences; seeded by the number it is given."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.grammar = Grammar(self.random)
        self.maker = Maker(seed)
        self.pairs = pairs()
        self.patterns = {lang: self._read(lang) for lang in ("ko", "en")}

    def _read(self, lang: str) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {label: [] for label in LABELS}
        for line in (HERE / f"opinions_{lang}.txt").read_text(encoding="utf-8").splitlines():
            label, pattern = line.split("|", 1)
            found[label].append(pattern)
        return found

    def one(self, lang: str) -> Labelled:
        label = self.random.choice("PNU")
        text = self._text(lang, label)
        if label != "U" and self.random.random() < 0.2:
            text = self._joined(lang, label, text)
        return Labelled(self._dressed(text, lang, label), LABELS[label])

    def _text(self, lang: str, label: str) -> str:
        roll = self.random.random()
        if roll < 0.42:
            return self.filled(lang, label)
        if roll < 0.60:
            return self._worded(self.random.choice([one for one in self.pairs if one.label == label]), lang)
        if label == "U" and roll < 0.72:
            return self.maker.one(lang).text
        while True:
            draw = self.random.choice(
                [self.grammar.frame, self.grammar.event, self.grammar.deed]
                if label == "U"
                else [self.grammar.opinion, self.grammar.opinion, self.grammar.contrast, self.grammar.frame]
            )
            meaning = draw()
            if meaning.label == label:
                return self._worded(meaning, lang)

    def _worded(self, meaning: Meaning, lang: str) -> str:
        return self.random.choice(meaning.ko if lang == "ko" else meaning.en)

    def _joined(self, lang: str, label: str, text: str) -> str:
        """A second sentence: of the same mind, neutral, or another opinion that "but" overrules."""
        roll = self.random.random()
        if roll < 0.3:
            other = {"P": "N", "N": "P"}[label]
            but = self.random.choice(
                [" 하지만 ", " 그래도 ", " 근데 ", " 그런데 "]
                if lang == "ko"
                else [" But ", " However, ", " Still, ", " but "]
            )
            return f"{self._text(lang, other)}{but}{text}"
        extra = self._text(lang, label if roll < 0.75 else "U")
        return f"{text} {extra}" if self.random.random() < 0.5 else f"{extra} {text}"

    def filled(self, lang: str, label: str) -> str:
        text, at = "", 0
        pattern = self.random.choice(self.patterns[lang][label])
        for match in SLOT.finditer(pattern):
            text = korean.agree(text + pattern[at : match.start()]) + self._value(match[1], lang)
            at = match.end()
        return korean.agree(text + pattern[at:])

    def _value(self, slot: str, lang: str) -> str:
        if slot == "num":
            return str(self.random.randint(2, 300))
        if slot == "month":
            return self.random.choice(MONTHS_EN)
        if slot[0] in "PN":
            return self._adjective(slot, lang)
        noun = self.grammar.noun(slot)
        return self.random.choice(noun.ko if lang == "ko" else noun.en)

    def _adjective(self, slot: str, lang: str) -> str:
        label, _, form = slot.partition("_")
        adjective = self.grammar.of(self.random.choice(REVIEWED), label)
        if lang == "en":
            word = self.random.choice(adjective.en)
            return word.removeprefix("too ").removeprefix("the ").removeprefix("a ")
        ko = adjective.ko
        return {"hae": ko.hae, "stem": ko.stem, "past": ko.past}[form]

    def _dressed(self, text: str, lang: str, label: str) -> str:
        if self.random.random() < 0.12:
            text = self.random.choice(LEADS[lang]) + text
        if self.random.random() < 0.3 and text[-1] in ".!?":
            text = text[:-1]
        if self.random.random() < 0.12:
            text += self.random.choice(TAILS[label])
        elif self.random.random() < 0.3 and text[-1] not in ".!?":
            text += self.random.choice(".!" if label != "U" else "..?")
        roll = self.random.random()
        if roll < 0.2:
            return text.lower()
        return text.upper() if roll < 0.22 else text


def corpus(seed: int, count: int) -> Iterator[Labelled]:
    """`count` labelled sentences, half of them Korean, the same for the same seed."""
    reviews = Reviews(seed)
    for _ in range(count):
        yield reviews.one(reviews.random.choice(("ko", "en")))
