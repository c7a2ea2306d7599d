"""Conversations for the vision starter: questions about drawn scenes and their answers, in Korean and English."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path

from starter.corpus import chat
from starter.corpus.korean import agree
from starter.corpus.noise import misspelt
from starter.corpus.vision_answers import ANSWERS, antecedent, places
from starter.corpus.vision_slots import Asked, Places, Slots
from starter.corpus.vision_words import FIXED, LANGS
from starter.scenes import MOST, Scene, draw_scene

HERE = Path(__file__).parent
FREE = ("hello", "thanks", "who")  # answered with and without a picture
WEIGHTS = {  # of the kinds of questions: most of those that take longest to learn, to find what is meant
    "describe": 4.0, "colour": 3.0, "colour_one": 1.5, "shape": 3.0, "shape_one": 1.5, "count": 2.0, "count_of": 3.0,
    "where": 4.0, "where_one": 1.5, "place": 2.0, "exist": 2.0, "check": 2.0, "largest": 1.5, "smallest": 1.5,
    "background": 1.5, "colours": 2.0, "shapes": 4.0, "again_colour": 3.0, "again_where": 3.0,
}  # fmt: skip
FIRST = (8_000, ("where", "colour", "shape", "place", "describe"))  # so many ask of pictures only what is looked up
FEW = ((6_000, 2), (14_000, 4))  # so many conversations, then so many things at most in the scenes of those
_SYSTEMS = (
    "You are a helpful assistant.",
    "You look at pictures and answer questions about them. Answer briefly.",
    "You are a helpful vision assistant. Be precise and polite.",
    "당신은 친절한 도우미입니다.",
    "당신은 그림을 보고 질문에 답하는 도우미입니다. 짧게 답하세요.",
    "친절하고 정확하게 답하세요. 모르면 모른다고 말하세요.",
)
_BEFORE = {
    "en": ("", "", "", "please tell me, ", "hey, ", "so ", "ok, ", "and ", "one more question: ", "now, "),
    "ko": ("", "", "", "혹시 ", "저기요, ", "그럼 ", "근데 ", "질문이요, ", "그리고 ", "이 그림에서 "),
}


def ways(lang: str) -> dict[str, list[str]]:
    """How each kind of question is asked, from `vision_<lang>.txt`."""
    lines = [line for line in (HERE / f"vision_{lang}.txt").read_text("utf-8").splitlines() if line[0] != "#"]
    return {kind.strip("[]"): said.split(" | ") for kind, said in zip(lines[::2], lines[1::2], strict=True)}


@dataclass(frozen=True, slots=True)
class Turn:
    """A question and its answer; the number of the picture that comes with it, or None; the cells in which to look for
    the parts of the answer."""

    kind: str
    lang: str
    question: str
    answer: str
    picture: int | None = None
    places: Places = ()


@dataclass(slots=True)
class Talk:
    """A conversation; a picture whose scene is None is clutter."""

    system: str | None = None
    scenes: list[Scene | None] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)

    def messages(self) -> list[dict[str, object]]:
        """As a chat template takes them, answers included."""
        found: list[dict[str, object]] = [{"role": "system", "content": self.system}] if self.system else []
        for turn in self.turns:
            shown = [{"type": "image"}] if turn.picture is not None else []
            parts = [*shown, {"type": "text", "text": turn.question}]
            found += [{"role": "user", "content": parts}, {"role": "assistant", "content": turn.answer}]
        return found


class Questions:
    """Asks about scenes in the ways of the two `vision_*.txt` files; seeded."""

    def __init__(self, source: random.Random) -> None:
        self._source = source
        self._ways = {lang: ways(lang) for lang in LANGS}
        self._foreign = {lang: chat.unknown(lang) for lang in LANGS}

    def ask(self, kind: str, scene: Scene | None, lang: str, before: Asked | None = None) -> Asked | None:
        """A question of this kind with its answer, None where the scene does not allow it."""
        if kind in FIXED[lang] and kind in (*FREE, "unknown"):
            return Asked(kind, self._phrase(kind, Slots(), lang), FIXED[lang][kind])
        asked = ANSWERS[kind](scene, lang, self._source, before) if scene else None
        if scene is None:  # of clutter one can ask anything
            other = ANSWERS[kind](draw_scene(self._source), lang, self._source, None)
            return Asked(kind, self._phrase(kind, other[0], lang), FIXED[lang]["clutter"]) if other else None
        if asked is None:
            return None
        slots, answer = asked
        looks = places(kind, slots, scene, before)
        return Asked(kind, self._phrase(kind, slots, lang), answer, antecedent(kind, looks, scene), looks)

    def _phrase(self, kind: str, slots: Slots, lang: str) -> str:
        if kind == "unknown" and self._source.random() < 0.35:
            patterns, things = self._foreign[lang]
            return self._source.choice(patterns).replace("{thing}", self._source.choice(things))
        pattern = self._source.choice(self._ways[lang][kind])
        text = pattern.format(**slots.words(kind, lang, self._source))
        return agree(text) if lang == "ko" else text.replace(" a orange", " an orange")


class Conversations:
    """Each call of `draw` gives another conversation; none has a pair that is held out."""

    def __init__(self, source: random.Random, *, easy_first: bool = True) -> None:
        self._source = source
        self._questions = Questions(source)
        self._easy_first, self._drawn = easy_first, 0

    def draw(self) -> Talk:
        """With `easy_first` the first look up one thing in scenes of few: so it is soonest learnt what words mean."""
        source, talk = self._source, Talk()
        self._drawn += 1
        if source.random() < 0.2:
            talk.system = source.choice(_SYSTEMS)
        lang = source.choice(LANGS)
        if source.random() < 0.06:
            for _ in range(source.randint(1, 2)):
                talk.turns.append(self._blind(lang))
            if source.random() < 0.5:
                return talk
        for _ in range(2 if source.random() < 0.15 else 1):
            self._look(talk, lang, source.choice((1, 3, 5, 6, 7, 8)))
        return talk

    def _blind(self, lang: str) -> Turn:
        """A question without a picture."""
        kind = self._source.choice((*WEIGHTS, "unknown", *FREE, *FREE))
        asked = self._questions.ask(kind, None, lang)
        if asked is None:
            return self._blind(lang)
        answer = asked.answer if kind in FREE else FIXED[lang]["no_picture"]
        return Turn(kind, lang, self._said(asked.question, lang), answer)

    def _look(self, talk: Talk, lang: str, turns: int) -> None:
        """A picture and questions about it."""
        source, before = self._source, None
        most = next((things for talks, things in FEW if self._easy_first and self._drawn <= talks), MOST)
        kinds = dict.fromkeys(FIRST[1], 1.0) if self._easy_first and self._drawn <= FIRST[0] else WEIGHTS
        scene = None if source.random() < 0.04 else draw_scene(source, most=most)
        number = len(talk.scenes)
        talk.scenes.append(scene)
        answers: set[str] = set()
        done, end = 0, len(talk.turns) + (turns if scene and scene.things else min(turns, 2))
        while len(talk.turns) < end:
            if source.random() < 0.08:
                lang = "ko" if lang == "en" else "en"
            roll = source.random()
            kind = source.choices(list(kinds), list(kinds.values()))[0]
            if roll < 0.07:
                kind = "unknown" if roll < 0.05 else source.choice(FREE)
            asked = self._questions.ask(kind, scene, lang, before)
            if asked is None or (scene and asked.answer in answers and roll >= 0.07):
                continue  # what was said already would be learnt by copying it
            answers.add(asked.answer)
            before = asked
            picture = number if not done else None
            said = self._said(asked.question, lang)
            talk.turns.append(Turn(kind, lang, said, asked.answer, picture, asked.places))
            done += 1

    def _said(self, question: str, lang: str) -> str:
        """As people type it."""
        source = self._source
        roll = source.random()
        if roll < 0.25:
            question = source.choice(_BEFORE[lang]) + question
        if roll > 0.8:
            question = question.lower()
        return misspelt(question, source) if source.random() < 0.15 else question
