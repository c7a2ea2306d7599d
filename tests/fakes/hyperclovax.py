"""A tiny HyperCLOVAX-SEED-Vision-Instruct-3B: the released repository's files and names, with seeded weights.

The weights come from numpy by their names alone, so that any implementation can be given the same ones. Their names
and shapes are those of transformers' own SigLIP and LLaMA and, for the projectors, of timm's RegNet, not ours.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from safetensors.numpy import save_file

from tests.fakes.decoders import byte_level

VISION = {
    "model_type": "siglip_vision_model",
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 42,
    "patch_size": 7,
    "num_channels": 3,
}
TEXT = {
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": False,
    "attention_bias": False,
}
PATCHES, QUERIES = 36, 9  # of a tile
TILES = 9  # at most, besides the whole image's
IMAGE_TOKEN, VIDEO_TOKEN = "<|dummy3|>", "<|_unuse_missing_100270|>"
_TOKENS = [IMAGE_TOKEN, VIDEO_TOKEN, "<|endofturn|>"]
_AUX = (
    "다음 중 ocr은 사진에서 검출된 글자이고, lens_keyword는 사진에서 추출된 keyword와 bbox 위치입니다."
    "bbox는 0~1 사이로 정규화된 [x1, y1, x2, y2]의 형태입니다. 참고하여 답변하세요. "
)
CHAT_TEMPLATE = (
    "{% if messages[0].role != 'system' %}<|im_start|>system\n<|im_end|>\n{% endif %}"
    "{% for message in messages %}"
    "{% if message.content is string %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% else %}{% for part in message.content %}"
    "{% if part.type == 'image' %}"
    '<|im_start|>{{ message.role }} (mime)\n{"type": "image/jpeg", "filename": "{{ part.filename }}"}<|im_end|>\n'
    "<|im_start|>{{ message.role }} (vector)\n" + IMAGE_TOKEN + "<|im_end|>\n"
    "<|im_start|>image/aux\n" + _AUX + '{"ocr": "{{ part.ocr }}", "lens_keywords": "{{ part.lens_keywords }}", '
    '"lens_local_keywords": "{{ part.lens_local_keywords }}"}<|im_end|>\n'
    "{% else %}<|im_start|>{{ message.role }}\n{{ part.text }}<|im_end|>\n{% endif %}"
    "{% endfor %}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def projector_shapes(kind: str = "cabstractor", *, prenorm: bool = False) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the projector's weights, without `mm_projector.`."""
    width, out = int(VISION["hidden_size"]), int(TEXT["hidden_size"])
    if kind == "linear":
        return {"weight": (out, width), "bias": (out,)}
    if kind in ("mlp", "inverted_mlp"):
        hidden = width * (2 if kind == "inverted_mlp" else 1)
        return {
            "fc1.weight": (hidden, width),
            "fc1.bias": (hidden,),
            "fc2.weight": (out, hidden),
            "fc2.bias": (out,),
        }
    shapes: dict[str, tuple[int, ...]] = {"pos_emb": (1, PATCHES, width)}
    if prenorm:
        shapes |= {"prenorm.weight": (width,), "prenorm.bias": (width,)}
    for block in (f"net.{stage}.b{index}" for stage in (0, 2) for index in (1, 2, 3)):
        for convolution, shape in (("conv1", (width, 1, 1)), ("conv2", (1, 3, 3)), ("conv3", (width, 1, 1))):
            shapes[f"{block}.{convolution}.conv.weight"] = (width, *shape)
            shapes |= {f"{block}.{convolution}.bn.{name}": (width,) for name in ("weight", "bias")}
        shapes |= {f"{block}.se.fc1.weight": (width // 4, width, 1, 1), f"{block}.se.fc1.bias": (width // 4,)}
        shapes |= {f"{block}.se.fc2.weight": (width, width // 4, 1, 1), f"{block}.se.fc2.bias": (width,)}
    shapes |= {"readout.0.weight": (out, width), "readout.0.bias": (out,)}
    return shapes | {"readout.2.weight": (out, out), "readout.2.bias": (out,)}


def seeded(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The weight of this name, float32: norms near one, everything else large enough to matter."""
    drawn = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape).astype(np.float32)
    is_norm = any(part in name for part in (".bn.", "norm")) and name.endswith("weight")
    return 1 + drawn / 4 if is_norm else drawn * np.float32(0.3)


def tower() -> transformers.SiglipVisionModel:
    """The whole tower, with transformers' names and the checkpoint's weights."""
    model = transformers.SiglipVisionModel(transformers.SiglipVisionConfig(**_sub(VISION)))
    return _filled(model, "vision_model.vision_model.")


def text_model(vocabulary: int) -> transformers.LlamaForCausalLM:
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**_sub(TEXT), vocab_size=vocabulary))
    return _filled(model, "language_model.")


def tokenizer() -> transformers.PreTrainedTokenizerFast:
    found = byte_level()
    found.add_special_tokens({"additional_special_tokens": _TOKENS})
    return found


def weights(kind: str = "cabstractor") -> dict[str, np.ndarray]:
    """The whole checkpoint by the released names."""
    parts = (("vision_model.vision_model.", tower()), ("language_model.", text_model(len(tokenizer()))))
    found = {f"{prefix}{name}": value.numpy() for prefix, model in parts for name, value in model.state_dict().items()}
    found |= {
        f"mm_projector.{name}": seeded(f"mm_projector.{name}", shape) for name, shape in projector_shapes(kind).items()
    }
    return found | {"image_newline": seeded("image_newline", (int(TEXT["hidden_size"]),))}


def config(kind: str = "cabstractor", *, first_form: bool = False, **more: Any) -> dict[str, Any]:
    """config.json as released; `first_form` is that of the repository's first revisions."""
    known = tokenizer()
    ids = {name: known.convert_tokens_to_ids(name) for name in (IMAGE_TOKEN, VIDEO_TOKEN)}
    text = {**TEXT, "vocab_size": len(known), "bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
    shared: dict[str, Any] = {
        "architectures": ["HCXVisionForCausalLM"],
        "auto_map": {
            "AutoConfig": "configuration_hyperclovax.HCXVisionConfig",
            "AutoModelForCausalLM": "modeling_hyperclovax.HCXVisionForCausalLM",
        },
        "model_type": "hyperclovax_vlm",
        "anyres": True,
        "unpad": True,
        "max_num_grids": TILES,
        "use_1x1_grid": False,
        "use_nth_layer": -2,
        "mm_projector_type": kind,
        "proj_pos_emb": True,
        "proj_prenorm": False,
        "decoder_max_length": 2048,
        "ignore_index": -100,
        "freeze_encoder": False,
        "freeze_decoder": False,
        "hidden_size": TEXT["hidden_size"],
        "torch_dtype": "float32",
        "vision_config": {**VISION, "anyres": True, "max_num_grids": TILES, "architectures": ["SiglipVisionModel"]},
    }
    if first_form:
        named = {"language_config": text, "img_start_id": ids[IMAGE_TOKEN], "num_queries_vis_abstractor": QUERIES}
    else:
        named = {"text_config": text, "image_token_id": ids[IMAGE_TOKEN], "video_token_id": ids[VIDEO_TOKEN]}
        named |= {"num_queries_vis_abstractor_image": QUERIES, "num_queries_vis_abstractor_video_fast": 4}
    return shared | named | more


def write_hyperclovax(
    directory: Path, kind: str = "cabstractor", *, first_form: bool = False, processor: str = "HCXVisionProcessor"
) -> Path:
    """The repository. `processor`: the class that preprocessor_config.json names, which is code in the repository."""
    directory.mkdir(parents=True, exist_ok=True)
    known = tokenizer()
    known.save_pretrained(directory)
    template = {"chat_template": CHAT_TEMPLATE} if first_form else {}
    _update(directory / "tokenizer_config.json", tokenizer_class="GPT2Tokenizer", model_max_length=1024, **template)
    if not first_form:
        (directory / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
    edge = VISION["image_size"]
    code = f"{'preprocessor' if first_form else 'processing_hyperclovax'}.{processor}"
    documents = {
        "config.json": config(kind, first_form=first_form),
        "generation_config.json": {
            "bos_token_id": 0,
            "eos_token_id": [2, known.convert_tokens_to_ids("<|endofturn|>")],
        },
        "preprocessor_config.json": {
            "auto_map": {"AutoProcessor": code, "AutoImageProcessor": code},
            "processor_class": processor,
            "image_processor_type": processor,
            "anyres": True,
            "unpad": True,
            "possible_resolutions": [
                [rows * edge, columns * edge]
                for rows in range(1, TILES + 1)
                for columns in range(1, TILES + 1)
                if 1 < rows * columns <= TILES
            ],
            "num_queries_vis_abstractor_image": QUERIES,
            "num_queries_vis_abstractor_video_fast": 4,
            "patch_size": VISION["patch_size"],
            "pad_to_square": True,
            "size": {"shortest_edge": edge},
            "crop_size": {"height": edge, "width": edge},
            "do_resize": True,
            "do_center_crop": True,
            "do_rescale": True,
            "do_normalize": True,
            "do_convert_rgb": True,
            "resample": 2,
            "rescale_factor": 1 / 255,
            "image_mean": [0.5, 0.5, 0.5],
            "image_std": [0.5, 0.5, 0.5],
        },
    }
    for name, document in documents.items():
        (directory / name).write_text(json.dumps(document))
    save_file(weights(kind), directory / "model.safetensors", metadata={"format": "pt"})
    return directory


def _sub(settings: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name != "model_type"}


def _filled(model: Any, prefix: str) -> Any:
    """`model` with the weights that the checkpoint has under `prefix`."""
    state = model.state_dict()
    given = {name: torch.from_numpy(seeded(prefix + name, tuple(value.shape))) for name, value in state.items()}
    model.load_state_dict(given)
    return model.eval()


def _update(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
