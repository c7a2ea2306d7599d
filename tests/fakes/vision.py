"""Tiny random models that see, with real tokenizers and processors, made in the test run. Seeded."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
import transformers

from core.types import Image
from core.worker.architectures.hyperclovax_vlm import HCXVisionProcessor
from tests.fakes.decoders import byte_level
from tests.fakes.hyperclovax import write_hyperclovax

SEEING = (
    *("smolvlm", "idefics3", "llava", "llava_next", "qwen2_vl", "qwen2_5_vl", "hyperclovax_vision_v2"),
    "hyperclovax_vlm",  # an architecture of our own
)
POSITIONS = 512  # tokens
_SIDE, _PATCH = 32, 8  # pixels of a tile and of a patch
_ROWS = tuple(f"<row_{row + 1}_col_{column + 1}>" for row in range(4) for column in range(4))
_IDEFICS_TOKENS = ("<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>", *_ROWS)
_QWEN_TOKENS = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
_TOKENS = {
    "smolvlm": _IDEFICS_TOKENS,
    "idefics3": _IDEFICS_TOKENS,
    "llava": ("<image>",),
    "llava_next": ("<image>",),
}
_IDEFICS_TEMPLATE = (
    "<|im_start|>{% for message in messages %}{{ message['role'] | capitalize }}"
    "{% if message['content'][0]['type'] == 'image' %}{{ ':' }}{% else %}{{ ': ' }}{% endif %}"
    "{% for line in message['content'] %}{% if line['type'] == 'text' %}{{ line['text'] }}"
    "{% elif line['type'] == 'image' %}{{ '<image>' }}{% endif %}{% endfor %}<end_of_utterance>\n{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
_LLAVA_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] | upper }}: "
    "{% for part in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\n' }}{% endfor %}"
    "{% for part in message['content'] | selectattr('type', 'equalto', 'text') %}{{ part['text'] }} {% endfor %}"
    "{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
_QWEN_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif 'text' in part %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_TEXT = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": POSITIONS,
    "initializer_range": 0.3,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "pad_token_id": 1,
    "tie_word_embeddings": False,
}
_TOWER = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": _SIDE,
    "patch_size": _PATCH,
}
_QWEN_TOWER = {"depth": 2, "num_heads": 4, "patch_size": _PATCH, "spatial_merge_size": 2, "temporal_patch_size": 2}
_PINPOINTS = [[_SIDE, 2 * _SIDE], [2 * _SIDE, _SIDE], [2 * _SIDE, 2 * _SIDE]]
_CLIP = {
    "size": {"shortest_edge": _SIDE},
    "crop_size": {"height": _SIDE, "width": _SIDE},
    "do_convert_rgb": True,
}
_MEANS = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}


def write_vision(directory: Path, architecture: str, *, seed: int = 7) -> Path:
    """Writes a model of `architecture` that sees: config, tokenizer, processor, chat template, safetensors."""
    if architecture == "hyperclovax_vlm":
        return write_hyperclovax(directory)
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer = _tokenizer(architecture)
    tokenizer.save_pretrained(directory)
    torch.manual_seed(seed)
    model = transformers.AutoModelForImageTextToText.from_config(_config(architecture, tokenizer)).eval()
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if weights.dim() > 1 and not ("language_model" in name or "text_model" in name or "lm_head" in name):
                weights.normal_(std=0.2)  # so that what is seen matters to what is said
    model.save_pretrained(directory)
    settings, processor = _processing(architecture)
    _write(directory / "preprocessor_config.json", settings)
    _write(directory / "processor_config.json", processor)
    (directory / "chat_template.jinja").write_text(_template(architecture))
    return directory


def picture(seed: int, width: int = 60, height: int = 40) -> Image:
    """A PNG file of coloured noise in large spots."""
    spots = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), np.uint8)
    written = io.BytesIO()
    PIL.Image.fromarray(spots).resize((width, height), PIL.Image.Resampling.BICUBIC).save(written, "PNG")
    return {"data": written.getvalue(), "key": hashlib.sha256(written.getvalue()).hexdigest()}


def opened(image: Image) -> PIL.Image.Image:
    return PIL.Image.open(io.BytesIO(image["data"])).convert("RGB")


def own_processor(directory: Path) -> Any:
    """The architecture's processor as transformers makes it, but for what reads films, which takes torchvision."""
    if not (directory / "processor_config.json").exists():
        return HCXVisionProcessor.from_pretrained(directory)
    name = json.loads((directory / "processor_config.json").read_text())["processor_class"]
    settings = json.loads((directory / "processor_config.json").read_text())
    kind = getattr(transformers, name)
    images = transformers.AutoImageProcessor.from_pretrained(directory)
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    if "video_processor" not in kind.get_attributes():
        return transformers.AutoProcessor.from_pretrained(directory)
    still = type(name, (kind,), {"get_attributes": classmethod(lambda cls: ["image_processor", "tokenizer"])})
    rest = {key: value for key, value in settings.items() if key != "processor_class"}
    return still(images, tokenizer, None, chat_template=_template_of(directory), **rest)


def _template_of(directory: Path) -> str:
    return (directory / "chat_template.jinja").read_text()


def _write(path: Path, settings: dict[str, Any]) -> None:
    path.write_text(json.dumps(settings))


