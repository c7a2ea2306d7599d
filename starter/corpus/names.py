"""Names of people, organisations and places, from written lists and from Faker."""

from __future__ import annotations

import random
from pathlib import Path

from faker import Faker

from starter.corpus import korean
from starter.corpus.dates import english_date, korean_date

HERE = Path(__file__).parent


def read_lists() -> dict[str, list[str]]:
    """Lists of `ner_entities.txt`, by "KIND.lang"."""
    lines = (HERE / "ner_entities.txt").read_text(encoding="utf-8").splitlines()
    pairs = (line.split(": ", 1) for line in lines if line and not line.startswith("#"))
    return {key: [name.strip() for name in names.split(",")] for key, names in pairs}


class Names:
    """Draws people, organisations, places and dates; seeded by the random source it is given."""

    def __init__(self, source: random.Random) -> None:
        self.random = source
        self.lists = read_lists()
        self.known = False  # True: no coined names, so that lower-case text keeps a chance of being read
        self.fakers = {"ko": Faker("ko_KR"), "en": Faker("en_US")}
        for faker in self.fakers.values():
            faker.seed_instance(source.randrange(2**32))

    def pick(self, *keys: str) -> str:
        return self.random.choice(self.lists[self.random.choice(keys)])

    def draw(self, slot: str, lang: str) -> str:
        """A value for a slot; PER, ORG, LOC and DAT are entities, the other slots depend on the pattern."""
        if lang == "ko" and slot in ("PER", "ORG") and self.random.random() < 0.04:
            lang = "en"  # "Apple이", "John은"
        name = f"{slot.lower()}_{lang}"
        return str(getattr(self, name)())

    def coined(self) -> str:
        """A capitalised word nobody has seen, such as "Brantia"."""
        if self.known:
            return self.pick("CITY.en", "LAST.en", "FIRST.en")
        onset, vowel, end = (self.lists[f"{part}.coined"] for part in ("ONSET", "VOWEL", "END"))
        choose = self.random.choice
        stem = "".join(choose(onset) + choose(vowel) for _ in range(self.random.randint(1, 2)))
        return (stem + choose(end)).capitalize()

    def coined_ko(self) -> str:
        """Two or three Hangul syllables at random, mostly from those that names use."""
        rare = [chr(self.random.randrange(korean.FIRST_SYLLABLE, korean.LAST_SYLLABLE))]
        pool = [*self.lists["SYLLABLE.ko"], *self.lists["SURNAME.ko"], *rare]
        return "".join(self.random.choice(pool) for _ in range(self.random.choice((2, 2, 3))))

    def given_ko(self) -> str:
        if self.random.random() < 0.5:
            return self.pick("GIVEN.ko")
        return "".join(self.random.sample(self.lists["SYLLABLE.ko"], 2))

    def per_ko(self) -> str:
        roll = self.random.random()
        if roll < 0.3:
            return self.fakers["ko"].name()
        if roll < 0.62:
            surname = self.random.choice(self.lists["LONG_SURNAME.ko" if self.random.random() < 0.08 else "SURNAME.ko"])
            return surname + self.given_ko()
        if roll < 0.68:
            return self.random.choice(self.lists["SURNAME.ko"]) + self.random.choice(self.lists["SYLLABLE.ko"])
        if roll < 0.76:
            return self.given_ko()
        if roll < 0.79:
            return self.coined_ko()
        if roll < 0.86:
            first = f"{self.pick('FOREIGN_FIRST.ko')} " if self.random.random() < 0.75 else ""
            return first + self.pick("FOREIGN_LAST.ko")
        return self.pick("PERF.ko", "PERF2.ko")

    def org_ko(self) -> str:
        roll = self.random.random()
        if roll < 0.33:
            return self.pick("COMPANY.ko")
        if roll < 0.53:
            return self.pick("ORGMISC.ko")
        if roll < 0.63:
            return self.pick("UNIV.ko")
        if roll < 0.80:
            place = self.pick("CITY.ko", "WORLDCITY.ko", "LOCSTEM.ko", "COUNTRY.ko")
            return place + self.pick("LOCORG.ko")
        coin = self.coined_ko() if self.random.random() < 0.4 else self.pick("COIN.ko")
        joint = " " if self.random.random() < 0.1 else ""
        return coin + joint + self.pick("ORGSUF.ko")

    def loc_ko(self) -> str:
        roll = self.random.random()
        if roll < 0.3:
            return self.pick("CITY.ko")
        if roll < 0.43:
            return self.pick("REGION.ko")
        if roll < 0.6:
            return self.pick("COUNTRY.ko")
        if roll < 0.76:
            return self.pick("WORLDCITY.ko")
        stem = self.coined_ko() if self.random.random() < 0.3 else self.pick("LOCSTEM.ko")
        return stem + self.random.choice(self.lists["LOCSUF.ko"])

    def dat_ko(self) -> str:
        return korean_date(self.random)

    def n_ko(self) -> str:
        return str(self.random.randint(2, 90))

    n_en = n_ko

    def thing_ko(self) -> str:
        return self.pick("THING.ko")

    def pernoun_ko(self) -> str:
        return self.pick("PERNOUN.ko")

    def first_en(self) -> str:
        roll = self.random.random()
        if roll < 0.4:
            return self.fakers["en"].first_name()
        return self.pick("FIRST.en") if roll < 0.9 else self.coined()

    def last_en(self) -> str:
        roll = self.random.random()
        if roll < 0.35:
            return self.fakers["en"].last_name()
        return self.pick("LAST.en") if roll < 0.85 else self.coined()

    def per_en(self) -> str:
        roll = self.random.random()
        if roll < 0.68:
            middle = f" {self.random.choice('ABCDEFGHJKLMNPRSTW')}." if self.random.random() < 0.06 else ""
            return f"{self.first_en()}{middle} {self.last_en()}"
        if roll < 0.76:
            first, second = self.random.sample(self.lists["SYLLABLE.roman"], 2)
            joint = self.random.choice(["-", "-", ""])
            surname = self.random.choice(self.lists["SURNAME.roman"])
            return f"{surname} {first.capitalize()}{joint}{second}"
        if roll < 0.86:
            return self.first_en()
        if roll < 0.92:
            return self.last_en()
        return self.pick("MONO.en")

    def org_en(self) -> str:
        roll = self.random.random()
        if roll < 0.4:
            return self.pick("COMPANY.en")
        if roll < 0.62:
            return self.pick("ORGMISC.en")
        if roll < 0.72:
            place = self.place_word()
            return self.random.choice(self.lists["ORGPLACE.en"]).replace("{place}", place)
        coin = self.random.choice([self.pick("COIN.en"), self.coined(), self.last_en()])
        roll = self.random.random()
        if roll < 0.15:
            return f"{self.last_en()} & {self.last_en()}"
        if roll < 0.25:
            return coin
        return f"{coin} {self.pick('ORGSUF.en')}"

    def place_word(self) -> str:
        return self.pick("CITY.en", "COUNTRY.en", "REGION.en").removeprefix("the ")

    def loc_en(self) -> str:
        roll = self.random.random()
        if roll < 0.4:
            return self.pick("CITY.en")
        if roll < 0.65:
            return self.pick("COUNTRY.en")
        if roll < 0.85:
            return self.pick("REGION.en")
        if roll < 0.93:
            return self.fakers["en"].city()
        return self.coined()

    def dat_en(self) -> str:
        return english_date(self.random)

    def year_en(self) -> str:
        return str(self.random.randint(1750, 2035))
