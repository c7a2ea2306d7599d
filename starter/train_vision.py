"""Trains the vision starter: `python -m starter.train_vision [--minutes N]`. Writes all its files.

A small model that answers questions about simple drawn scenes in Korean and English (`vision_model.py`). First its
language model learns conversations from what is known of the scenes (`symbols.py`), then its tower learns to see in
pictures what is known of them, and at last all of it learns conversations about pictures.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Iterator
from typing import Any

import torch
from transformers import Idefics3ForConditionalGeneration, PreTrainedTokenizerFast

from starter import training
from starter.corpus.vision import Conversations
from starter.patches import Patches
from starter.side_by_side import SideBySide, pairs
from starter.supervised_attention import SupervisedAttention
from starter.symbols import Symbols
from starter.training import fit, seed_everything
from starter.vision_batches import Batch, Drawing, batches, drawings
from starter.vision_model import make_model, make_processor, make_tokenizer, save

MINUTES = 24.0  # of two cores, which are not always both busy: half an hour by the clock
SHARES = (0.36, 0.32, 0.32)  # of the time that the three parts take


class Lesson:
    """What the parts of the training share."""

    def __init__(self, model: Idefics3ForConditionalGeneration, tokenizer: PreTrainedTokenizerFast) -> None:
        self.model = model
        self.patches = Patches(model.config.vision_config.hidden_size)
        self.symbols = Symbols(tokenizer, model.get_input_embeddings())
        self.attention = SupervisedAttention(model.model.text_model)

    def of_symbols(self, batch: Batch) -> torch.Tensor:
        """Loss of conversations about pictures of which all is known."""
        told = self._told(batch, self.symbols.blurred(batch.drawing.scenes, batch.drawing.seed))
        return told + 0.3 * self.attention.loss(batch.looks)

    def of_tower(self, drawing: Drawing) -> torch.Tensor:
        """Loss of pictures against what is known of them."""
        return self._known(drawing, *self._seen(drawing))

    def of_pictures(self, batch: Batch) -> torch.Tensor:
        """Loss of conversations about pictures."""
        features, seen = self._seen(batch.drawing)
        return self._told(batch, seen) + 0.1 * self._known(batch.drawing, features, seen)

    def _seen(self, drawing: Drawing) -> tuple[torch.Tensor, torch.Tensor]:
        """The tower's output and the tokens that the connector makes of it."""
        features = self.model.model.vision_model(drawing.pictures()).last_hidden_state
        return features, self.model.model.connector(features)

    def _known(self, drawing: Drawing, features: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            wanted = self.symbols(drawing.scenes)
        return self.patches.loss(features, drawing.classes()) + (seen - wanted).square().mean() / wanted.var()

    def _told(self, batch: Batch, seen: torch.Tensor) -> torch.Tensor:
        """Of the answers to questions about pictures with the tokens `seen`."""
        model = self.model
        held = model.get_input_embeddings()(batch.ids)
        held = held.masked_scatter((batch.ids == model.config.image_token_id)[..., None], seen.flatten(0, 1))
        states = model.model.text_model(inputs_embeds=held, use_cache=False).last_hidden_state  # padded behind: no mask
        wanted = batch.labels[:, 1:] != -100  # the head is only asked where there is an answer
        logits, weights = model.lm_head(states[:, :-1][wanted]), batch.weights[:, 1:][wanted]
        losses = torch.nn.functional.cross_entropy(logits, batch.labels[:, 1:][wanted], reduction="none")
        return (losses * weights).sum() / weights.sum()


def learn(lesson: Lesson, tokenizer: PreTrainedTokenizerFast, options: argparse.Namespace) -> None:
    """The three parts."""
    model = lesson.model
    language = torch.nn.ModuleList([model.model.text_model, lesson.symbols])  # the head's weights are the embeddings'
    sight = torch.nn.ModuleList([model.model.vision_model, model.model.connector, lesson.patches])
    talks = batches(tokenizer, Conversations(random.Random("train")), random.Random("pictures"))
    drawn = drawings(random.Random("patches"))

    def part(module: torch.nn.Module, loss: Any, given: Iterator[Any], peak: float, share: float, end: float) -> None:
        side_by_side = SideBySide(module, loss, options.threads)
        fit(module, pairs(given), side_by_side, options.steps, peak, options.minutes * share, end)

    # what is learnt at low rates is lost when another part begins at a high one: only the last ends at a low one
    with lesson.attention:
        part(language, lesson.of_symbols, talks, 1.3e-3, SHARES[0], end=0.5)
    part(sight, lesson.of_tower, drawn, 1.5e-3, SHARES[1], end=0.5)
    part(torch.nn.ModuleList([model, lesson.patches]), lesson.of_pictures, talks, 1e-3, SHARES[2], end=0.01)


def main() -> None:
    parser = training.options(__doc__ or "", "vision", 20_000)
    parser.set_defaults(minutes=MINUTES)
    options = parser.parse_args()
    seed_everything(29, options.threads)
    talks = Conversations(random.Random("words"), easy_first=False)
    texts = [text for _ in range(4000) for turn in talks.draw().turns for text in (turn.question, turn.answer)]
    processor = make_processor(make_tokenizer(texts, 1280))
    model = make_model(processor.tokenizer)
    print(f"{model.num_parameters():,} parameters", flush=True)
    learn(Lesson(model, processor.tokenizer), processor.tokenizer, options)
    save(model, processor, options.out)
    print(f"trained in {time.process_time() / 60:.1f} minutes of a processor")


if __name__ == "__main__":
    main()
