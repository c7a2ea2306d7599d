"""Attention that begins as trained attention looks: each place attends to itself and to what is like it.

Mimetic initialization (Trockman and Kolter, 2023, "Mimetic Initialization of Self-Attention Layers"). With sine and
cosine positions a place of a picture sees its neighbours from the first step; a word finds what it names in a picture,
whose tokens are drawn towards the embeddings of such words (`symbols.py`). Both take long to learn from random weights.
"""

from __future__ import annotations

import math

import torch
from transformers import Idefics3ForConditionalGeneration


@torch.no_grad()
def initialize(model: Idefics3ForConditionalGeneration) -> None:
    """Sets the weights of the tower and how words attend to each other; seeded by torch's own seed."""
    tower, config = model.model.vision_model, model.config.vision_config
    for name, weights in tower.named_parameters():
        if name.endswith("bias"):
            weights.zero_()
        elif weights.ndim == 2:
            torch.nn.init.trunc_normal_(weights, std=0.6 / math.sqrt(weights.shape[1]))
    patches = tower.embeddings.patch_embedding.weight
    torch.nn.init.normal_(patches, std=1 / math.sqrt(patches[0].numel()))
    side = config.image_size // config.patch_size
    tower.embeddings.position_embedding.weight.copy_(0.7 * positions(side, config.hidden_size))
    for layer in tower.encoder.layers:
        _tower_attention(layer.self_attn, config.num_attention_heads)
    for layer in model.model.text_model.layers:
        _text_attention(layer.self_attn, model.config.text_config.num_key_value_heads)


def positions(side: int, width: int) -> torch.Tensor:
    """(side * side, width) sines and cosines of column and row, from half a wave over the picture to 3 patches."""
    rows, columns = torch.meshgrid(torch.arange(side) + 0.5, torch.arange(side) + 0.5, indexing="ij")
    waves = math.pi / side * torch.exp(torch.linspace(math.log(0.5), math.log(side / 1.5), width // 4))
    turns = [place.flatten()[:, None] * waves for place in (columns, rows)]
    return torch.cat([part for turn in turns for part in (turn.sin(), turn.cos())], dim=1)


def _tower_attention(attention: torch.nn.Module, heads: int) -> None:
    """Queries times keys near the identity, values times output near a negative share of it."""
    width = attention.q_proj.weight.shape[1]
    size = width // heads
    for head in range(heads):
        left, scales, right = torch.linalg.svd(0.7 * _noise(width) + 0.7 * torch.eye(width))
        rows, root = slice(head * size, (head + 1) * size), scales[:size].sqrt()
        attention.q_proj.weight[rows] = (left[:, :size] * root).T
        attention.k_proj.weight[rows] = (right[:size].T * root).T
    left, scales, right = torch.linalg.svd(0.4 * _noise(width) - 0.4 * torch.eye(width))
    attention.v_proj.weight.copy_((right.T * scales.sqrt()).T)
    attention.out_proj.weight.copy_(left * scales.sqrt())


def _text_attention(attention: torch.nn.Module, groups: int) -> None:
    """Each group of heads looks at the same directions in queries and keys."""
    width, size = attention.k_proj.weight.shape[1], attention.k_proj.weight.shape[0] // groups
    heads = attention.q_proj.weight.shape[0] // attention.k_proj.weight.shape[0]
    for group in range(groups):
        directions = torch.linalg.qr(torch.randn(width, size))[0].T
        attention.k_proj.weight[group * size : (group + 1) * size] = directions
        rows = slice(group * heads * size, (group + 1) * heads * size)
        attention.q_proj.weight[rows] = directions.repeat(heads, 1)


def _noise(width: int) -> torch.Tensor:
    return torch.randn(width, width) / math.sqrt(width)
