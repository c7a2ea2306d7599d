"""Tiny random GGUF models, written by the `gguf` package: real vocabularies, seeded weights, every layout of files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np

CONTEXT = 256  # tokens
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|{{ message.role }}|>{{ message.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
CONTROLS = ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>")
_TEXT = (
    "berth serves models . the quick brown fox jumps over the lazy dog , and then it rests . "
    "안녕하세요 오늘 날씨가 참 좋습니다 . 모델을 불러오고 답을 씁니다 ."
)


def write_gguf(
    path: Path,
    *,
    vocabulary: str = "spm",
    quantized: bool = False,
    template: str | None = CHAT_TEMPLATE,
    seed: int = 0,
    parts: int = 1,
    metadata: dict[str, Any] | None = None,
    nan: bool = False,
    architecture: str = "llama",
    controls: tuple[str, ...] = (),
    **shape: int,
) -> Path:
    """A llama of two layers at `path`. With `parts` it is split as llama.cpp does: the path of the first part is
    returned. `metadata` adds or replaces texts and whole numbers, `controls` adds control tokens. `architecture`:
    llama, or qwen2vl, whose places have several dimensions."""
    sizes = {"embedding": 64, "layers": 2, "heads": 4, "heads_kv": 2, "feed_forward": 128, "context": CONTEXT, **shape}
    split = {"split_max_tensors": 4, "small_first_shard": False} if parts > 1 else {}
    writer = gguf.GGUFWriter(path, architecture, **split)  # type: ignore[arg-type]
    tokens = _VOCABULARIES[vocabulary](writer, controls)
    _describe(writer, sizes, tokens, quantized=quantized, template=template)
    if architecture == "qwen2vl":
        half = sizes["embedding"] // sizes["heads"] // 2
        writer.add_rope_dimension_sections([half - 2 * (half // 3), half // 3, half // 3, 0])
    for name, value in (metadata or {}).items():
        writer.add_string(name, value) if isinstance(value, str) else writer.add_uint32(name, value)
    for name, array in _llama(sizes, tokens, np.random.default_rng(seed)):
        if nan and name == "output_norm.weight":
            array[:] = np.nan
        _add(writer, name, array, quantized=quantized)
    return _write(writer, path)


def write_mamba(path: Path, *, seed: int = 0) -> Path:
    """A recurrent model: its state cannot be cut back, only be forgotten."""
    sizes = {"embedding": 64, "layers": 2, "inner": 128, "state": 16, "rank": 4, "kernel": 4}
    writer = gguf.GGUFWriter(path, "mamba")
    tokens = _spm(writer)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(sizes["embedding"])
    writer.add_feed_forward_length(0)
    writer.add_head_count(0)
    writer.add_block_count(sizes["layers"])
    writer.add_ssm_conv_kernel(sizes["kernel"])
    writer.add_ssm_inner_size(sizes["inner"])
    writer.add_ssm_state_size(sizes["state"])
    writer.add_ssm_time_step_rank(sizes["rank"])
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    for name, array in _mamba(sizes, tokens, np.random.default_rng(seed)):
        _add(writer, name, array, quantized=False)
    return _write(writer, path)


def _describe(
    writer: gguf.GGUFWriter, sizes: dict[str, int], tokens: int, *, quantized: bool, template: str | None
) -> None:
    writer.add_name("tiny")
    writer.add_context_length(sizes["context"])
    writer.add_embedding_length(sizes["embedding"])
    writer.add_block_count(sizes["layers"])
    writer.add_feed_forward_length(sizes["feed_forward"])
    writer.add_head_count(sizes["heads"])
    writer.add_head_count_kv(sizes["heads_kv"])
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(sizes["embedding"] // sizes["heads"])
    writer.add_vocab_size(tokens)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0 if quantized else gguf.LlamaFileType.ALL_F32)
    if template is not None:
        writer.add_chat_template(template)


def _llama(sizes: dict[str, int], tokens: int, random: np.random.Generator) -> list[tuple[str, np.ndarray]]:
    width, inner = sizes["embedding"], sizes["feed_forward"]
    narrow = width // sizes["heads"] * sizes["heads_kv"]
    shapes = {"attn_q": (width, width), "attn_k": (narrow, width), "attn_v": (narrow, width)}
    shapes |= {"attn_output": (width, width), "ffn_gate": (inner, width), "ffn_up": (inner, width)}
    shapes |= {"ffn_down": (width, inner)}
    arrays = [("token_embd.weight", _random(random, tokens, width))]
    for layer in range(sizes["layers"]):
        arrays += [(f"blk.{layer}.{name}_norm.weight", np.ones(width, np.float32)) for name in ("attn", "ffn")]
        arrays += [(f"blk.{layer}.{name}.weight", _random(random, *shape)) for name, shape in shapes.items()]
    return [
        *arrays,
        ("output_norm.weight", np.ones(width, np.float32)),
        ("output.weight", _random(random, tokens, width)),
    ]


def _mamba(sizes: dict[str, int], tokens: int, random: np.random.Generator) -> list[tuple[str, np.ndarray]]:
    width, inner, state, rank = (sizes[name] for name in ("embedding", "inner", "state", "rank"))
    arrays = [("token_embd.weight", _random(random, tokens, width))]
    for layer in range(sizes["layers"]):
        of_layer = {
            "attn_norm.weight": np.ones(width, np.float32),
            "ssm_in.weight": _random(random, 2 * inner, width),
            "ssm_conv1d.weight": _random(random, inner, sizes["kernel"]),
            "ssm_conv1d.bias": np.zeros(inner, np.float32),
            "ssm_x.weight": _random(random, rank + 2 * state, inner),
            "ssm_dt.weight": _random(random, inner, rank),
            "ssm_dt.bias": np.zeros(inner, np.float32),
            "ssm_a": -np.tile(np.arange(1, state + 1, dtype=np.float32), (inner, 1)),
            "ssm_d": np.ones(inner, np.float32),
            "ssm_out.weight": _random(random, width, inner),
        }
        arrays += [(f"blk.{layer}.{name}", array) for name, array in of_layer.items()]
    return [
        *arrays,
        ("output_norm.weight", np.ones(width, np.float32)),
        ("output.weight", _random(random, tokens, width)),
    ]


def _random(random: np.random.Generator, *shape: int) -> np.ndarray:
    return (random.standard_normal(shape) * 2 / np.sqrt(shape[-1])).astype(np.float32)


def _add(writer: gguf.GGUFWriter, name: str, array: np.ndarray, *, quantized: bool) -> None:
    if not quantized or array.ndim < 2:
        writer.add_tensor(name, array)
        return
    kind = gguf.GGMLQuantizationType.Q8_0
    writer.add_tensor(name, gguf.quants.quantize(array, kind), raw_dtype=kind)


def _write(writer: gguf.GGUFWriter, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    writer.write_header_to_file(path)
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    written = sorted(path.parent.glob(f"{path.stem}-00001-of-*.gguf"))
    return written[0] if written else path


def _spm(writer: gguf.GGUFWriter, controls: tuple[str, ...] = ()) -> int:
    """A SentencePiece vocabulary: pieces of the text above, and every byte, so that any text has tokens."""
    words = _TEXT.split()
    pieces = dict.fromkeys([*(f"▁{word[:3]}" for word in words), *(word[:2] for word in words)])
    letters = dict.fromkeys("".join(words) + "▁")
    normal = [*letters, *(piece for piece in pieces if piece not in letters)]
    bytes_ = [f"<0x{value:02X}>" for value in range(256)]
    controls = (*CONTROLS, *controls)
    tokens = ["<unk>", "<s>", "</s>", *controls, *bytes_, *normal]
    kind = gguf.TokenType
    kinds = [kind.UNKNOWN, *[kind.CONTROL] * (2 + len(controls)), *[kind.BYTE] * 256, *[kind.NORMAL] * len(normal)]
    scores = [0.0] * (len(tokens) - len(normal)) + [float(len(piece)) - 10 for piece in normal]
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores(scores)
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_eot_token_id(tokens.index("<|end|>"))
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(True)
    return len(tokens)


def _bpe(writer: gguf.GGUFWriter, controls: tuple[str, ...] = ()) -> int:
    """A byte-level vocabulary with some merges, as GPT-2's is; no BOS."""
    alphabet = _byte_alphabet()
    merges, made = [], []
    for word in dict.fromkeys(_TEXT.split()):
        letters = [alphabet[value] for value in f" {word}".encode()][:4]
        whole = letters[0]
        for letter in letters[1:]:
            if f"{whole} {letter}" not in merges:
                merges.append(f"{whole} {letter}")
            whole += letter
            made.append(whole)
    normal = [*alphabet.values(), *dict.fromkeys(made)]
    controls = (*CONTROLS, *controls)
    tokens = [*normal, "<|endoftext|>", *controls]
    kinds = [gguf.TokenType.NORMAL] * len(normal) + [gguf.TokenType.CONTROL] * (1 + len(controls))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(merges)
    writer.add_eos_token_id(tokens.index("<|end|>"))
    writer.add_bos_token_id(tokens.index("<|endoftext|>"))
    writer.add_add_bos_token(False)
    return len(tokens)


def _byte_alphabet() -> dict[int, str]:
    """A printable character for each byte: itself where it is one, else the next after all bytes."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [value for value in range(256) if value not in plain]
    return {value: chr(value) for value in plain} | {value: chr(256 + n) for n, value in enumerate(others)}


_VOCABULARIES = {"spm": _spm, "bpe": _bpe}
