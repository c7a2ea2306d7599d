"""The answer to each kind of question about a drawn scene.

Each function takes the scene, the language, a random source that picks what to ask about, and the turn before; it
returns what goes into the question and the answer, or None where such a question makes no sense.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from starter.corpus.korean import agree
from starter.corpus.vision_slots import Asked, Places, Slots
from starter.corpus.vision_words import COLOURS, PLACES, SHAPES, are, article, counted, listing, named
from starter.scenes import COLOURS as PAINTS
from starter.scenes import HELD_OUT, Scene, Thing
from starter.scenes import SHAPES as FORMS

THIS = ("colour_one", "shape_one", "where_one")  # ask of "it", the thing that was asked about before
CLEARLY_LARGER = 1.3  # of two radii, before one is called the largest


Answer = tuple[Slots, str] | None
Answerer = Callable[[Scene, str, random.Random, Asked | None], Answer]


def _those(scene: Scene, shape: str | None, colour: str | None) -> list[Thing]:
    return [one for one in scene.things if shape in (None, one.shape) and colour in (None, one.colour)]


def _some(scene: Scene, source: random.Random, absent: float) -> tuple[str | None, str | None]:
    """A shape, a colour or both; with the chance `absent`, likely of nothing that is there."""
    if scene.things and source.random() >= absent:
        one = source.choice(scene.things)
        pair = (one.shape, one.colour)
    else:
        pair = source.choice(
            [(shape, colour) for shape in FORMS for colour in PAINTS if (shape, colour) not in HELD_OUT]
        )
        if scene.things and source.random() < 0.5:  # half of it is there
            one = source.choice(scene.things)
            mixed = source.choice(((one.shape, pair[1]), (pair[0], one.colour)))
            pair = pair if mixed in HELD_OUT else mixed
    return source.choice((pair, pair, (pair[0], None), (None, pair[1])))


def _colours_of(things: list[Thing]) -> list[str]:
    """The colours of things, always in the same order: what comes next then follows from what was told last."""
    return [colour for colour in PAINTS if any(one.colour == colour for one in things)]


def _shapes_of(things: list[Thing]) -> list[str]:
    return [shape for shape in FORMS if any(one.shape == shape for one in things)]


def _each(things: list[Thing], lang: str) -> str:
    """Such as "a red circle and a blue star"."""
    parts = [named(one.shape, one.colour, lang) for one in things]
    return listing(parts if lang == "ko" else [article(part) for part in parts], lang)


def _describe(scene: Scene, lang: str, *_: object) -> Answer:
    number = len(scene.things)
    if lang == "ko":
        backdrop = COLOURS[scene.background][1]
        if not number:
            return Slots(), f"{backdrop} 배경만 있고 도형은 없어요."
        parts = [f"{PLACES['ko'][one.cell]}에 {named(one.shape, one.colour, 'ko')}" for one in scene.things]
        return Slots(), agree(f"{backdrop} 배경에 {counted(None, None, number, 'ko')}: {', '.join(parts)}이/가 있어요.")
    if not number:
        return Slots(), f"There are no shapes, only a {scene.background} background."
    parts = [f"{article(named(one.shape, one.colour, 'en'))} {PLACES['en'][one.cell]}" for one in scene.things]
    start = are(None, None, number, "en")[:-1]
    return Slots(), f"{start} on a {scene.background} background: {listing(parts, 'en')}."


def _colour_of(shape: str, scene: Scene, lang: str) -> str:
    found = _those(scene, shape, None)
    if not found:
        return are(shape, None, 0, lang)
    colours = _colours_of(found)
    if lang == "ko":
        return agree(f"{SHAPES[shape][0]}은/는 {listing([COLOURS[each][1] for each in colours], 'ko')}이에요.")
    verb = "is" if len(found) == 1 else "are"
    return f"The {named(shape, None, 'en', len(found))} {verb} {listing(colours, 'en')}."


def _colour(scene: Scene, lang: str, source: random.Random, *_: object) -> Answer:
    shape = source.choice(scene.things).shape if scene.things and source.random() < 0.85 else source.choice(FORMS)
    return Slots(shape), _colour_of(shape, scene, lang)


def _again_colour(scene: Scene, lang: str, source: random.Random, before: Asked | None) -> Answer:
    return _colour(scene, lang, source) if before and before.kind in ("colour", "again_colour") else None


def _only(scene: Scene, before: Asked | None) -> Thing | None:
    """What "it" is."""
    if len(scene.things) == 1:
        return scene.things[0]
    return before.about if before else None


def _colour_one(scene: Scene, lang: str, source: random.Random, before: Asked | None) -> Answer:
    one = _only(scene, before)
    if one is None:
        return _colours(scene, lang)
    return Slots(), f"{COLOURS[one.colour][1]}이에요." if lang == "ko" else f"It is {one.colour}."


def _shape_one(scene: Scene, lang: str, source: random.Random, before: Asked | None) -> Answer:
    one = _only(scene, before)
    if one is None:
        return _shapes(scene, lang)
    return Slots(), agree(f"{SHAPES[one.shape][0]}이에요/예요.") if lang == "ko" else f"It is {article(one.shape)}."


def _where_one(scene: Scene, lang: str, source: random.Random, before: Asked | None) -> Answer:
    one = _only(scene, before)
    if one is None:
        return _describe(scene, lang)
    return Slots(), f"{PLACES['ko'][one.cell]}에 있어요." if lang == "ko" else f"It is {PLACES['en'][one.cell]}."


def _shape(scene: Scene, lang: str, source: random.Random, *_: object) -> Answer:
    colour = (
        source.choice(scene.things).colour if scene.things and source.random() < 0.85 else source.choice(list(PAINTS))
    )
    found = _those(scene, None, colour)
    if not found:
        return Slots(None, colour), are(None, colour, 0, lang)
    shapes = _shapes_of(found)
    if lang == "ko":
        said = listing([SHAPES[each][0] for each in shapes], "ko")
        return Slots(None, colour), agree(f"{named(None, colour, 'ko')}은/는 {said}이에요/예요.")
    verb = "is" if len(found) == 1 else "are"
    said = listing([article(each) for each in shapes], "en")
    return Slots(None, colour), f"The {named(None, colour, 'en', len(found))} {verb} {said}."


def _count(scene: Scene, lang: str, *_: object) -> Answer:
    return Slots(), are(None, None, len(scene.things), lang)


def _count_of(scene: Scene, lang: str, source: random.Random, *_: object) -> Answer:
    shape, colour = _some(scene, source, 0.25)
    return Slots(shape, colour), are(shape, colour, len(_those(scene, shape, colour)), lang)


def _where(scene: Scene, lang: str, source: random.Random, *_: object) -> Answer:
    shape, colour = _some(scene, source, 0.15)
    found = _those(scene, shape, colour)
    if not found:
        return Slots(shape, colour), are(shape, colour, 0, lang)
    places = listing([PLACES[lang][one.cell] for one in found], lang)
    if lang == "ko":
        return Slots(shape, colour), agree(f"{named(shape, colour, 'ko')}은/는 {places}에 있어요.")
    verb = "is" if len(found) == 1 else "are"
    return Slots(shape, colour), f"The {named(shape, colour, 'en', len(found))} {verb} {places}."


def _again_where(scene: Scene, lang: str, source: random.Random, before: Asked | None) -> Answer:
    return _where(scene, lang, source) if before and before.kind in ("where", "again_where") else None


def _place(scene: Scene, lang: str, source: random.Random, *_: object) -> Answer:
    cell = source.choice(scene.things).cell if scene.things and source.random() < 0.75 else source.randrange(9)
    found, place = [one for one in scene.things if one.cell == cell], PLACES[lang][cell]
    if lang == "ko":
        there = agree(_each(found, "ko") + "이/가 있어요.") if found else "아무것도 없어요."
        return Slots(cell=cell), f"{place}에는 {there}"
    return Slots(cell=cell), f"There is {_each(found, 'en') if found else 'nothing'} {place}."


def _exist(scene: Scene, lang: str, source: random.Random, *_: object) -> Answer:
    shape, colour = _some(scene, source, 0.5)
    return Slots(shape, colour), are(shape, colour, len(_those(scene, shape, colour)), lang)


def _check(scene: Scene, lang: str, source: random.Random, *_: object) -> Answer:
    single = [one for one in scene.things if len(_those(scene, one.shape, None)) == 1]
    if not single:
        return None
    one = source.choice(single)
    colour = one.colour if source.random() < 0.5 else source.choice(list(PAINTS))
    if (one.shape, colour) in HELD_OUT and colour != one.colour:
        return None
    said, is_so = _colour_of(one.shape, scene, lang), colour == one.colour
    if lang == "ko":  # what is so comes first: that is looked up, and whether it was meant follows from it
        then = "맞아요." if is_so else agree(f"{COLOURS[colour][1]}은/는 아니에요.")
        return Slots(one.shape, colour), f"{said} {then}"
    return Slots(one.shape, colour), said[:-1] + (", as you say." if is_so else f", not {colour}.")


def _extreme(scene: Scene, lang: str, largest: bool) -> Answer:
    ranked = sorted(scene.things, key=lambda one: one.radius, reverse=largest)
    if len(ranked) < 2:
        return None
    ratio = ranked[0].radius / ranked[1].radius
    if max(ratio, 1 / ratio) < CLEARLY_LARGER:
        return None
    thing = named(ranked[0].shape, ranked[0].colour, lang)
    if lang == "ko":
        return Slots(), agree(f"가장 {'큰' if largest else '작은'} 도형은 {thing}이에요/예요.")
    return Slots(), f"The {'largest' if largest else 'smallest'} shape is the {thing}."


def _largest(scene: Scene, lang: str, *_: object) -> Answer:
    return _extreme(scene, lang, True)


def _smallest(scene: Scene, lang: str, *_: object) -> Answer:
    return _extreme(scene, lang, False)


def _background(scene: Scene, lang: str, *_: object) -> Answer:
    if lang == "ko":
        return Slots(), f"배경은 {COLOURS[scene.background][1]}이에요."
    return Slots(), f"The background is {scene.background}."


def _colours(scene: Scene, lang: str, *_: object) -> Answer:
    if not scene.things:
        return Slots(), are(None, None, 0, lang)
    found = _colours_of(list(scene.things))
    if lang == "ko":
        return Slots(), agree(listing([COLOURS[each][1] for each in found], "ko") + "이/가 보여요.")
    return Slots(), f"I see {listing(found, 'en')}."


def _shapes(scene: Scene, lang: str, *_: object) -> Answer:
    if not scene.things:
        return Slots(), are(None, None, 0, lang)
    found = _shapes_of(list(scene.things))
    parts = [counted(shape, None, len(_those(scene, shape, None)), lang) for shape in found]
    return Slots(), f"{listing(parts, 'ko')}가 보여요." if lang == "ko" else f"I see {listing(parts, 'en')}."


ANSWERS: dict[str, Answerer] = {
    "describe": _describe, "colour": _colour, "colour_one": _colour_one, "shape": _shape, "shape_one": _shape_one,
    "count": _count, "count_of": _count_of, "where": _where, "where_one": _where_one, "place": _place, "exist": _exist,
    "check": _check, "largest": _largest, "smallest": _smallest,
    "background": _background, "colours": _colours, "shapes": _shapes, "again_colour": _again_colour,
    "again_where": _again_where,
}  # fmt: skip


_NAMING = ("colour", "shape", "where", "exist", "check", "again_colour", "again_where")  # a thing by shape or colour
_ALL = dict(zip(THIS, ("colours", "shapes", "describe"), strict=True))  # answered so where "it" is not clear


def places(kind: str, slots: Slots, scene: Scene, before: Asked | None) -> Places:
    """In which cells to look for each part of the answer; empty where it is about no thing and no place."""
    found = list(scene.things)
    if kind in _ALL:
        if one := _only(scene, before):
            return ((one.cell,),)
        kind = _ALL[kind]
    elif kind in (*_NAMING, "count_of"):
        found = _those(scene, slots.shape, slots.colour if kind != "check" else None)
    elif kind in ("largest", "smallest"):
        found = [(max if kind == "largest" else min)(found, key=lambda one: one.radius)]
    if kind == "place":
        return ((slots.cell,),)
    if not found or kind == "background":
        return ()
    cells = tuple(one.cell for one in found)
    if kind in ("where", "again_where"):
        return tuple((cell,) for cell in cells)
    if kind == "describe":
        return (cells, *((cell,) for cell in cells))
    if kind in ("colour", "again_colour", "colours"):
        return tuple(tuple(one.cell for one in found if one.colour == colour) for colour in _colours_of(found))
    if kind in ("shape", "shapes"):
        return tuple(tuple(one.cell for one in found if one.shape == shape) for shape in _shapes_of(found))
    return (cells,)


def antecedent(kind: str, looks: Places, scene: Scene) -> Thing | None:
    """The one thing that a question was about whose answer is looked for in these cells, None if none or several."""
    cells = {cell for part in looks for cell in part} if kind in (*_NAMING, *_ALL, "place") else set()
    found = [one for one in scene.things if one.cell in cells]
    return found[0] if len(found) == 1 else None
