"""Tiny random models that generate, with real tokenizers, made in the test run. Seeded."""

from __future__ import annotations

import functools
import io
import json
from pathlib import Path
from typing import Any

import sentencepiece
import tokenizers
import torch
import transformers
from tokenizers import decoders, models, pre_tokenizers, processors, trainers

from tests.fakes.models import CORPUS

DECODERS = ("gpt2", "gpt_neo", "gptj", "llama", "mistral", "qwen2", "phi")
ENCODER_DECODERS = ("t5", "bart", "pegasus", "marian", "mbart")
POSITIONS = 256  # tokens
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_SPECIALS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "<|im_start|>", "<|im_end|>"]
_BOS, _PAD, _EOS = 0, 1, 2
_WITH_BOS = ("llama", "mistral")  # their tokenizers begin a prompt with it
_SIZES: dict[str, dict[str, Any]] = {
    "gpt2": {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": POSITIONS},
    "gptj": {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": POSITIONS, "rotary_dim": 8},
    "gpt_neo": {
        "hidden_size": 64,
        "num_layers": 2,
        "num_heads": 4,
        "attention_types": [[["global", "local"], 1]],
        "window_size": 12,
        "max_position_embeddings": POSITIONS,
    },
    "t5": {"d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4, "feed_forward_proj": "gated-gelu"},
}
_ROTARY = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": POSITIONS,
}
_BART = {
    "d_model": 64,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 128,
    "decoder_ffn_dim": 128,
    "max_position_embeddings": POSITIONS,
}


def write_decoder(
    directory: Path, architecture: str, *, chat_template: str | None = None, seed: int = 7, **config: Any
) -> Path:
    """Writes a model of `architecture` that generates: config, generation config, tokenizer, safetensors."""
    directory.mkdir(parents=True, exist_ok=True)
    _write_tokenizer(directory, architecture, chat_template)
    model = make_decoder(architecture, seed=seed, **config)
    model.save_pretrained(directory)
    return directory


def make_decoder(architecture: str, *, seed: int = 7, **config: Any) -> Any:
    """The model itself, on the CPU in float32."""
    torch.manual_seed(seed)
    made = transformers.AutoConfig.for_model(architecture, **(_settings(architecture) | config))
    kind = transformers.AutoModelForSeq2SeqLM if made.is_encoder_decoder else transformers.AutoModelForCausalLM
    model = kind.from_config(made).eval()
    if made.is_encoder_decoder:
        with torch.no_grad():
            for name, weights in [*model.named_parameters(), *model.named_buffers()]:
                if "norm" not in name and "embed_positions" not in name:  # biases too: zero, none would be missed
                    weights.normal_(std=0.3)
    if architecture == "bart":  # as the Hub's are
        model.generation_config.forced_bos_token_id = _BOS
    return model


def _settings(architecture: str) -> dict[str, Any]:
    """Large random weights, so that the likeliest tokens differ and no two of them tie."""
    shape = dict(_SIZES.get(architecture, _BART if architecture in ENCODER_DECODERS else _ROTARY))
    shape |= {"vocab_size": _vocabulary(architecture), "initializer_range": 0.3, "init_std": 0.3}
    shape |= {"bos_token_id": _BOS, "eos_token_id": _EOS, "pad_token_id": _PAD, "tie_word_embeddings": False}
    if architecture == "mistral":
        shape["sliding_window"] = 12
    if architecture in ("t5", "pegasus"):
        shape |= {"pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0, "bos_token_id": None}
    if architecture in ("bart", "mbart"):
        shape |= {"decoder_start_token_id": _EOS, "forced_eos_token_id": _EOS}
    if architecture == "marian":
        pad = _vocabulary("marian") - 1
        shape |= {"pad_token_id": pad, "eos_token_id": 0, "decoder_start_token_id": pad, "forced_eos_token_id": 0}
        shape |= {"bos_token_id": None, "scale_embedding": True}
    return shape


@functools.cache
def _vocabulary(architecture: str) -> int:
    if architecture == "marian":
        return len(json.loads(_marian_files()["vocab.json"]))
    if architecture == "pegasus":
        return 512  # its tokenizer puts 103 tokens before those of the model's file
    if architecture == "t5":
        return 512
    return int(_byte_level().get_vocab_size())


def _write_tokenizer(directory: Path, architecture: str, chat_template: str | None) -> None:
    if architecture in ("t5", "pegasus", "marian"):
        files = _marian_files() if architecture == "marian" else _sentencepiece_files(architecture)
        for name, content in files.items():
            (directory / name).write_bytes(content)
        return
    found = byte_level(begins=architecture in _WITH_BOS, ends=architecture in ("bart", "mbart"))
    found.chat_template = chat_template
    found.save_pretrained(directory)


def byte_level(*, begins: bool = False, ends: bool = False) -> transformers.PreTrainedTokenizerFast:
    """A byte-level BPE, which puts <s> before a prompt and </s> behind it if told to."""
    trained = _byte_level()
    if begins or ends:
        single = f"{'<s> ' if begins or ends else ''}$A{' </s>' if ends else ''}"
        trained.post_processor = processors.Sequence(
            [
                processors.ByteLevel(trim_offsets=False),
                processors.TemplateProcessing(single=single, special_tokens=[("<s>", _BOS), ("</s>", _EOS)]),
            ]
        )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=trained, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )


@functools.cache
def _byte_level_json() -> str:
    trained = tokenizers.Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trained.decoder = decoders.ByteLevel()
    trained.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(
            vocab_size=500,
            special_tokens=_SPECIALS,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return str(trained.to_str())


def _byte_level() -> tokenizers.Tokenizer:
    return tokenizers.Tokenizer.from_str(_byte_level_json())


@functools.cache
def _pieces(**options: Any) -> bytes:
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS * 4),
        model_writer=written,
        vocab_size=380,
        model_type="unigram",
        hard_vocab_limit=False,
        minloglevel=2,
        **options,
    )
    return written.getvalue()


def _sentencepiece_files(architecture: str) -> dict[str, bytes]:
    kind = {"t5": "T5Tokenizer", "pegasus": "PegasusTokenizer"}[architecture]
    config = {"tokenizer_class": kind, "model_max_length": POSITIONS}
    if architecture == "t5":
        config["extra_ids"] = 0
    pieces = _pieces(pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
    return {"spiece.model": pieces, "tokenizer_config.json": json.dumps(config).encode()}


@functools.cache
def _marian_files() -> dict[str, bytes]:
    pieces = _pieces()
    loaded = sentencepiece.SentencePieceProcessor(model_proto=pieces)
    names = [loaded.id_to_piece(index) for index in range(loaded.get_piece_size())]
    words = ["</s>", "<unk>", *(name for name in names if name not in ("<s>", "</s>", "<unk>")), "<pad>"]
    config = {"tokenizer_class": "MarianTokenizer", "model_max_length": POSITIONS}
    config |= {"source_lang": "ko", "target_lang": "en"}
    return {
        "source.spm": pieces,
        "target.spm": pieces,
        "vocab.json": json.dumps({word: index for index, word in enumerate(words)}, ensure_ascii=False).encode(),
        "tokenizer_config.json": json.dumps(config).encode(),
    }
