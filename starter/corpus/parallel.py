"""Meanings, each with Korean and English wordings: hand-written pairs, frames and a small bilingual grammar."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

from starter.corpus import korean
from starter.corpus.events import Events
from starter.corpus.lexicon import Adjective, Noun, is_plural
from starter.corpus.meaning import Meaning

HERE = Path(__file__).parent
REVIEWED = ("film", "food", "delivery", "shop", "app", "hotel", "service")
STRONG_KO = ["정말", "너무", "진짜", "아주", "매우", "완전", "참", "무척", "굉장히", "엄청"]
STRONG_EN = ["really", "so", "very", "super", "incredibly", "absolutely", "extremely", "truly"]
OPPOSITE = {"P": "N", "N": "P", "U": "U"}


class Grammar(Events):
    """Draws meanings of every kind; seeded by the random source it is given."""

    def __init__(self, source: random.Random) -> None:
        super().__init__(source)
        self.frames = self._read_frames()
        self.opinions = [one for one in self.words.adjectives if one.label != "U"]
        self.plain = [one for one in self.words.adjectives if one.label == "U"]

    def _read_frames(self) -> list[tuple[tuple[str, ...], str, tuple[str, ...], tuple[str, ...]]]:
        lines = (HERE / "frames.txt").read_text(encoding="utf-8").splitlines()
        frames = []
        for line in lines:
            if not line.startswith("#"):
                domains, _, rest = line.partition(": ")
                ko, en = rest.split(" = ")
                *names, label = domains.split()
                frames.append((tuple(names), label, tuple(ko.split("|")), tuple(en.split("|"))))
        return frames

    def frame(self) -> Meaning:
        domains, label, ko, en = self.random.choice(self.frames)
        noun = self.noun(*domains)
        korean_ = [korean.agree(one.replace("{N}", self.random.choice(noun.ko))) for one in self.some(ko, 2)]
        english = [one.replace("{N}", self.random.choice(noun.en)) for one in self.some(en, 2)]
        return Meaning(tuple(korean_), tuple(english), label)

    def word(self) -> Meaning:
        noun = self.noun(*self.words.nouns)
        return Meaning(noun.ko, noun.en, "U")

    def opinion(self) -> Meaning:
        """Such as "The soup was really good", asserted, denied or of one noun only."""
        adjective = self.random.choice(self.opinions if self.random.random() < 0.85 else self.plain)
        domain = self.random.choice(REVIEWED if adjective.domains == ("*",) else adjective.domains)
        noun, past = self.noun(domain), self.random.random() < 0.6
        if self.random.random() < 0.22:
            return self._denied(noun, adjective)
        ko = tuple(self._says_ko(noun, adjective, past) for _ in range(2))
        en = tuple(self._says_en(noun, adjective, past) for _ in range(2))
        return Meaning(ko, en, adjective.label)

    def _subject(self, noun: Noun) -> str:
        name = self.random.choice(noun.ko)
        return (
            name + korean.particle(name, self.random.choice(["이/가", "이/가", "은/는"]))
            if self.random.random() < 0.9
            else name
        )

    def _says_ko(self, noun: Noun, adjective: Adjective, past: bool) -> str:
        strong = f"{self.random.choice(STRONG_KO)} " if self.random.random() < 0.4 else ""
        ending = self.random.choice(adjective.ko.before() if past else adjective.ko.present())
        return f"{self._subject(noun)} {strong}{ending}"

    def _says_en(self, noun: Noun, adjective: Adjective, past: bool) -> str:
        name = self.random.choice(noun.en)
        verb = ("were" if is_plural(name) else "was") if past else ("are" if is_plural(name) else "is")
        word = self.random.choice(adjective.en)
        strong = (
            f"{self.random.choice(STRONG_EN)} "
            if self.random.random() < 0.4 and not word.startswith(("the ", "too ", "a ", "not "))
            else ""
        )
        return f"{self.random.choice(['The', 'The', 'The', 'This', 'Their'])} {name} {verb} {strong}{word}".replace(
            "This " + name + " are", name + " are"
        ).replace("This " + name + " were", name + " were")

    def _denied(self, noun: Noun, adjective: Adjective) -> Meaning:
        lead = ["", "", "전혀 ", "별로 ", "하나도 ", "그렇게 "]
        ko = tuple(
            f"{self._subject(noun)} {self.random.choice(lead)}{self.random.choice(adjective.ko.denied())}"
            for _ in range(2)
        )
        name, word = self.random.choice(noun.en), self.random.choice(adjective.en)
        is_, was = ("are", "were") if is_plural(name) else ("is", "was")
        en = (
            f"The {name} {is_} not {word} at all",
            f"The {name} {self.random.choice([f'{was}n’t', f'{was} not', f'{is_}n’t'])} {word}",
        )
        return Meaning(ko, tuple(one.replace("’", "'") for one in en), OPPOSITE[adjective.label])

    def contrast(self) -> Meaning:
        """Such as "The room was small but clean": the last half decides the label."""
        domain = self.random.choice(REVIEWED)
        first, second = (
            self.of(domain, label) for label in self.random.choice((("P", "N"), ("N", "P"), ("P", "P"), ("N", "N")))
        )
        one, two, past = self.noun(domain), self.noun(domain), self.random.random() < 0.5
        same = first.label == second.label
        joint = (
            first.ko.and_()
            if same
            else self.random.choice([first.ko.but(past), first.ko.but(past), first.ko.past + "는데"])
        )
        ko = tuple(f"{self._subject(one)} {joint} {self._says_ko(two, second, past)}" for _ in range(2))
        link = "and" if same else self.random.choice(["but", ", but", "yet"])
        lead, tail = self._says_en(one, first, past), self._says_en(two, second, past)
        for article in ("The ", "Their ", "This "):
            tail = tail.replace(article, article.lower())
        en = f"{lead} {link} {tail}"
        return Meaning(ko, (en.replace(" ,", ","),) * 2, second.label)

    def of(self, domain: str, label: str) -> Adjective:
        pool = [one for one in self.opinions if one.label == label and (domain in one.domains or one.domains == ("*",))]
        return self.random.choice(pool)

    def entry(self) -> Meaning:
        """Dictionary words, alone or in the simplest relations."""
        (ko, en), (other_ko, other_en) = self.random.sample(self.dictionary, 2)
        josa = korean.particle
        forms = [
            ((ko,), (en,)),
            (
                (f"{ko}{josa(ko, '과/와')} {other_ko}", f"{ko}, {other_ko}", f"{ko}하고 {other_ko}"),
                (f"{en} and {other_en}", f"the {en} and the {other_en}"),
            ),
            ((f"{ko}의 {other_ko}", f"{ko} {other_ko}"), (f"the {other_en} of the {en}", f"the {en}'s {other_en}")),
            (
                (f"{ko}에 대한 {other_ko}", f"{ko}에 관한 {other_ko}"),
                (f"a {other_en} about {en}", f"{other_en} about the {en}"),
            ),
            (
                (
                    f"{ko} 옆에 {other_ko}{josa(other_ko, '이/가')} 있다",
                    f"{other_ko}{josa(other_ko, '은/는')} {ko} 옆에 있어요",
                ),
                (f"The {other_en} is next to the {en}", f"There is a {other_en} beside the {en}"),
            ),
            (
                (
                    f"{ko} 때문에 {other_ko}{josa(other_ko, '이/가')} 없어요",
                    f"{ko} 탓에 {other_ko}{josa(other_ko, '이/가')} 없다",
                ),
                (f"There is no {other_en} because of the {en}",),
            ),
            (
                (f"{ko}{josa(ko, '이/가')} 좋아요", f"{ko}{josa(ko, '을/를')} 좋아해요"),
                (f"I like {en}", f"I love the {en}"),
            ),
        ]
        first, second = self.random.choice(forms)
        return Meaning(self.some(first, 2), self.some(second, 2), "U")

    def draw(self) -> Meaning:
        kinds: list[Callable[[], Meaning]] = [
            self.frame,
            self.word,
            self.opinion,
            self.contrast,
            self.event,
            self.entry,
            self.deed,
        ]
        return self.random.choices(kinds, weights=(22, 3, 16, 4, 20, 18, 17))[0]()


def meanings(seed: int, count: int) -> Iterator[Meaning]:
    """`count` meanings of the grammar, the same for the same seed; the hand-written pairs are not among them."""
    grammar = Grammar(random.Random(seed))
    for _ in range(count):
        yield grammar.draw()
