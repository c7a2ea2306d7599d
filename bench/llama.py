"""A LLaMA of 135 million parameters with random weights, as a models directory: safetensors, GGUF q8_0 and ONNX.

The shape is that of SmolLM2-135M. Weights do not change how long a token takes; that the text means nothing does not
matter here.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from starter.corpus.chat import Conversations
from starter.export_chat import write_gguf, write_onnx
from starter.train_chat import make_tokenizer

VOCABULARY = 49152


def make_tokenizer_of(count: int) -> PreTrainedTokenizerFast:
    """Of `count` tokens; all but the first 3,000 are words of the kind `w123`."""
    talks = Conversations(random.Random(1))
    tokenizer = make_tokenizer([message["content"] for _ in range(2000) for message in talks.draw()], 3072)
    parts = json.loads(tokenizer.backend_tokenizer.to_str())
    words = parts["model"]["vocab"]
    words |= {f"Ġw{number}": number for number in range(len(words), count)}  # each token a word that is seen
    filled = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(parts)), eos_token="<|end|>", pad_token="<|end|>"
    )
    filled.chat_template = tokenizer.chat_template
    return filled


def lay_out(root: Path) -> None:
    """Writes `root/llama`, `root/llama-gguf` and `root/llama-onnx`."""
    torch.manual_seed(0)
    tokenizer = make_tokenizer_of(VOCABULARY)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
        num_key_value_heads=3, max_position_embeddings=2048, tie_word_embeddings=True, bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.eos_token_id, attn_implementation="eager",
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.eos_token_id)
    for name in ("llama", "llama-onnx", "llama-gguf"):
        tokenizer.save_pretrained(root / name)
        model.config.save_pretrained(root / name)
        model.generation_config.save_pretrained(root / name)
    model.save_pretrained(root / "llama")
    write_gguf(model, tokenizer, root / "llama-gguf" / "llama-q8_0.gguf")
    with torch.no_grad():
        write_onnx(model, root / "llama-onnx" / "onnx" / "model.onnx")
