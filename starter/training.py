"""What the three training scripts share: seeding, the schedule, and writing a model directory."""

from __future__ import annotations

import argparse
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
CORES = 2  # that the time is meant for
WARM_UP = 0.06  # share of the training


def seed_everything(seed: int, threads: int = 2) -> random.Random:
    """Seeds torch and sets its threads; returns the random source of the corpus."""
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    return random.Random(seed)


def rate(done: float, peak: float, end: float = 0.01) -> float:
    """Learning rate when `done` (0 to 1) of the training is over.

    Linear warm-up to the peak, then half a cosine to `end` of it.
    """
    if done < WARM_UP:
        return peak * (0.01 + 0.99 * done / WARM_UP)
    return peak * (end + (1 - end) * 0.5 * (1 + math.cos(math.pi * (done - WARM_UP) / (1 - WARM_UP))))


def fit(
    model: torch.nn.Module,
    batches: Iterator[object],
    loss_of: Callable[[object], torch.Tensor],
    steps: int,
    peak: float,
    minutes: float = math.inf,
    end: float = 0.01,
) -> float:
    """Trains `model` for `steps` batches with AdamW; returns the seconds it took.

    The learning rate comes down to `end` of its peak, a large share where another part of a training follows. On a slow
    machine it ends after `minutes` of all cores with fewer steps, the learning rate having come down all the same. Time
    that others take of a shared machine does not count.
    """
    began, used = time.monotonic(), time.process_time()
    decayed = [weight for weight in model.parameters() if weight.ndim > 1]
    others = [weight for weight in model.parameters() if weight.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.02}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=peak, betas=(0.9, 0.98), fused=True)
    model.train()
    running = 0.0
    for step in range(steps):
        done = max(step / steps, (time.process_time() - used) / CORES / 60 / minutes)
        if done >= 1:
            print(f"ended after {step} steps", flush=True)
            break
        for group in optimizer.param_groups:
            group["lr"] = rate(done, peak, end)
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


def options(about: str, name: str, steps: int) -> argparse.ArgumentParser:
    """The options that the training scripts share; `name` is the directory they write."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--steps", type=int, default=steps)
    parser.add_argument(
        "--minutes", type=float, default=30.0, help="end after these of two cores, with fewer steps where need be"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=HERE / name)
    return parser


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
