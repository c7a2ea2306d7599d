"""Causal models of the transformers library, in torch, several answers at once."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from transformers import AutoModelForCausalLM
from transformers.cache_utils import get_layer_types_and_kwargs

from core.types import ModelInfo, Task
from core.types import Runtime as RuntimeName
from core.worker.devices import guarded
from core.worker.generation.base import Chunk, Vision
from core.worker.generation.codec import HFCodec
from core.worker.runtimes.base import LoadRequest, Progress
from core.worker.runtimes.generator_loading import cached_tokens, generation_length, load_generator
from core.worker.runtimes.transformers_forward import Forward
from core.worker.runtimes.transformers_one_by_one import OneByOne
from core.worker.runtimes.transformers_together import Together

PREFILL_TOKENS = {"cpu": 256, "cuda": 2048}  # of prompts in one step: what the running answers wait for
_TASKS = (Task.TEXT_GENERATION, Task.IMAGE_TEXT_TO_TEXT)
_PLAIN = {"full_attention", "sliding_attention"}  # layers that keep one key and one value for each token


class TransformersDecoder:
    """See the protocol `Generator`."""

    is_encoder_decoder = False
    vision: Vision | None = None

    def __init__(
        self, request: LoadRequest, model: Any, codec: HFCodec, device: str, forward: Forward | None = None
    ) -> None:
        self.name = request.name
        self.codec = codec
        self.max_sequences = request.max_sequences
        self.prefill_tokens = PREFILL_TOKENS[device.partition(":")[0]]
        context = generation_length(request, model.config)
        self.max_cached_tokens = cached_tokens(request, model, context, device)
        self.info = ModelInfo(
            tasks=tuple(task for task in request.tasks if task in _TASKS),
            runtime=RuntimeName.TRANSFORMERS,
            device="+".join(request.layers) if request.layers else device,
            dtype=str(model.dtype).removeprefix("torch."),
            model_type=model.config.model_type,
            context_length=context,
            parameters=model.num_parameters(),
            has_chat_template=codec.has_template,
            max_sequences=request.max_sequences,
        )
        forward = forward or Forward(model, device)
        self._slots: _Slots = Together(forward, context) if keeps_keys_and_values(model) else OneByOne(forward)
        self._device = device

    def begin(self, slot: int, prompt: Sequence[int]) -> list[int]:
        return list(prompt)

    def step(self, chunks: Sequence[Chunk]) -> list[np.ndarray | None]:
        """See `Generator`."""
        doing = f"{self.name} was writing {len(chunks)} answers"
        with torch.inference_mode():
            return guarded(lambda: self._slots.step(chunks), self._device, doing)

    def trim(self, slot: int, length: int) -> int:
        doing = f"{self.name} was making room"
        with torch.inference_mode():
            return guarded(lambda: self._slots.trim(slot, length), self._device, doing)


class _Slots(Protocol):
    def step(self, chunks: Sequence[Chunk]) -> list[np.ndarray | None]: ...

    def trim(self, slot: int, length: int) -> int: ...


def keeps_keys_and_values(model: Any) -> bool:
    """Whether all the model remembers of a token is a key and a value in each layer."""
    if model._is_stateful or not model._supports_default_dynamic_cache():
        return False
    config = model.config.get_text_config(decoder=True)
    try:
        kinds, _ = get_layer_types_and_kwargs(config)
    except (AttributeError, TypeError):
        return False
    return set(kinds) <= _PLAIN and "past_key_values" in inspect.signature(model.forward).parameters


def load(request: LoadRequest, on_progress: Progress) -> TransformersDecoder:
    """Reads the files, puts the model on its device, and writes two tokens."""
    model, codec, device = load_generator(request, on_progress, AutoModelForCausalLM, HFCodec)
    decoder = TransformersDecoder(request, model, codec, device)
    on_progress("warming", {})
    warm(decoder)
    return decoder


def warm(decoder: TransformersDecoder) -> None:
    """Writes two tokens."""
    first = next(iter(decoder.codec.encode_chat("a")), 0)
    decoder.step([Chunk(0, [first], 0, True)])
    decoder.step([Chunk(0, [first], 1, True)])
    decoder.trim(0, 0)
