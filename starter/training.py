"""What the three training scripts share: seeding, the schedule, and writing a model directory."""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

HERE = Path(__file__).parent
SPECIALS = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
WARM_UP = 0.06  # share of the steps


def seed_everything(seed: int, threads: int = 2) -> random.Random:
    """Seeds torch and sets its threads; returns the random source of the corpus."""
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    return random.Random(seed)


def rate(step: int, steps: int, peak: float) -> float:
    """Learning rate: linear warm-up, then a half cosine down to 1 % of the peak."""
    warm = max(1, round(steps * WARM_UP))
    if step < warm:
        return peak * (step + 1) / warm
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - warm) / (steps - warm))))


def fit(
    model: torch.nn.Module,
    batches: Iterator[object],
    loss_of: Callable[[object], torch.Tensor],
    steps: int,
    peak: float,
) -> float:
    """Trains `model` for `steps` batches with AdamW; returns the seconds it took."""
    began = time.monotonic()
    decayed = [weight for weight in model.parameters() if weight.ndim > 1]
    others = [weight for weight in model.parameters() if weight.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.02}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=peak, betas=(0.9, 0.98))
    model.train()
    running = 0.0
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate(step, steps, peak)
        loss = loss_of(next(batches))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        running = 0.95 * running + 0.05 * loss.item() if step else loss.item()
        if step % 100 == 0:
            print(f"step {step}/{steps} loss {running:.4f} {time.monotonic() - began:.0f} s", flush=True)
    model.eval()
    return time.monotonic() - began


def wrap(tokenizer: Tokenizer, length: int) -> PreTrainedTokenizerFast:
    """A fast tokenizer that AutoTokenizer loads, `length` tokens at most."""
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=length, **SPECIALS)


def random_positions(ids: torch.Tensor, limit: int, source: random.Random) -> torch.Tensor:
    """Positions (batch, length) that begin anywhere, so that short sentences train every position."""
    start = source.randint(0, max(0, limit - ids.shape[1])) if source.random() < 0.5 else 0
    return torch.arange(start, start + ids.shape[1]).expand_as(ids)


def save(model: torch.nn.Module, tokenizer: PreTrainedTokenizerFast, directory: Path) -> None:
    """Writes config, safetensors and tokenizer.json, readable by everyone."""
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    (directory / "model.safetensors").chmod(0o644)
    settings = directory / "tokenizer_config.json"
    values = json.loads(settings.read_text(encoding="utf-8"))
    values["tokenizer_class"] = "PreTrainedTokenizerFast"  # the name that transformers 4 knows too
    settings.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
