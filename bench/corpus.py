"""Texts to embed: English words in a seeded order, of mixed lengths as short questions and paragraphs are."""

from __future__ import annotations

import random

_WORDS = """
time year people way day man thing woman life child world school state family student group country
problem hand part place case week company system program question work government number night point
home water room mother area money story fact month lot right study book eye job word business issue
side kind head house service friend father power hour game line end member law car city community
name president team minute idea
""".split()  # noqa: SIM905 - a list of a hundred quoted words would be harder to read


def short(count: int, seed: int = 7) -> list[str]:
    """`count` texts as questions and reviews are: 3 to 200 words, half of them under 20."""
    rng = random.Random(seed)
    lengths = [min(200, max(3, int(rng.lognormvariate(3.0, 0.8)))) for _ in range(count)]
    return [" ".join(rng.choices(_WORDS, k=length)) for length in lengths]


def mixed(count: int, seed: int = 7) -> list[str]:
    """`count` texts from a question to a paragraph: 3 to 150 words, every length as often."""
    rng = random.Random(seed)
    return [" ".join(rng.choices(_WORDS, k=rng.randint(3, 150))) for _ in range(count)]
