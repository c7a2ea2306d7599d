"""Trains the vision starter: `python -m starter.train_vision [--minutes N]`. Writes all its files.

An Idefics3 (the architecture of SmolVLM): a tower of patches, a connector that makes 9 tokens of a picture, and a
small LLaMA that answers questions about simple drawn scenes in Korean and English. First the tower learns what lies
under each of its patches, then all of it learns conversations, at last with more of the questions that are hard.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    GenerationConfig,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessorPil,
    Idefics3Processor,
    PreTrainedTokenizerFast,
)  # fmt: skip

from starter import training
from starter.corpus import vision_words as words
from starter.corpus.vision import LOOKING, Conversations, Talk
from starter.mimetic import initialize
from starter.scenes import BACKGROUNDS, COLOURS, SHAPES, Scene, draw_scene, paint, paint_clutter
from starter.side_by_side import SideBySide, pairs
from starter.training import fit, seed_everything

SIDE, PATCH, SHUFFLE = 108, 12, 3  # pixels, pixels, patches that make a token's side
GRID = SIDE // PATCH
TOKENS = (GRID // SHUFFLE) ** 2  # of a picture
CONTEXT = 2048
END, IMAGE, AROUND, GLOBAL = "<end_of_utterance>", "<image>", "<fake_token_around_image>", "<global-img>"
SPECIALS = (END, IMAGE, AROUND, GLOBAL, "<|system|>", "<|user|>", "<|assistant|>")
TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}{% if part['type'] == 'text' %}{{ part['text'] }}"
    "{% elif part['type'] == 'image' %}<image>{% endif %}{% endfor %}{% endif %}"
    "<end_of_utterance>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
PICTURES, LENGTH = 20, 800  # of a batch: pictures in the first part, tokens in the second; a step takes two batches
TOWER_SHARE = 0.19  # of the time that the first part takes


def make_tokenizer(texts: list[str], size: int) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=size, special_tokens=list(SPECIALS), initial_alphabet=alphabet)
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=END, pad_token=END, model_max_length=CONTEXT,
        additional_special_tokens=list(SPECIALS[1:]),
    )  # fmt: skip


def make_processor(tokenizer: PreTrainedTokenizerFast) -> Idefics3Processor:
    pictures = Idefics3ImageProcessorPil(
        do_image_splitting=False, size={"longest_edge": 2 * SIDE}, max_image_size={"longest_edge": SIDE}
    )
    return Idefics3Processor(pictures, tokenizer, image_seq_len=TOKENS, chat_template=TEMPLATE)


def make_model(tokenizer: PreTrainedTokenizerFast) -> Idefics3ForConditionalGeneration:
    end = tokenizer.eos_token_id
    config = Idefics3Config(
        image_token_id=tokenizer.convert_tokens_to_ids(IMAGE), scale_factor=SHUFFLE, tie_word_embeddings=True,
        pad_token_id=end,
        vision_config={
            "hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 4, "num_attention_heads": 4,
            "image_size": SIDE, "patch_size": PATCH,
        },
        text_config={
            "model_type": "llama", "vocab_size": len(tokenizer), "hidden_size": 192, "intermediate_size": 512,
            "num_hidden_layers": 4, "num_attention_heads": 6, "num_key_value_heads": 3, "rms_norm_eps": 1e-6,
            "max_position_embeddings": CONTEXT, "tie_word_embeddings": True,
            "bos_token_id": None, "eos_token_id": end, "pad_token_id": end,
        },
    )  # fmt: skip
    model = Idefics3ForConditionalGeneration(config)
    initialize(model)
    model.generation_config = GenerationConfig(eos_token_id=end, pad_token_id=end, bos_token_id=None)
    return model


def pixels(picture: Image.Image) -> np.ndarray:
    """The picture (3, side, side) in -1 to 1, as the processor makes it, but with one resizing instead of two."""
    small = picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    return (np.asarray(small, dtype=np.float32) / 127.5 - 1).transpose(2, 0, 1)


def under_patches(scene: Scene | None) -> np.ndarray:
    """(4, patches) classes: shape and colour of the thing over each patch (0 for none), whether its centre lies there
    (1), and the background's number; -100 for all of clutter."""
    found = np.zeros((4, GRID, GRID), dtype=np.int64)
    if scene is None:
        return np.full((4, GRID * GRID), -100)
    found[3] = list(BACKGROUNDS).index(scene.background)
    middle = (np.arange(GRID) + 0.5) / GRID
    for thing in scene.things:
        near = 0.95 * max(thing.radius, 0.5 / GRID)
        over = (abs(middle[:, None] - thing.y) < near) & (abs(middle[None] - thing.x) < near)
        found[0][over] = SHAPES.index(thing.shape) + 1
        found[1][over] = list(COLOURS).index(thing.colour) + 1
        found[2][int(thing.y * GRID), int(thing.x * GRID)] = 1
    return found.reshape(4, -1)


