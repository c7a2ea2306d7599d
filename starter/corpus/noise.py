"""Slips of the keyboard."""

from __future__ import annotations

import random


def misspelt(text: str, source: random.Random) -> str:
    """The text, mostly as it is; at times without final stop, without a blank, or with two letters swapped."""
    roll = source.random()
    if roll < 0.15 and text[-1] in ".!?":
        return text[:-1]
    if roll < 0.2 and text[-1] not in ".!?":
        return text + source.choice(".!?~")
    if roll < 0.24 and " " in text:
        at = source.choice([place for place, char in enumerate(text) if char == " "])
        return text[:at] + text[at + 1 :]
    if roll < 0.28 and len(text) > 6:
        at = source.randrange(1, len(text) - 2)
        return text[:at] + text[at + 1] + text[at] + text[at + 2 :]
    return text
