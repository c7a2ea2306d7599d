"""What the tower of the vision starter is told while it trains: what lies under each patch."""

from __future__ import annotations

import numpy as np
import torch

from starter.scenes import BACKGROUNDS, COLOURS, SHAPES, Scene
from starter.vision_model import GRID


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
