"""What a question about a drawn scene is about, and the question with its answer."""

from __future__ import annotations

import random
from dataclasses import dataclass

from starter.corpus.vision_words import COLOURS, ENGLISH_SHAPES, OTHER_PLACES, PLACES, SHAPES, plural
from starter.scenes import Thing

Places = tuple[tuple[int, ...], ...]  # cells of the grid, for one part of an answer after another


@dataclass(frozen=True, slots=True)
class Slots:
    """What a question is about."""

    shape: str | None = None
    colour: str | None = None
    cell: int = 0

    def words(self, kind: str, lang: str, source: random.Random) -> dict[str, str]:
        """The words that fill a question's pattern, at times others than those of the answers."""
        common = source.random() < 0.7
        places = PLACES if common else OTHER_PLACES
        colour = self.colour or ""
        if lang == "ko":
            shape = SHAPES[self.shape][0 if common else -1] if self.shape else "도형"
            form = 1 if kind == "check" else 0
            colour = COLOURS[colour][form if common else source.randint(1, 2)] if colour else ""
            thing, things = f"{colour} {shape}".strip(), ""
        else:
            shape = (
                self.shape if common else source.choice(ENGLISH_SHAPES.get(self.shape or "", (self.shape,)))
            ) or "shape"
            thing = f"{colour} {shape}".strip()
            things = plural(thing)
        return {"shape": shape, "colour": colour, "thing": thing, "things": things, "place": places[lang][self.cell]}


@dataclass(frozen=True, slots=True)
class Asked:
    """A question and its answer; the one thing it was about, if one: "it" of a question after it; where to look
    for the parts of the answer."""

    kind: str
    question: str
    answer: str
    about: Thing | None = None
    places: Places = ()
