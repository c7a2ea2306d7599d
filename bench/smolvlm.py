"""A SmolVLM with random weights, shaped as SmolVLM-256M: a SigLIP of 512 pixels, a LLaMA of 135 million parameters.

An image is enlarged to `edge` pixels, cut into tiles of 512, and seen as a whole in one tile more.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
import transformers

from bench.llama import VOCABULARY, make_tokenizer_of

SIDE, PATCH, MERGED = 512, 16, 4  # pixels of a tile and of a patch; patches a side that become one row
EDGE = 2048
_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}{% endfor %}<end_of_utterance>\n"
    "{% endfor %}assistant:"
)
_TOKENS = ("<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>")


def lay_out(directory: Path, *, layers: tuple[int, int] = (12, 30), edge: int = EDGE) -> None:
    """Writes it with `layers` of the tower and of the text model."""
    torch.manual_seed(0)
    tokenizer = make_tokenizer_of(VOCABULARY)
    count = edge // SIDE
    tiles = [f"<row_{row + 1}_col_{column + 1}>" for row in range(count) for column in range(count)]
    tokenizer.add_tokens([*_TOKENS, *tiles], special_tokens=True)
    tokenizer.save_pretrained(directory)
    tower = {
        "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": layers[0], "num_attention_heads": 12,
        "image_size": SIDE, "patch_size": PATCH,
    }  # fmt: skip
    text = {
        "model_type": "llama", "vocab_size": len(tokenizer), "hidden_size": 576, "intermediate_size": 1536,
        "num_hidden_layers": layers[1], "num_attention_heads": 9, "num_key_value_heads": 3,
        "max_position_embeddings": 8192, "bos_token_id": None, "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.eos_token_id,
    }  # fmt: skip
    config = transformers.AutoConfig.for_model(
        "smolvlm", text_config=text, vision_config=tower, scale_factor=MERGED, tie_word_embeddings=False,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
    )  # fmt: skip
    transformers.AutoModelForImageTextToText.from_config(config).eval().save_pretrained(directory)
    images = {
        "image_processor_type": "SmolVLMImageProcessor", "do_image_splitting": True, "size": {"longest_edge": edge},
        "max_image_size": {"longest_edge": SIDE}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3,
    }  # fmt: skip
    processor = {"processor_class": "SmolVLMProcessor", "image_seq_len": (SIDE // PATCH // MERGED) ** 2}
    (directory / "preprocessor_config.json").write_text(json.dumps(images))
    (directory / "processor_config.json").write_text(json.dumps(processor))
    (directory / "chat_template.jinja").write_text(_TEMPLATE)
