"""An encoder-decoder of 60 million parameters with random weights, in the shape of T5-small, as a models directory."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import T5Config, T5ForConditionalGeneration

from bench.llama import make_tokenizer_of

VOCABULARY = 32128


def lay_out(root: Path) -> None:
    """Writes `root/t5`."""
    torch.manual_seed(0)
    tokenizer = make_tokenizer_of(VOCABULARY)
    config = T5Config(
        vocab_size=VOCABULARY, d_model=512, d_kv=64, d_ff=2048, num_layers=6, num_heads=8,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
        decoder_start_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    tokenizer.save_pretrained(root / "t5")
    T5ForConditionalGeneration(config).eval().save_pretrained(root / "t5")
