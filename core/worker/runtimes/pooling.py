"""Pooling of token vectors in numpy, as sentence-transformers defines each mode."""

from __future__ import annotations

import numpy as np


def pool(hidden: np.ndarray, mask: np.ndarray, modes: tuple[str, ...], unpooled: np.ndarray) -> np.ndarray:
    """One vector a row, those of several modes side by side.

    `hidden`: (rows, tokens, width); `mask`: 1 for tokens, 0 for padding on the right; `unpooled`: leading tokens of
    each row to leave out.
    """
    places = np.arange(mask.shape[1])
    mask = mask * (places >= unpooled[:, None])
    return np.concatenate([_pool(hidden, mask.astype(np.float32)[..., None], mode) for mode in modes], axis=-1)


def _pool(hidden: np.ndarray, mask: np.ndarray, mode: str) -> np.ndarray:
    """`mask`: float32 (rows, tokens, 1)."""
    if mode == "cls":
        return np.take_along_axis(hidden, mask.argmax(axis=1)[:, None], axis=1)[:, 0]
    if mode == "lasttoken":
        last = mask.shape[1] - 1 - mask[:, ::-1].argmax(axis=1)
        return np.take_along_axis(hidden * mask, last[:, None], axis=1)[:, 0]
    if mode == "max":
        return np.where(mask > 0, hidden, -np.inf).max(axis=1)
    weights = mask
    if mode == "weightedmean":
        weights = mask * np.arange(1, mask.shape[1] + 1, dtype=np.float32)[None, :, None]
    total = np.maximum(weights.sum(axis=1), 1e-9)
    return (hidden * weights).sum(axis=1) / (np.sqrt(total) if mode == "mean_sqrt_len_tokens" else total)
