"""Trains the vision starter: `python -m starter.train_vision [--minutes N]`. Writes all its files.

A small model that answers questions about simple drawn scenes in Korean and English (`vision_model.py`). First its
tower learns what lies under each patch, then all of it learns conversations.
"""

from __future__ import annotations

import argparse
import itertools
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import Idefics3ForConditionalGeneration, Idefics3Processor, PreTrainedTokenizerFast

from starter import training
from starter.corpus.vision import Conversations, Talk
from starter.grounding import Patches, Words, under_patches
from starter.scenes import Scene, draw_scene, paint, paint_clutter
from starter.side_by_side import SideBySide, pairs
from starter.training import fit, seed_everything
from starter.vision_model import (
    AROUND,
    GLOBAL,
    IMAGE,
    SIDE,
    TOKENS,
    make_model,
    make_processor,
    make_tokenizer,
    save,
)

PICTURES, LENGTH = 20, 800  # of a batch: pictures in the first part, tokens in the second; a step takes two batches
MINUTES = 26.0  # of two cores, which are not always both busy
TOWER_SHARE = 0.16  # of the time that the first part takes


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
class Batch:
    """Conversations side by side: ids, labels and what each label weighs (rows, length); their scenes in order."""

    ids: torch.Tensor
    labels: torch.Tensor
    weights: torch.Tensor
    drawing: Drawing


def encode(tokenizer: PreTrainedTokenizerFast, talk: Talk) -> tuple[list[int], list[int], list[float]]:
    """Ids; as labels the ids of the answers with their ends, -100 elsewhere; and what each label weighs.

    An answer weighs as the root of its length: a long one has more to learn, but what matters of a short one is a word.
    """
    around, image, tag, system, user, assistant = tokenizer.convert_tokens_to_ids(
        [AROUND, IMAGE, GLOBAL, "<|system|>", "<|user|>", "<|assistant|>"]
    )
    end, picture = tokenizer.eos_token_id, [around, tag, *[image] * TOKENS, around]
    said = tokenizer(
        [talk.system or "", *itertools.chain.from_iterable((turn.question, turn.answer) for turn in talk.turns)],
        add_special_tokens=False,
    ).input_ids
    ids = [system, *said[0], end] if talk.system else []
    labels, weights = [-100] * len(ids), [0.0] * len(ids)
    for turn, question, answer in zip(talk.turns, said[1::2], said[2::2], strict=True):
        seen = picture if turn.picture is not None else []
        asked, told = [user, *seen, *question, end, assistant], [*answer, end]
        ids += asked + told
        labels += [-100] * len(asked) + told
        weights += [0.0] * len(asked) + [len(told) ** -0.5] * len(told)
    return ids, labels, weights


def batches(tokenizer: PreTrainedTokenizerFast, talks: Conversations, source: random.Random) -> Iterator[Batch]:
    """Conversations of like length side by side, padded on the right; all batches cost about the same."""
    while True:
        rows = [(talk, *encode(tokenizer, talk)) for talk in (talks.draw() for _ in range(120))]
        rows.sort(key=lambda row: len(row[1]))
        groups: list[list[Any]] = [[]]
        for row in rows:
            if groups[-1] and (len(groups[-1]) + 1) * len(row[1]) > LENGTH:
                groups.append([])
            groups[-1].append(row)
        source.shuffle(groups)
        for group in groups:
            shape = (len(group), len(group[-1][1]))
            tensors = torch.full(shape, tokenizer.eos_token_id), torch.full(shape, -100), torch.zeros(shape)
            for row, (_, *own) in enumerate(group):
                for tensor, values in zip(tensors, own, strict=True):
                    tensor[row, : len(values)] = torch.tensor(values)
            scenes = [scene for talk, *_ in group for scene in talk.scenes]
            yield Batch(*tensors, Drawing(scenes, source.getrandbits(32)))


def drawings(source: random.Random) -> Iterator[Drawing]:
    while True:
        yield Drawing([draw_scene(source) for _ in range(PICTURES)], source.getrandbits(32))


def loss_of(model: Idefics3ForConditionalGeneration, patches: Patches, named: Words, batch: Batch) -> torch.Tensor:
    features, classes = model.model.vision_model(batch.drawing.pictures()).last_hidden_state, batch.drawing.classes()
    held = model.get_input_embeddings()(batch.ids)
    seen = model.model.connector(features)
    held = held.masked_scatter((batch.ids == model.config.image_token_id)[..., None], seen.flatten(0, 1))
    states = model.model.text_model(inputs_embeds=held, use_cache=False).last_hidden_state  # padded behind: no mask
    wanted = batch.labels[:, 1:] != -100  # the head is only asked where there is an answer
    logits = model.lm_head(states[:, :-1][wanted])
    weights = batch.weights[:, 1:][wanted]
    losses = torch.nn.functional.cross_entropy(logits, batch.labels[:, 1:][wanted], reduction="none")
    told = (losses * weights).sum() / weights.sum()
    return told + 0.1 * patches.loss(features, classes) + 0.1 * named.loss(model.lm_head(seen), classes)


def learn_patches(model: Idefics3ForConditionalGeneration, patches: Patches, options: argparse.Namespace) -> None:
    """The first part: what is under each patch."""
    tower = model.model.vision_model
    both = torch.nn.ModuleList([tower, patches])

    def loss(drawing: Drawing) -> torch.Tensor:
        return patches.loss(tower(drawing.pictures()).last_hidden_state, drawing.classes())

    drawn = pairs(drawings(random.Random("patches")))
    side_by_side = SideBySide(both, loss, options.threads)
    fit(both, drawn, side_by_side, options.steps, 1.5e-3, options.minutes * TOWER_SHARE)


def learn_talks(
    model: Idefics3ForConditionalGeneration,
    processor: Idefics3Processor,
    patches: Patches,
    options: argparse.Namespace,
) -> None:
    """The second part: conversations."""
    both, named = torch.nn.ModuleList([model, patches]), Words(processor.tokenizer)
    side_by_side = SideBySide(both, lambda batch: loss_of(model, patches, named, batch), options.threads)
    talks = batches(processor.tokenizer, Conversations(random.Random("train")), random.Random("pictures"))
    fit(both, pairs(talks), side_by_side, options.steps, 1.3e-3, options.minutes * (1 - TOWER_SHARE))
    save(model, processor, options.out)


def main() -> None:
    parser = training.options(__doc__ or "", "vision", 12_000)
    parser.set_defaults(minutes=MINUTES)
    options = parser.parse_args()
    seed_everything(29, options.threads)
    talks = Conversations(random.Random("words"))
    texts = [text for _ in range(4000) for turn in talks.draw().turns for text in (turn.question, turn.answer)]
    processor = make_processor(make_tokenizer(texts, 1280))
    model = make_model(processor.tokenizer)
    print(f"{model.num_parameters():,} parameters", flush=True)
    patches = Patches(model.config.vision_config.hidden_size)
    learn_patches(model, patches, options)
    learn_talks(model, processor, patches, options)
    print(f"trained in {time.process_time() / 60:.1f} minutes of a processor")


if __name__ == "__main__":
    main()
