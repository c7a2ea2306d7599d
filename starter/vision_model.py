"""The vision starter itself: its tokenizer, its processor and a model with weights that are not trained yet.

An Idefics3 (the architecture of SmolVLM): a tower of patches, a connector that makes 9 tokens of a picture, and a small
LLaMA.
"""

from __future__ import annotations

import re
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import (
    GenerationConfig,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessorPil,
    Idefics3Processor,
    PreTrainedTokenizerFast,
)  # fmt: skip

from starter import training
from starter.corpus.vision_words import vocabulary
from starter.mimetic import initialize

SIDE, PATCH, SHUFFLE = 108, 12, 3  # pixels, pixels, patches that make a token's side
GRID = SIDE // PATCH
TOKENS = (GRID // SHUFFLE) ** 2  # of a picture
CONTEXT = 2048
END, IMAGE, AROUND, GLOBAL = "<end_of_utterance>", "<image>", "<fake_token_around_image>", "<global-img>"
SPECIALS = (END, IMAGE, AROUND, GLOBAL, "<|system|>", "<|user|>", "<|assistant|>")
TEMPLATE = (  # pictures before words, in whatever order they are sent: words then look for themselves in the pictures
    "{% for message in messages %}<|{{ message['role'] }}|>"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}<image>{% endif %}{% endfor %}"
    "{% for part in message['content'] %}{% if part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}"
    "{% endif %}<end_of_utterance>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def make_tokenizer(texts: list[str], size: int) -> PreTrainedTokenizerFast:
    """Byte-level pieces of `texts`, `size` at most.

    A word that names a shape, a colour or a place is a piece of its own wherever it stands: what a Korean particle or
    an English plural adds is another, and a sentence begins as if after a space.
    """
    named = "|".join(map(re.escape, vocabulary()))
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Prepend(" ")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(f" ?(?<![a-z])(?!위치)(?:{named})"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Strip(" ", 1, 0)])
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=size, special_tokens=list(SPECIALS), initial_alphabet=alphabet)
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=END, pad_token=END, model_max_length=CONTEXT,
        additional_special_tokens=list(SPECIALS[1:]),
    )  # fmt: skip


def make_processor(tokenizer: PreTrainedTokenizerFast) -> Idefics3Processor:
    pictures = Idefics3ImageProcessorPil(
        do_image_splitting=False, size={"longest_edge": 2 * SIDE}, max_image_size={"longest_edge": SIDE}
    )
    return Idefics3Processor(pictures, tokenizer, image_seq_len=TOKENS, chat_template=TEMPLATE)


def make_model(tokenizer: PreTrainedTokenizerFast) -> Idefics3ForConditionalGeneration:
    end = tokenizer.eos_token_id
    config = Idefics3Config(
        image_token_id=tokenizer.convert_tokens_to_ids(IMAGE), scale_factor=SHUFFLE, tie_word_embeddings=True,
        pad_token_id=end,
        vision_config={
            "hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 4, "num_attention_heads": 4,
            "image_size": SIDE, "patch_size": PATCH,
        },
        text_config={
            "model_type": "llama", "vocab_size": len(tokenizer), "hidden_size": 192, "intermediate_size": 512,
            "num_hidden_layers": 3, "num_attention_heads": 6, "num_key_value_heads": 3, "rms_norm_eps": 1e-6,
            "initializer_range": 0.07, "max_position_embeddings": CONTEXT, "tie_word_embeddings": True,
            "bos_token_id": None, "eos_token_id": end, "pad_token_id": end,
        },
    )  # fmt: skip
    model = Idefics3ForConditionalGeneration(config)
    initialize(model)
    model.generation_config = GenerationConfig(eos_token_id=end, pad_token_id=end, bos_token_id=None)
    return model


def save(model: Idefics3ForConditionalGeneration, processor: Idefics3Processor, directory: Path) -> None:
    processor.save_pretrained(directory)
    training.save(model, processor.tokenizer, directory)
