"""How often the vision starter is right, on scenes whose seeds and pairs training never has."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from starter.corpus.vision import FREE, Questions
from starter.corpus.vision_answers import ANSWERS
from starter.corpus.vision_slots import Asked
from starter.corpus.vision_words import FIXED
from starter.scenes import Scene, draw_scene, paint, paint_clutter

SCENES = 500
KINDS = (*(kind for kind in ANSWERS if not kind.startswith("again_") and not kind.endswith("_one")), "unknown")
AFTER = ("where_one", "colour_one", "shape_one", "again_colour", "again_where")  # ask on about what was asked before
ROWS = 32  # conversations side by side


@dataclass(frozen=True, slots=True)
class Case:
    """A conversation that ends with a question, its picture if it has one, and the right answer."""

    figure: str  # what it counts for, such as "where ko"
    messages: list[dict[str, Any]]
    picture: Image.Image | None
    answer: str
    held_out: bool = False  # the scene has a pair of shape and colour that training never had


def scene(number: int) -> tuple[Scene, Image.Image]:
    """Scene `number` of the test; every fifth has a pair that is held out."""
    source = random.Random(f"test {number}")
    drawn = draw_scene(source, held_out=number % 5 == 4)
    return drawn, paint(drawn, source)


def cases(scenes: int = SCENES) -> Iterator[Case]:
    """One question of each kind about each scene, Korean and English by turns; then some without a scene."""
    for number in range(scenes):
        source, lang = random.Random(f"questions {number}"), ("ko", "en")[number % 2]
        (drawn, picture), questions = scene(number), Questions(source)
        for kind in KINDS:
            if asked := questions.ask(kind, drawn, lang):
                yield Case(f"{kind} {lang}", _messages(asked.question), picture, asked.answer, number % 5 == 4)
        if pair := _follow_up(questions, drawn, lang, source):
            yield Case(
                f"follow-up {lang}", _messages(pair[1].question, pair[0]), picture, pair[1].answer, number % 5 == 4
            )
        if number % 5 == 0:
            yield from _without_scene(questions, lang, source)


def _follow_up(questions: Questions, drawn: Scene, lang: str, source: random.Random) -> tuple[Asked, Asked] | None:
    for _ in range(20):
        kind = source.choice(AFTER)
        first = questions.ask({"again_colour": "colour", "again_where": "where"}.get(kind, "shape"), drawn, lang)
        second = questions.ask(kind, drawn, lang, first)
        if first and second and (first.about or kind.startswith("again_")) and first.answer != second.answer:
            return first, second
    return None


def _without_scene(questions: Questions, lang: str, source: random.Random) -> Iterator[Case]:
    kind = source.choice(("describe", "count", "colour_one", "where", "background"))
    asked = questions.ask(kind, None, lang)
    if asked:
        yield Case(f"no shapes {lang}", _messages(asked.question), paint_clutter(source), asked.answer)
        yield Case(f"no picture {lang}", _messages(asked.question, seen=False), None, FIXED[lang]["no_picture"])
    free = questions.ask(source.choice(FREE), None, lang)
    if free:
        yield Case(f"greeting {lang}", _messages(free.question, seen=False), None, free.answer)


def _messages(question: str, before: Asked | None = None, seen: bool = True) -> list[dict[str, Any]]:
    said = [{"type": "text", "text": before.question if before else question}]
    found: list[dict[str, Any]] = [{"role": "user", "content": [{"type": "image"}, *said] if seen else said}]
    if before:
        found += [{"role": "assistant", "content": before.answer}, {"role": "user", "content": question}]
    return found


def right(model: Any, processor: Any, group: list[Case]) -> list[bool]:
    """Whether greedy decoding gives each answer word for word, its end included.

    Seen in one pass: it does when every token of the answer is the likeliest after the right ones before it.
    """
    prompts = [processor.apply_chat_template(case.messages, add_generation_prompt=True) for case in group]
    full = [prompt + case.answer + processor.tokenizer.eos_token for prompt, case in zip(prompts, group, strict=True)]
    pictures = [[case.picture] if case.picture else [] for case in group]
    inputs = processor(
        text=full, images=pictures if any(pictures) else None, padding=True, padding_side="right", return_tensors="pt"
    )
    with torch.no_grad():
        told = model(**inputs).logits.argmax(-1)
    found = []
    for row, case in enumerate(group):
        length = len(processor.tokenizer(case.answer, add_special_tokens=False).input_ids) + 1
        end = int(inputs["attention_mask"][row].sum())
        wanted = inputs["input_ids"][row, end - length : end]
        found.append(bool((told[row, end - length - 1 : end - 1] == wanted).all()))
    return found


def answers(directory: Path, scenes: int = SCENES) -> list[tuple[Case, bool]]:
    """Every case with whether it is answered right."""
    processor = AutoProcessor.from_pretrained(directory)
    model = AutoModelForImageTextToText.from_pretrained(directory, dtype=torch.float32).eval()
    seen, blind, found = [], [], []
    for case in cases(scenes):
        (seen if case.picture else blind).append(case)
    for part in (seen, blind):
        part.sort(key=lambda case: case.figure)
        for at in range(0, len(part), ROWS):
            group = part[at : at + ROWS]
            found += zip(group, right(model, processor, group), strict=True)
    return found


def vision(directory: Path, scenes: int = SCENES) -> dict[str, float]:
    """Share of questions answered right, by kind and language, and those about scenes with pairs that are held out."""
    counts: dict[str, list[bool]] = {}
    for case, good in answers(directory, scenes):
        lang = case.figure.rsplit(" ", 1)[1]
        figures = [case.figure, f"all {lang}", *([f"new pairs {lang}"] if case.held_out else [])]
        for figure in figures:
            counts.setdefault(figure, []).append(good)
    return {figure: sum(each) / len(each) for figure, each in sorted(counts.items())}