def _tokenizer(architecture: str) -> transformers.PreTrainedTokenizerFast:
    tokenizer = byte_level(begins=architecture.startswith("llava"))
    tokenizer.add_tokens(list(_TOKENS.get(architecture, _QWEN_TOKENS)), special_tokens=True)
    return tokenizer


def _template(architecture: str) -> str:
    if architecture in ("smolvlm", "idefics3"):
        return _IDEFICS_TEMPLATE
    return _LLAVA_TEMPLATE if architecture.startswith("llava") else _QWEN_TEMPLATE


def _processing(architecture: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """preprocessor_config.json and processor_config.json, as repositories on the Hub have them."""
    if architecture in ("smolvlm", "idefics3"):
        name = "SmolVLM" if architecture == "smolvlm" else "Idefics3"
        sizes = {"size": {"longest_edge": 2 * _SIDE}, "max_image_size": {"longest_edge": _SIDE}}
        images = {"image_processor_type": f"{name}ImageProcessor", "do_image_splitting": True, **sizes, **_MEANS}
        return images, {"processor_class": f"{name}Processor", "image_seq_len": (_SIDE // _PATCH) ** 2 // 4}
    if architecture.startswith("llava"):
        name = "Llava" if architecture == "llava" else "LlavaNext"
        images = {"image_processor_type": "CLIPImageProcessor", **_CLIP}
        if architecture == "llava_next":
            images |= {"image_processor_type": "LlavaNextImageProcessor", "image_grid_pinpoints": _PINPOINTS}
        strategy = {"patch_size": _PATCH, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}
        return images, {"processor_class": f"{name}Processor", **strategy}
    names = {"qwen2_vl": "Qwen2VLProcessor", "qwen2_5_vl": "Qwen2_5_VLProcessor"}
    sizes = {"min_pixels": 16 * 16, "max_pixels": 96 * 96, "patch_size": _PATCH, "merge_size": 2}
    images = {"image_processor_type": "Qwen2VLImageProcessor", "temporal_patch_size": 2, **sizes, **_MEANS}
    return images, {"processor_class": names.get(architecture, "HyperCLOVAXVisionV2Processor")}


def _config(architecture: str, tokenizer: Any) -> Any:
    text = {**_TEXT, "vocab_size": len(tokenizer) + 40}  # as many models have: rows that no token of text is given
    known = tokenizer.get_vocab()
    more: dict[str, Any] = {"tie_word_embeddings": False}
    if architecture in ("smolvlm", "idefics3"):
        more |= {"text_config": {"model_type": "llama", **text}, "vision_config": _TOWER, "scale_factor": 2}
        more |= {"image_token_id": known["<image>"]}
    elif architecture.startswith("llava"):
        more |= {"text_config": {"model_type": "llama", **text}, "image_token_id": known["<image>"]}
        more |= {"vision_config": {"model_type": "clip_vision_model", "projection_dim": 32, **_TOWER}}
        more |= {"vision_feature_layer": -2, "vision_feature_select_strategy": "default"}
        more |= {"image_grid_pinpoints": _PINPOINTS} if architecture == "llava_next" else {}
    else:
        more |= {"image_token_id": known["<|image_pad|>"], "video_token_id": known["<|video_pad|>"]}
        more |= _qwen_parts(architecture, text)
    return transformers.AutoConfig.for_model(architecture, **more)


def _qwen_parts(architecture: str, text: dict[str, Any]) -> dict[str, Any]:
    rope = {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 10000.0}
    newer = {"hidden_size": 32, "intermediate_size": 64, "out_hidden_size": 64, "fullatt_block_indexes": [1]}
    newer |= {"window_size": 4 * _PATCH}
    if architecture == "qwen2_vl":
        return {"text_config": {**text, "rope_parameters": rope}, "vision_config": {
            "embed_dim": 32, "hidden_size": 64, "mlp_ratio": 2, **_QWEN_TOWER}}  # fmt: skip
    if architecture == "qwen2_5_vl":
        return {"text_config": {**text, "rope_parameters": rope}, "vision_config": {**_QWEN_TOWER, **newer}}
    tower = {"model_type": "qwen2_5_vl_vision", **_QWEN_TOWER, **newer}
    return {"text_config": {"model_type": "hyperclovax", **text}, "vision_config": tower}


def generated(directory: Path, image: Image, question: str, count: int) -> tuple[str, int]:
    """What plain transformers writes about an image, greedy and past any end token, and the tokens of its prompt."""
    processor = own_processor(directory)
    model = transformers.AutoModelForImageTextToText.from_pretrained(directory).eval()
    model.generation_config.eos_token_id = None
    parts = [{"type": "image", "image": opened(image)}, {"type": "text", "text": question}]
    inputs = processor.apply_chat_template(
        [{"role": "user", "content": parts}], tokenize=True, add_generation_prompt=True, return_dict=True,
        return_tensors="pt",
    )  # fmt: skip
    length = inputs["input_ids"].shape[1]
    with torch.inference_mode():
        written = model.generate(**inputs, do_sample=False, max_new_tokens=count, pad_token_id=1)
    return processor.tokenizer.decode(written[0, length:], skip_special_tokens=True), length
