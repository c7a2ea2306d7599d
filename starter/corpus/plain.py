"""Ordinary words around the names."""

from __future__ import annotations

import random
from pathlib import Path

from faker.providers.lorem.en_US import Provider as EnglishWords

from starter.corpus import korean
from starter.corpus.names import read_lists

HERE = Path(__file__).parent


class Plain:
    """Ordinary words around the names: chunks and whole sentences that hold no entity."""

    def __init__(self, source: random.Random) -> None:
        self.random = source
        words = {name: (HERE / f"{name}.txt").read_text(encoding="utf-8").split() for name in ("words_ko", "words_en")}
        lists = read_lists()
        self.particles = lists["PARTICLE.ko"]
        self.nouns = words["words_ko"]
        self.verbs = (HERE / "verbs_ko.txt").read_text(encoding="utf-8").split()
        self.english = sorted({*words["words_en"], *EnglishWords.word_list} - set(lists["NOT_PLAIN.en"]))

    def chunk(self, lang: str) -> str:
        """One word; in Korean a noun or a compound of two, mostly with a particle."""
        if lang == "en":
            return self.random.choice(self.english)
        noun = self.random.choice(self.nouns)
        if self.random.random() < 0.15:
            noun += self.random.choice(self.nouns)
        return korean.agree(noun + self.random.choice(self.particles))

    def sentence(self, lang: str) -> str:
        chunks = [self.chunk(lang) for _ in range(self.random.randint(1, 5 if lang == "ko" else 9))]
        if lang == "ko":
            chunks.append(self.random.choice(self.verbs))
        text = " ".join(chunks) + self.random.choice([".", ".", "?", "!", ""])
        return text[0].upper() + text[1:] if self.random.random() < 0.8 else text

    def vary(self, pattern: str, lang: str) -> str:
        """Some words of the pattern, slots never, replaced by others; sometimes one more in front."""
        chunks = pattern.split(" ")
        rate = self.random.choice((0, 0, 0, 0.15, 0.35))
        chunks = [
            self.chunk(lang) if "{" not in one and one[-1:] not in ".?!" and self.random.random() < rate else one
            for one in chunks
        ]
        if self.random.random() < rate / 3:
            chunks.insert(0, self.chunk(lang))
        text = " ".join(chunks)
        return text[0].upper() + text[1:] if lang == "en" and pattern[0].isupper() else text
