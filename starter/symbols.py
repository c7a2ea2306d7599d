"""A picture's tokens as they would be if all that is in the picture were known.

The language model learns from these first: they cost no tower, and are right from the first step. Then the tower and
the connector learn to give the same for pictures.
"""

from __future__ import annotations

import math

import torch
from transformers import PreTrainedTokenizerFast

from starter.corpus import vision_words as words
from starter.scenes import BACKGROUNDS, COLOURS, SHAPES, Scene
from starter.vision_model import TOKENS

_MIDDLING, _SPREAD = 0.134, 0.22  # of radii as shares of a picture's side; standard deviation of their logarithms
_NOISE = 0.05  # deviation of what is added to the sums: what is seen is never quite as it is known


def known(scene: Scene | None) -> tuple[list[tuple[int, int, int]], list[float]]:
    """Of each token: shape, colour and background, as numbers; and the size of the thing.

    Shape, colour: 0 for none; background: 0 for clutter. Size: logarithm of the radius against a middling one, so that
    what is clearly larger differs as much among small things as among large ones; 0 for none.
    """
    background = 0 if scene is None else 1 + list(BACKGROUNDS).index(scene.background)
    found, sizes = [(0, 0, background)] * TOKENS, [0.0] * TOKENS
    for one in scene.things if scene else ():
        found[one.cell] = (SHAPES.index(one.shape) + 1, list(COLOURS).index(one.colour) + 1, background)
        sizes[one.cell] = math.log(one.radius / _MIDDLING) / _SPREAD
    return found, sizes


class Symbols(torch.nn.Module):
    """Sums of the embeddings of the words, in both languages, that name what is in a place and the place.

    A word of a question so finds by its own embedding what it names. Backgrounds and sizes have vectors of their own.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, embeddings: torch.nn.Embedding) -> None:
        super().__init__()

        def table(rows: list[list[str]]) -> torch.Tensor:
            """(rows, vocabulary) what of a word's embedding goes into a row's sum: as long as one embedding."""
            found = torch.zeros(len(rows), len(tokenizer))
            for row, named in enumerate(rows):
                for word in named:
                    found[row, tokenizer.encode(word, add_special_tokens=False)[0]] = len(named) ** -0.5
            return found

        self._words = [
            table([[], *([name, words.SHAPES[name][0]] for name in SHAPES)]),
            table([[], *([name, words.root(words.COLOURS[name][0])] for name in COLOURS)]),
            table([words.naming(f"{words.PLACES['ko'][at]} {words.PLACES['en'][at]}") for at in range(TOKENS)]),
        ]
        self.embeddings = embeddings
        width, spread = embeddings.embedding_dim, embeddings.weight.detach().std().item()
        self.background = torch.nn.Embedding(len(BACKGROUNDS) + 1, width)
        self.size = torch.nn.Linear(1, width, bias=False)
        for weights in (self.background.weight, self.size.weight):
            torch.nn.init.normal_(weights, std=spread)

    def forward(self, scenes: list[Scene | None]) -> torch.Tensor:
        """(scenes, tokens, width)."""
        found = [known(scene) for scene in scenes]
        cells, sizes = torch.tensor([each for each, _ in found]), torch.tensor([each for _, each in found])
        shapes, colours, places = (table @ self.embeddings.weight for table in self._words)
        shape, colour, background = cells.unbind(-1)
        told: torch.Tensor = shapes[shape] + colours[colour] + self.background(background) + places
        return told + self.size(sizes[..., None])

    def blurred(self, scenes: list[Scene | None], seed: int) -> torch.Tensor:
        """The same with noise."""
        told = self(scenes)
        return told + _NOISE * torch.randn(told.shape, generator=torch.Generator().manual_seed(seed))
