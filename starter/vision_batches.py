"""What the vision starter learns from: pictures, and conversations about them side by side."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from transformers import PreTrainedTokenizerFast

from starter.corpus.vision import Conversations, Talk, Turn
from starter.corpus.vision_answers import THIS
from starter.corpus.vision_slots import Places
from starter.corpus.vision_words import vocabulary
from starter.patches import under_patches
from starter.scenes import Scene, draw_scene, paint, paint_clutter
from starter.vision_model import AROUND, END, GLOBAL, IMAGE, SIDE, TOKENS

LISTED = {  # which names tell the parts of a list apart, by the questions that are answered with such lists
    "place": ("describe", "where", "again_where", "where_one"),
    "colour": ("colour", "again_colour", "colour_one", "colours"),
    "shape": ("shape", "shape_one", "shapes"),
}
PICTURES, LENGTH = 20, 800  # of a batch: pictures for the tower, tokens of conversations; a step takes two batches


def pixels(picture: Image.Image) -> np.ndarray:
    """The picture (3, side, side) in -1 to 1, as the processor makes it, but with one resizing instead of two."""
    small = picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    return (np.asarray(small, dtype=np.float32) / 127.5 - 1).transpose(2, 0, 1)


@dataclass(frozen=True, slots=True)
class Drawing:
    """Scenes (None for clutter) that are painted where they are needed, on the thread that learns from them."""

    scenes: list[Scene | None]
    seed: int

    def pictures(self) -> torch.Tensor:
        """(scenes, 3, side, side)."""
        source = random.Random(self.seed)
        return torch.from_numpy(
            np.stack([pixels(paint(scene, source) if scene else paint_clutter(source)) for scene in self.scenes])
        )

    def classes(self) -> torch.Tensor:
        """(scenes, 4, patches) of what is under the patches."""
        return torch.from_numpy(np.stack([under_patches(scene) for scene in self.scenes]))


@dataclass(frozen=True, slots=True)
class Row:
    """A conversation in tokens.

    As labels the ids of the answers with their ends, -100 elsewhere; what each label weighs; and where to look from
    each place that tells a label: at the names of what is asked about and of what was told last, at the tokens of the
    picture that are meant.
    """

    talk: Talk
    ids: list[int]
    labels: list[int]
    weights: list[float]
    looks: list[tuple[list[int], list[int]]]


@dataclass(frozen=True, slots=True)
class Batch:
    """Conversations side by side: ids, labels and what each label weighs (rows, length); where to look (2, rows,
    length, length); their scenes in order."""

    ids: torch.Tensor
    labels: torch.Tensor
    weights: torch.Tensor
    looks: torch.Tensor
    drawing: Drawing


class Encoder:
    """Conversations to tokens."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self._tokenizer, self.end = tokenizer, tokenizer.convert_tokens_to_ids(END)
        around, image, tag, self._system, self._user, self._assistant = tokenizer.convert_tokens_to_ids(
            [AROUND, IMAGE, GLOBAL, "<|system|>", "<|user|>", "<|assistant|>"]
        )
        self._picture = [around, tag, *[image] * TOKENS, around]
        self._first = self._picture.index(image)
        said = [tokenizer.decode([each]).strip() for each in range(len(tokenizer))]

        def naming(*kinds: str) -> set[int]:
            names = set(vocabulary(*kinds))
            return {each for each, word in enumerate(said) if word in names}

        self._names = naming()
        self._listed = {kind: naming(listed) for listed, kinds in LISTED.items() for kind in kinds}
        self._parting = {each for each, word in enumerate(said) if ":" in word or "," in word or word == "and"}

    def __call__(self, talk: Talk) -> Row:
        """An answer weighs as the root of its length: a long one has more to learn, of a short one a word matters."""
        said = self._tokenizer(
            [talk.system or "", *itertools.chain.from_iterable((turn.question, turn.answer) for turn in talk.turns)],
            add_special_tokens=False,
        ).input_ids
        ids = [self._system, *said[0], self.end] if talk.system else []
        row, picture = Row(talk, ids, [-100] * len(ids), [0.0] * len(ids), [([], [])] * len(ids)), 0
        names: list[int] = []
        before: Places = ()
        for turn, question, answer in zip(talk.turns, said[1::2], said[2::2], strict=True):
            seen = self._picture if turn.picture is not None else []
            picture = len(ids) + 1 + self._first if seen else picture
            words = len(ids) + 1 + len(seen)
            asked, told = [self._user, *seen, *question, self.end, self._assistant], [*answer, self.end]
            it = turn.kind in THIS and turn.picture is None and len(turn.places) == 1 == len(turn.places[0])
            if not it or turn.places != before:  # else the question before named it
                names = [words + at for at, each in enumerate(question) if each in self._names]
            before = turn.places
            ids += asked + told
            row.labels.extend([-100] * len(asked) + told)
            row.weights.extend([0.0] * len(asked) + [len(told) ** -0.5] * len(told))
            looks = self._looks(turn, answer, names, picture, len(ids) - len(told))
            row.looks.extend([([], [])] * (len(asked) - 1) + looks + [([], [])])
        return row

    def _looks(
        self, turn: Turn, answer: list[int], names: list[int], picture: int, begin: int
    ) -> list[tuple[list[int], list[int]]]:
        """Where to look to tell each token of an answer, and its end.

        At the `names` of what was asked about, with those that were told last, and at what comes next: a colon, a comma
        or "and" goes on to the next of the places. `picture` and `begin` are where the picture's and the answer's
        tokens begin.
        """
        left = [[picture + cell for cell in part] for part in turn.places] or [[]]
        listed = self._listed.get(turn.kind, set())
        found, last, now = [], list[int](), list[int]()
        for at, each in enumerate(answer):
            if each in self._parting and len(left) > 1:
                left, last, now = left[1:], now, []
            found.append((names + last, left[0]))
            if each in listed:
                now.append(begin + at)
        return [*found, (names, [])]


def collate(rows: list[Row], end: int, seed: int) -> Batch:
    """Padded on the right with `end`."""
    shape = (len(rows), max(len(row.ids) for row in rows))
    ids, labels, weights = torch.full(shape, end), torch.full(shape, -100), torch.zeros(shape)
    looks = torch.zeros(2, *shape, shape[1])
    for at, row in enumerate(rows):
        for tensor, values in ((ids, row.ids), (labels, row.labels), (weights, row.weights)):
            tensor[at, : len(values)] = torch.tensor(values)
        for place, each in enumerate(row.looks):
            for layer, meant in enumerate(each):
                if meant:
                    looks[layer, at, place, meant] = 1 / len(meant)
    scenes = [scene for row in rows for scene in row.talk.scenes]
    return Batch(ids, labels, weights, looks, Drawing(scenes, seed))


def batches(tokenizer: PreTrainedTokenizerFast, talks: Conversations, source: random.Random) -> Iterator[Batch]:
    """Conversations of like length side by side; all batches cost about the same."""
    encode = Encoder(tokenizer)
    while True:
        rows = sorted((encode(talks.draw()) for _ in range(120)), key=lambda row: len(row.ids))
        groups: list[list[Row]] = [[]]
        for row in rows:
            if groups[-1] and (len(groups[-1]) + 1) * len(row.ids) > LENGTH:
                groups.append([])
            groups[-1].append(row)
        source.shuffle(groups)
        for group in groups:
            yield collate(group, encode.end, source.getrandbits(32))


def drawings(source: random.Random) -> Iterator[Drawing]:
    while True:
        yield Drawing([draw_scene(source) for _ in range(PICTURES)], source.getrandbits(32))
