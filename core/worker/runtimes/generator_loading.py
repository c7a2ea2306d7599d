"""What loading a model of transformers that generates has in common, with a decoder alone or with both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil
import torch
from transformers import AutoConfig, AutoTokenizer

from core.errors import CorruptModel, InvalidRequest, LoadFailed
from core.worker.devices import guarded, pick_device
from core.worker.generation.codec import CodecKind, hf_codec
from core.worker.runtimes.base import LoadRequest, Progress
from core.worker.runtimes.loading import quiet
from core.worker.runtimes.repository import loading_errors, refuse_code, refuse_pickle
from core.worker.runtimes.transformers_encoder import check_report, read_weights

DEFAULT_CONTEXT = 4096  # tokens, when no more is asked for: what is kept for a sequence grows with it
LEAST_CONTEXT = 8
_KEPT_SHARE = 0.5  # of the memory that is free once the model is loaded, for keys and values
_POSITIONS = (
    "max_position_embeddings", "n_positions", "max_sequence_length", "seq_length", "n_ctx", "max_seq_len",
    "max_decoder_position_embeddings",
)  # fmt: skip
_NO_LIMIT = 1_000_000  # tokenizers say "no limit" with a number far above this


def load_generator(
    request: LoadRequest, on_progress: Progress, head: Any, kind: type[CodecKind], tokenizer: Any = None
) -> tuple[Any, CodecKind, str]:
    """The model of the class `head` on its device, its codec of the class `kind`, and the device.

    `tokenizer`: where it is loaded already.
    """
    quiet()
    if request.threads is not None:
        torch.set_num_threads(request.threads)
    on_progress("loading", {})
    refuse_code(request)
    device = pick_device(request.device)
    with loading_errors(request):
        if tokenizer is None:
            tokenizer = AutoTokenizer.from_pretrained(request.path, local_files_only=True, trust_remote_code=False)
        model = guarded(lambda: _model(request, device, head), device, f"loading {request.name}")
        codec = hf_codec(tokenizer, model.generation_config, request.name, kind)
    rows = model.get_input_embeddings().weight.shape[0]
    highest = max((*codec.encode("a 가"), *codec.eos_ids), default=0)
    if highest >= rows:
        raise CorruptModel(
            f"The tokenizer of {request.name} gives the token {highest:,} and its weights have {rows:,}: the files do "
            "not belong together. Download the model again, or tell its author."
        )
    codec.size = min(codec.size, rows)  # a few tokenizers have more names than the model was given rows
    return model, codec, device


def _model(request: LoadRequest, device: str, head: Any) -> Any:
    root = Path(request.path)
    config = AutoConfig.from_pretrained(root, local_files_only=True, trust_remote_code=False)
    if type(config) not in head._model_mapping:
        raise LoadFailed(f"{request.name} is a {config.model_type}, which writes no text. Load it for another task.")
    model, report = read_weights(request, config, device, refuse_pickle(request, root), head)
    check_report(request, report)
    return model.eval()


def generation_length(request: LoadRequest, config: Any) -> int:
    """Tokens of a prompt and its answer together. Raises InvalidRequest."""
    text = config.get_text_config(decoder=True)
    stated = (getattr(text, name, None) for name in _POSITIONS)
    limit = next((value for value in stated if type(value) is int and value > 0), None)
    wanted = request.context_length or min(limit or DEFAULT_CONTEXT, DEFAULT_CONTEXT)
    length = min(wanted, limit or _NO_LIMIT)
    if length < LEAST_CONTEXT:
        raise InvalidRequest(f"`context_length` of {request.name} must be at least {LEAST_CONTEXT}.")
    return length


def cached_tokens(request: LoadRequest, model: Any, context: int, device: str) -> int:
    """Tokens that all slots together may hold: as asked for, or as many as the memory is good for."""
    if request.max_cached_tokens is not None:
        return max(request.max_cached_tokens, context)
    free = psutil.virtual_memory().available if device == "cpu" else torch.cuda.mem_get_info(device)[0]
    fitting = int(free * _KEPT_SHARE) // token_bytes(model)
    return max(context, min(context * request.max_sequences, fitting))


def token_bytes(model: Any) -> int:
    """Bytes that the keys and values of one token take, at most."""
    config = model.config.get_text_config(decoder=True)
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(2 * config.num_hidden_layers * heads * width * model.dtype.itemsize)
