"""From a tile's patches, as the tower sees them, to tokens of the text model. Modules have the checkpoint's names."""

from __future__ import annotations

from collections import OrderedDict
from math import isqrt

import torch
from torch import Tensor, nn

_DEPTH = 3  # blocks of a stage
_NORM_EPSILON = 1e-5  # of the norms after convolutions
_PRENORM_EPSILON = 1e-6
_POSITION_STD = 0.02


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of (tiles, channels, height, width)."""

    def forward(self, pixels: Tensor) -> Tensor:
        return super().forward(pixels.movedim(1, -1)).movedim(-1, 1)


class Convolution(nn.Module):
    """A convolution without bias, and its norm."""

    def __init__(self, width: int, kernel: int, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=groups, bias=False)
        self.bn = ChannelNorm(width, eps=_NORM_EPSILON)

    def forward(self, pixels: Tensor) -> Tensor:
        normed: Tensor = self.bn(self.conv(pixels))
        return normed


class SqueezeExcitation(nn.Module):
    """Weighs each channel by what all of them are like on the whole tile."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(width, round(width / 4), 1)
        self.fc2 = nn.Conv2d(round(width / 4), width, 1)

    def forward(self, pixels: Tensor) -> Tensor:
        mean = pixels.mean((2, 3), keepdim=True)
        return pixels * torch.sigmoid(self.fc2(nn.functional.silu(self.fc1(mean))))


class Block(nn.Module):
    """A RegNet block of one width: the middle convolution looks at each channel alone."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = Convolution(width, 1)
        self.conv2 = Convolution(width, 3, groups=width)
        self.se = SqueezeExcitation(width)
        self.conv3 = Convolution(width, 1)

    def forward(self, pixels: Tensor) -> Tensor:
        inner = nn.functional.silu(self.conv1(pixels))
        inner = nn.functional.silu(self.conv2(inner))
        return nn.functional.silu(self.conv3(self.se(inner)) + pixels)


def stage(width: int) -> nn.Sequential:
    return nn.Sequential(OrderedDict((f"b{index + 1}", Block(width)) for index in range(_DEPTH)))


class CAbstractor(nn.Module):
    """Honeybee's: convolutions, pooling to fewer places, convolutions, two linear layers.

    Takes (tiles, patches, width), gives (tiles, queries, out).
    """

    def __init__(
        self, patches: int, queries: int, width: int, out: int, *, positions: bool = True, prenorm: bool = False
    ) -> None:
        super().__init__()
        self.pos_emb = nn.Parameter(torch.zeros(1, patches, width)) if positions else None
        self.prenorm = nn.LayerNorm(width, eps=_PRENORM_EPSILON) if prenorm else None
        self.net = nn.Sequential(stage(width), nn.AdaptiveAvgPool2d(isqrt(queries)), stage(width))
        self.readout = nn.Sequential(nn.Linear(width, out), nn.SiLU(), nn.Linear(out, out))

    def reset_positions(self) -> None:
        if self.pos_emb is not None:
            nn.init.normal_(self.pos_emb, std=_POSITION_STD)

    def forward(self, features: Tensor) -> Tensor:
        if self.prenorm is not None:
            features = self.prenorm(features)
        if self.pos_emb is not None:
            features = features + self.pos_emb
        edge = isqrt(features.shape[1])
        pixels = features.movedim(-1, 1).unflatten(-1, (edge, edge))
        tokens: Tensor = self.readout(self.net(pixels).flatten(2).movedim(1, -1))
        return tokens


class Mlp(nn.Module):
    """Two linear layers; (tiles, patches, width) to (tiles, patches, out)."""

    def __init__(self, width: int, hidden: int, out: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, out)

    def forward(self, features: Tensor) -> Tensor:
        tokens: Tensor = self.fc2(nn.functional.gelu(self.fc1(features)))
        return tokens