class Patches(torch.nn.Module):
    """Reads from the tower's output what is under each patch; only there for training."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.sizes = (len(SHAPES) + 1, len(COLOURS) + 1, 2, len(BACKGROUNDS))
        self.read = torch.nn.Linear(width, sum(self.sizes))
        self.weights = [torch.ones(size) for size in self.sizes]
        for weights in self.weights[:2]:
            weights[0] = 0.05  # most patches are empty; what counts is to tell apart what is in the others

    def loss(self, features: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        """Of features (pictures, patches, width) against classes (pictures, 4, patches)."""
        parts = self.read(features).split(self.sizes, dim=-1)
        losses = [
            torch.nn.functional.cross_entropy(part.flatten(0, 1), classes[:, at].flatten(), self.weights[at])
            for at, part in enumerate(parts)
        ]
        return losses[0] + losses[1] + 4 * losses[2] + 0.3 * losses[3]


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
    """Conversations side by side: ids and labels (rows, length), and their scenes in reading order."""

    ids: torch.Tensor
    labels: torch.Tensor
    drawing: Drawing


def encode(tokenizer: PreTrainedTokenizerFast, talk: Talk) -> tuple[list[int], list[int]]:
    """Ids, and as labels the ids of the answers with their ends, -100 elsewhere."""
    around, image, tag, system, user, assistant = tokenizer.convert_tokens_to_ids(
        [AROUND, IMAGE, GLOBAL, "<|system|>", "<|user|>", "<|assistant|>"]
    )
    end, picture = tokenizer.eos_token_id, [around, tag, *[image] * TOKENS, around]
    said = tokenizer(
        [talk.system or "", *itertools.chain.from_iterable((turn.question, turn.answer) for turn in talk.turns)],
        add_special_tokens=False,
    ).input_ids
    ids = [system, *said[0], end] if talk.system else []
    labels = [-100] * len(ids)
    for turn, question, answer in zip(talk.turns, said[1::2], said[2::2], strict=True):
        seen = picture if turn.picture is not None else []
        asked = [user, *seen, *question, end] if turn.picture_first else [user, *question, *seen, end]
        ids += [*asked, assistant, *answer, end]
        labels += [*[-100] * (len(asked) + 1), *answer, end]
    return ids, labels


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
            ids, labels = torch.full(shape, tokenizer.eos_token_id), torch.full(shape, -100)
            for row, (_, own, wanted) in enumerate(group):
                ids[row, : len(own)], labels[row, : len(own)] = torch.tensor(own), torch.tensor(wanted)
            scenes = [scene for talk, _, _ in group for scene in talk.scenes]
            yield Batch(ids, labels, Drawing(scenes, source.getrandbits(32)))


def drawings(source: random.Random) -> Iterator[Drawing]:
    while True:
        yield Drawing([draw_scene(source) for _ in range(PICTURES)], source.getrandbits(32))


class Words:
    """Draws each token of a picture towards the embeddings of the words for what is centred there, in both languages.

    The head reads words from the tokens as from any other place: grounding begins there, not with chance.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        named = [(SHAPES, words.SHAPES), (list(COLOURS), words.COLOURS)]
        self._ids = [
            torch.tensor([[-1, -1], *([_first(tokenizer, name), _first(tokenizer, korean[name][0])] for name in names)])
            for names, korean in named
        ]

    def loss(self, logits: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        """Of the head's logits (pictures, tokens, vocabulary) against classes (pictures, 4, patches)."""
        centres = classes[:, :2] * (classes[:, 2:3] == 1)  # what reaches over from elsewhere is not named here
        blocks = centres.reshape(-1, 2, GRID // SHUFFLE, SHUFFLE, GRID // SHUFFLE, SHUFFLE)
        inside = blocks.amax(dim=(3, 5)).flatten(2).clamp(min=0)  # (pictures, 2, tokens)
        there = (inside > 0).all(1)
        scores = logits[there].log_softmax(-1)
        wanted = torch.cat([ids[inside[:, at][there]] for at, ids in enumerate(self._ids)], dim=-1)
        return -scores.gather(-1, wanted).mean() if len(scores) else logits.sum() * 0


def _first(tokenizer: PreTrainedTokenizerFast, word: str) -> int:
    return int(tokenizer.encode(" " + word, add_special_tokens=False)[0])


def loss_of(model: Idefics3ForConditionalGeneration, patches: Patches, named: Words, batch: Batch) -> torch.Tensor:
    features, classes = model.model.vision_model(batch.drawing.pictures()).last_hidden_state, batch.drawing.classes()
    held = model.get_input_embeddings()(batch.ids)
    seen = model.model.connector(features)
    held = held.masked_scatter((batch.ids == model.config.image_token_id)[..., None], seen.flatten(0, 1))
    states = model.model.text_model(inputs_embeds=held, use_cache=False).last_hidden_state  # padded behind: no mask
    wanted = batch.labels[:, 1:] != -100  # the head is only asked where there is an answer
    logits = model.lm_head(states[:, :-1][wanted])
    told = torch.nn.functional.cross_entropy(logits, batch.labels[:, 1:][wanted])
    return told + 0.1 * patches.loss(features, classes) + 0.1 * named.loss(model.lm_head(seen), classes)


def save(model: Idefics3ForConditionalGeneration, processor: Idefics3Processor, directory: Path) -> None:
    training.save(model, processor.tokenizer, directory)
    processor.save_pretrained(directory)
    settings = directory / "tokenizer_config.json"
    values = json.loads(settings.read_text(encoding="utf-8"))
    values["tokenizer_class"] = "PreTrainedTokenizerFast"  # the name that transformers 4 knows too
    settings.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Part:
    """Of the conversations."""

    name: str
    talks: Conversations
    rate: float  # of learning, at its peak
    share: float  # of the time


def parts() -> tuple[Part, ...]:
    """All kinds of questions, then more of those that are hard."""
    return (
        Part("pictures", Conversations(random.Random("train")), 1.3e-3, 0.54),
        Part("lookups", Conversations(random.Random("lookups"), LOOKING, few=()), 1e-3, 0.27),
    )


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
    part: Part,
) -> None:
    """The second and the third part: conversations."""
    both, named = torch.nn.ModuleList([model, patches]), Words(processor.tokenizer)
    side_by_side = SideBySide(both, lambda batch: loss_of(model, patches, named, batch), options.threads)
    talks = batches(processor.tokenizer, part.talks, random.Random(part.name))
    fit(both, pairs(talks), side_by_side, options.steps, part.rate, options.minutes * part.share)
    save(model, processor, options.out)


def main() -> None:
    parser = training.options(__doc__ or "", "vision", 6000)
    options = parser.parse_args()
    seed_everything(29, options.threads)
    talks = Conversations(random.Random("words"))
    texts = [text for _ in range(4000) for turn in talks.draw().turns for text in (turn.question, turn.answer)]
    processor = make_processor(make_tokenizer(texts, 1280))
    model = make_model(processor.tokenizer)
    print(f"{model.num_parameters():,} parameters", flush=True)
    patches = Patches(model.config.vision_config.hidden_size)
    learn_patches(model, patches, options)
    for part in parts():
        learn_talks(model, processor, patches, options, part)
    print(f"trained in {time.process_time() / 60:.1f} minutes of a processor")


if __name__ == "__main__":
    main()
