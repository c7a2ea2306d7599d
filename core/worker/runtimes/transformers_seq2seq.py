"""Encoder-decoders of the transformers library, in torch: a text is read whole, and another one is written."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForSeq2SeqLM
from transformers.cache_utils import DynamicCache, EncoderDecoderCache
from transformers.generation.logits_process import LogitsProcessorList
from transformers.modeling_outputs import BaseModelOutput

from core.errors import InsufficientMemory
from core.types import TEXT_TO_TEXT_TASKS, ModelInfo
from core.types import Runtime as RuntimeName
from core.worker.devices import guarded
from core.worker.generation.base import Chunk
from core.worker.runtimes.base import LoadRequest, Progress
from core.worker.runtimes.generator_loading import cached_tokens, generation_length, load_generator
from core.worker.runtimes.keyvalues import KeyValues
from core.worker.runtimes.seq2seq import Seq2SeqCodec, beginning, prefix_of, rules_of
from core.worker.runtimes.transformers_decoder import PREFILL_TOKENS


@dataclass(slots=True)
class _Reading:
    """What a slot has read, and what it has written of its answer."""

    encoded: BaseModelOutput  # last_hidden_state (1, tokens, width)
    own: KeyValues
    cache: EncoderDecoderCache
    rules: LogitsProcessorList
    tokens: list[int] = field(default_factory=list)


class TransformersSeq2Seq:
    """See the protocol `Generator`. Answers are written one after the other, each in a pass of its own."""

    is_encoder_decoder = True
    vision = None

    def __init__(self, request: LoadRequest, model: Any, codec: Seq2SeqCodec, device: str) -> None:
        self.name = request.name
        self.codec = codec
        self.max_sequences = request.max_sequences
        self.prefill_tokens = PREFILL_TOKENS[device.partition(":")[0]]
        self._begin = beginning(model.generation_config)
        # all that is written is read again but its last token, so that one token before it fits
        context = generation_length(request, model.config) - len(self._begin) + 1
        self.max_cached_tokens = cached_tokens(request, model, context, device)
        self.info = ModelInfo(
            tasks=tuple(task for task in request.tasks if task in TEXT_TO_TEXT_TASKS),
            runtime=RuntimeName.TRANSFORMERS,
            device=device,
            dtype=str(model.dtype).removeprefix("torch."),
            model_type=model.config.model_type,
            context_length=context,
            parameters=model.num_parameters(),
            max_sequences=request.max_sequences,
        )
        codec.prefix = prefix_of(model.config, request.tasks[0])
        self._model = model
        self._device = device
        self._slots: dict[int, _Reading] = {}
        self._options = {"logits_to_keep": 1} if "logits_to_keep" in inspect.signature(model.forward).parameters else {}

    def begin(self, slot: int, prompt: Sequence[int]) -> list[int]:
        """See `Generator`."""
        doing = f"{self.name} was reading {len(prompt)} tokens"
        with torch.inference_mode():
            ids = torch.tensor([list(prompt)], device=self._device)
            encoder = self._model.get_encoder()
            encoded = guarded(lambda: encoder(ids, attention_mask=torch.ones_like(ids)), self._device, doing)
            own = KeyValues()
            rules = rules_of(self._model.generation_config, self.codec.eos_ids, ids)
            self._slots[slot] = _Reading(encoded, own, EncoderDecoderCache(own, DynamicCache()), rules)
        return list(self._begin)

    def step(self, chunks: Sequence[Chunk]) -> list[np.ndarray | None]:
        """See `Generator`."""
        doing = f"{self.name} was writing {len(chunks)} answers"
        with torch.inference_mode():
            try:
                scores = guarded(lambda: [self._write(chunk) for chunk in chunks], self._device, doing)
            except InsufficientMemory:
                for chunk in chunks:  # half of what was kept of the text may be there: it is computed again
                    self._slots[chunk.slot].cache = EncoderDecoderCache(self._slots[chunk.slot].own, DynamicCache())
                raise
        for chunk in chunks:  # nothing fails any more
            self._slots[chunk.slot].own.commit(len(chunk.tokens))
        return [row if chunk.wants_logits else None for row, chunk in zip(scores, chunks, strict=True)]

    def trim(self, slot: int, length: int) -> int:
        self._slots.pop(slot, None)
        return 0

    def _write(self, chunk: Chunk) -> np.ndarray:
        reading = self._slots[chunk.slot]
        reading.tokens[chunk.start :] = chunk.tokens
        reading.own.reserve(1, chunk.start + len(chunk.tokens))
        outputs = self._model(
            encoder_outputs=reading.encoded,
            decoder_input_ids=torch.tensor([list(chunk.tokens)], device=self._device),
            past_key_values=reading.cache,
            use_cache=True,
            **self._options,
        )
        scores = outputs.logits[:, -1].float()
        written: Any = torch.tensor([reading.tokens], device=self._device)
        row: np.ndarray = reading.rules(written, scores)[0].cpu().numpy()
        return row


def load(request: LoadRequest, on_progress: Progress) -> TransformersSeq2Seq:
    """Reads the files, puts the model on its device, and writes a token."""
    model, codec, device = load_generator(request, on_progress, AutoModelForSeq2SeqLM, Seq2SeqCodec)
    runtime = TransformersSeq2Seq(request, model, codec, device)
    on_progress("warming", {})
    runtime.step([Chunk(0, runtime.begin(0, codec.encode("a")), 0, True)])
    runtime.trim(0, 0)
    return runtime
