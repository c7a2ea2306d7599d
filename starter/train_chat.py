"""Trains the chat starter: `python -m starter.train_chat [--steps N]`. Writes safetensors, GGUF (q8_0) and ONNX.

A small LLaMA over byte-level BPE pieces that learns to answer questions about using this server, in Korean and
English, and to say that it does not know the rest.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from starter import training
from starter.corpus.chat import Conversations
from starter.training import HERE, fit, seed_everything

DIRECTORY = HERE / "chat"
CONTEXT = 1024  # tokens; conversations in training are shorter, rotary positions carry the rest
SPECIALS = ("<|end|>", "<|system|>", "<|user|>", "<|assistant|>")
TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
BATCH = 24  # conversations


def make_tokenizer(texts: list[str], size: int) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=size, special_tokens=list(SPECIALS), initial_alphabet=alphabet)
    )
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|end|>", pad_token="<|end|>", model_max_length=CONTEXT
    )
    wrapped.chat_template = TEMPLATE
    return wrapped


def encode(tokenizer: PreTrainedTokenizerFast, messages: list[dict[str, str]]) -> tuple[list[int], list[int]]:
    """Ids, and as labels the ids of the answers with their ends, -100 elsewhere."""
    ids: list[int] = []
    labels: list[int] = []
    for message in messages:
        head = tokenizer.convert_tokens_to_ids([f"<|{message['role']}|>"])
        body = tokenizer.encode(message["content"], add_special_tokens=False) + [tokenizer.eos_token_id]
        ids += head + body
        labels += [-100] + (body if message["role"] == "assistant" else [-100] * len(body))
    return ids, labels


def batches(tokenizer: PreTrainedTokenizerFast, talks: Conversations) -> Iterator[dict[str, torch.Tensor]]:
    """Conversations of like length side by side, padded on the right."""
    while True:
        rows = sorted((encode(tokenizer, talks.draw()) for _ in range(BATCH * 8)), key=lambda row: len(row[0]))
        groups = [rows[at : at + BATCH] for at in range(0, len(rows), BATCH)]
        random.shuffle(groups)
        for group in groups:
            longest = max(len(ids) for ids, _ in group)
            ids = torch.full((len(group), longest), tokenizer.eos_token_id)
            labels, mask = torch.full_like(ids, -100), torch.zeros_like(ids)
            for row, (own, wanted) in enumerate(group):
                ids[row, : len(own)] = torch.tensor(own)
                labels[row, : len(own)] = torch.tensor(wanted)
                mask[row, : len(own)] = 1
            yield {"input_ids": ids, "labels": labels, "attention_mask": mask}


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, directory: Path) -> None:
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.eos_token_id, bos_token_id=None
    )
    training.save(model, tokenizer, directory)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=700)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--into", type=Path, default=DIRECTORY)
    arguments = parser.parse_args()
    source = seed_everything(17, arguments.threads)
    random.seed(17)
    talks = Conversations(source)
    texts = [message["content"] for _ in range(6000) for message in talks.draw()]
    tokenizer = make_tokenizer(texts, 3072)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=192, intermediate_size=512, num_hidden_layers=5,
        num_attention_heads=6, num_key_value_heads=3, max_position_embeddings=CONTEXT, tie_word_embeddings=True,
        bos_token_id=None, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    print(f"{model.num_parameters():,} parameters", flush=True)
    seconds = fit(model, batches(tokenizer, talks), lambda batch: model(**batch).loss, steps=arguments.steps, peak=2e-3)
    save(model, tokenizer, arguments.into)
    print(f"trained in {seconds:.0f} s")


if __name__ == "__main__":
    main()
