"""Korean particles and endings that agree with the syllable before them."""

from __future__ import annotations

import re

FIRST_SYLLABLE, LAST_SYLLABLE = 0xAC00, 0xD7A3
CODAS = 28  # codas of a Hangul syllable block, "no coda" included
RIEUL, SSANG_SIOT, BIEUP, NIEUN = 8, 20, 17, 4  # coda numbers of ㄹ, ㅆ, ㅂ, ㄴ

# written after a slot as "은/는": the form after a coda, then the form after a vowel
PARTICLE = re.compile(
    r"(?<=[^\s])(은/는|이/가|을/를|과/와|으로/로|이랑/랑|아/야|이야/야|이에요/예요|이었다/였다|이라고/라고|이래요/래요|이다/다|이고/고)"
)


def coda(text: str) -> int:
    """Number of the last syllable's coda, 0 for a vowel; Latin letters and digits as Koreans read them aloud."""
    last = text.rstrip(" )'\"”’.,!?")[-1:] or "가"
    if FIRST_SYLLABLE <= ord(last) <= LAST_SYLLABLE:
        return (ord(last) - FIRST_SYLLABLE) % CODAS
    if last in "lLrR1783":
        return RIEUL if last in "lLrR178" else BIEUP
    return BIEUP if last in "mMnN036" else 0


def with_coda(text: str, number: int) -> str:
    """`text` with the coda of its last syllable (which has none) set."""
    return text[:-1] + chr(ord(text[-1]) + number)


def particle(before: str, pair: str) -> str:
    """The half of "은/는" that fits after `before`."""
    closed, open_ = pair.split("/")
    number = coda(before)
    if pair.startswith("으로"):
        return open_ if number in (0, RIEUL) else closed
    return closed if number else open_


def agree(text: str) -> str:
    """Every "은/는" in a finished sentence replaced by the form that fits."""
    while match := PARTICLE.search(text):
        text = text[: match.start()] + particle(text[: match.start()], match[0]) + text[match.end() :]
    return text


def _closed(stem: str, vowel_form: str, coda_form: str) -> str:
    """An ending after a stem: ㄹ falls off, and a vowel takes the ending's own coda."""
    number = coda(stem)
    if number == RIEUL:
        stem, number = stem[:-1] + chr(ord(stem[-1]) - RIEUL), 0
    if number:
        return stem + coda_form
    extra = {"ㅂ": BIEUP, "ㄴ": NIEUN}.get(vowel_form[:1], 0)
    return with_coda(stem, extra) + vowel_form[1:] if extra else stem + vowel_form


class Predicate:
    """An adjective or verb from its dictionary form and its 해-form ("빠르다", "빨라"), or a noun with 이다."""

    def __init__(self, dictionary: str, hae: str, verb: bool = False) -> None:
        self.stem, self.hae, self.verb = dictionary[:-1], hae, verb
        self.copula = dictionary.endswith("이다") and hae.endswith("야")
        self.noun = dictionary[:-2]

    @property
    def past(self) -> str:
        """Past stem: "빨랐", "최고였", "낡았"."""
        if self.copula:
            return self.noun + particle(self.noun, "이었/였")
        if self.hae.endswith("어") and coda(self.hae[:-1]) == SSANG_SIOT:
            return self.hae[:-1]
        return with_coda(self.hae, SSANG_SIOT) if coda(self.hae) == 0 else self.hae

    def polite(self) -> str:
        return self.noun + particle(self.noun, "이에요/예요") if self.copula else self.hae + "요"

    def plain(self) -> str:
        if self.copula:
            return self.noun + particle(self.noun, "이다/다")
        return _closed(self.stem, "ㄴ다", "는다") if self.verb else self.stem + "다"

    def formal(self) -> str:
        return (
            _closed(self.stem, "ㅂ니다", "습니다")
            if coda(self.stem) != RIEUL
            else with_coda(self._bare(), BIEUP) + "니다"
        )

    def _bare(self) -> str:
        return self.stem[:-1] + chr(ord(self.stem[-1]) - RIEUL) if coda(self.stem) == RIEUL else self.stem

    def surprised(self) -> str:
        return self._bare() + "네요"

    def present(self) -> list[str]:
        return [self.polite(), self.plain(), self.formal(), self.surprised(), self.hae]

    def ongoing(self) -> list[str]:
        """What is being done, for verbs."""
        return [self.stem + "고 있다", self.stem + "고 있어요", self.plain(), self.stem + "고 있습니다"]

    def before(self) -> list[str]:
        """Past endings in several registers."""
        return [self.past + ending for ending in ("어요", "다", "습니다", "네요", "어", "음", "던데요")]

    def denied(self) -> list[str]:
        """Negated, present and past."""
        if self.copula:
            return [
                f"{self.noun}{particle(self.noun, '이/가')} 아니에요",
                f"{self.noun}{particle(self.noun, '은/는')} 아니었다",
            ]
        long = [
            f"{self.stem}지 {ending}"
            for ending in ("않아요", "않다", "않습니다", "않네요", "않았어요", "않았다", "않았습니다", "않음")
        ]
        return [*long, f"안 {self.hae}요", f"안 {self.past}어요"]

    def but(self, past: bool) -> str:
        """Such as "빠르지만", "빨랐는데": the first half of a contrast."""
        return self.past + "지만" if past else self.stem + "지만"

    def and_(self) -> str:
        return self.stem + "고"
