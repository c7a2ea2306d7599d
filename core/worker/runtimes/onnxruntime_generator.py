"""What loading ONNX graphs that write text has in common, a decoder alone or both halves of an encoder-decoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from transformers import AutoConfig, AutoTokenizer, GenerationConfig

from core.errors import CorruptModel
from core.worker.generation.codec import CodecKind, HFCodec, hf_codec
from core.worker.runtimes.base import LoadRequest

PREFILL_TOKENS = {"cpu": 128, "cuda": 2048}
CACHE_BYTES = 4 * 1024**3  # of all slots, unless `max_cached_tokens` says otherwise; taken as it is needed


def read_codec(
    request: LoadRequest, graph: Path, kind: type[CodecKind], tokenizer: Any = None
) -> tuple[Any, Any, CodecKind]:
    """The configuration, the generation configuration, and a codec of the class `kind`.

    They lie in the model's directory, or beside the graph. `tokenizer`: where it is loaded already.
    """
    home = Path(request.path) if (Path(request.path) / "config.json").is_file() else graph.parent
    config = AutoConfig.from_pretrained(home, local_files_only=True, trust_remote_code=False)
    if tokenizer is None:
        tokenizer = AutoTokenizer.from_pretrained(home, local_files_only=True, trust_remote_code=False)
    if (home / "generation_config.json").is_file():
        generation = GenerationConfig.from_pretrained(home, local_files_only=True)
    else:
        generation = GenerationConfig.from_model_config(config)
    codec = hf_codec(tokenizer, generation, request.name, kind)
    codec.size = min(codec.size, config.get_text_config(decoder=True).vocab_size)
    return config, generation, codec


def cached_tokens(request: LoadRequest, context: int, token_bytes: int) -> int:
    """Tokens that all slots together may hold, at least one context of them."""
    return max(request.max_cached_tokens or min(context * request.max_sequences, CACHE_BYTES // token_bytes), context)


def check_scores(name: str, codec: HFCodec, scores: np.ndarray) -> None:
    """Raises CorruptModel when the first scores (vocabulary,) of a model make no sense."""
    highest = max((*codec.encode("a 가"), *codec.eos_ids), default=0)
    if len(scores) < codec.size or highest >= codec.size:
        raise CorruptModel(
            f"The tokenizer of {name} gives the token {highest:,} and its graph {len(scores):,} scores: the "
            "files do not belong together. Download the model again, or tell its author."
        )
    if np.isnan(scores).any():
        raise CorruptModel(
            f"{name} computes NaN: its weights are damaged, or too large for their number format. Fetch the "
            "file again, or choose another one."
        )
