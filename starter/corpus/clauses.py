"""Sentence patterns in which somebody named does something somewhere, put together from the bilingual word list."""

from __future__ import annotations

import random

from starter.corpus.events import Events
from starter.corpus.names import read_lists

WHO_KO = [
    "{PER}",
    "{PER}",
    "{PER}",
    "{GIVEN}",
    "{ORG}",
    "{ORG}",
    "{LOC} 사람들",
    "{ORG} {PER} TITLE",
    "{PER} TITLE",
    "{PER} TITLE",
    "{ORG}의 {PER} TITLE",
    "TITLE {PER}",
    "{LOC}의 {PER}",
    "{ORG} 소속 {PER}",
    "{LOC} 출신 {PER}",
    "{PER} {ORG} TITLE",
    "PERSON",
]
WITH_KO = ["{PER}과/와", "{PER} TITLE과/와 함께", "{ORG}과/와", "{GIVEN}이랑/랑"]
WHERE_KO = ["{LOC}", "{LOC}", "{LOC} PLACE", "{ORG}", "{ORG} PLACE", "PLACE"]
WHEN_KO = ["", "", "", "에", " 오전", " 오후", " 아침", " 저녁", " 밤", " 새벽", " 오전 {N}시에", " 밤 {N}시쯤"]
WHO_EN = [
    "{PER}",
    "{PER}",
    "{PER}",
    "{FIRST}",
    "{ORG}",
    "{ORG}",
    "Mr. {LAST}",
    "Ms. {LAST}",
    "Dr. {LAST}",
    "President {LAST}",
    "{PER} of {ORG}",
    "{PER} from {LOC}",
    "{ORG} TITLE {PER}",
    "{PER}, TITLE of {ORG},",
    "The {ORG} TITLE",
    "The {LOC} TITLE, {PER},",
    "{PER} and {PER}",
    "The PERSON",
]
WHERE_EN = [" in {LOC}", " in {LOC}", " near {LOC}", " at the PLACE in {LOC}", " at {ORG}", " in {LOC}, {LOC}"]
WHEN_EN = ["on {DAT}", "{DAT}", "in {YEAR}", "in {DAT}", "by {DAT}"]


class Clauses:
    """Draws patterns with slots; seeded by the random source it is given."""

    def __init__(self, source: random.Random) -> None:
        self.random = source
        self.events = Events(source)
        self.titles = {lang: read_lists()[f"TITLE.{lang}"] for lang in ("ko", "en")}

    def pattern(self, lang: str) -> str:
        return self.korean() if lang == "ko" else self.english()

    def some(self, options: list[str], lang: str) -> str:
        """One of the options, its TITLE, PERSON and PLACE replaced by words."""
        chosen = self.random.choice(options)
        for word, domain in (("PERSON", "person"), ("PLACE", "place")):
            noun = self.events.noun(domain)
            chosen = chosen.replace(word, self.random.choice(noun.ko if lang == "ko" else noun.en))
        return chosen.replace("TITLE", self.random.choice(self.titles[lang]))

    def korean(self) -> str:
        """Parts in the free order of Korean, the verb last, such as "{DAT} {PER} 씨가 {LOC}에서 사과를 샀다"."""
        choose, roll = self.random.choice, self.random.random
        parts = [self.some(WHO_KO, "ko") + choose(["은/는", "이/가", "은/는", "도", ""])]
        if roll() < 0.45:
            parts.append("{DAT}" + choose(WHEN_KO))
        if roll() < 0.5:
            parts.append(self.some(WHERE_KO, "ko") + "에서")
        if roll() < 0.15:
            parts.append(self.some(WITH_KO, "ko"))
        self.random.shuffle(parts)
        verb = choose(self.events.words.verbs if roll() < 0.7 else self.events.words.acts)
        if verb.domains:
            parts.append(choose(self.events.noun(*verb.domains).ko) + choose(["을/를", "을/를", ""]))
        does = choose(verb.ko)
        return " ".join([*parts, choose(does.before() + does.ongoing())]) + choose([".", ".", "", "!"])

    def english(self) -> str:
        """Such as "On {DAT}, {PER} of {ORG} sold the car in {LOC}"."""
        choose, roll = self.random.choice, self.random.random
        who = self.some(WHO_EN, "en")
        verb = choose(self.events.words.verbs if roll() < 0.7 else self.events.words.acts)
        said = choose(verb.en)[1]
        if verb.domains:
            said += f" {choose(['the', 'the', 'a', 'some', 'his', 'her'])} {choose(self.events.noun(*verb.domains).en)}"
        where = self.some(WHERE_EN, "en") if roll() < 0.5 else ""
        when = choose(WHEN_EN) if roll() < 0.45 else ""
        if when and roll() < 0.3:
            return f"{when[0].upper() + when[1:]}, {who.replace('The ', 'the ')} {said}{where}."
        return f"{who} {said}{where}{' ' if when else ''}{when}" + choose([".", ".", "", "!"])
