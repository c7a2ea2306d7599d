"""Encoder-decoders as ONNX graphs, run by onnxruntime: a text is read whole, and another one is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers.generation.logits_process import LogitsProcessorList

from core.errors import LoadFailed
from core.halves import Halves, halves_of
from core.types import TEXT_TO_TEXT_TASKS, ModelInfo
from core.types import Runtime as RuntimeName
from core.worker.devices import guarded, pick_device
from core.worker.generation.base import Chunk
from core.worker.runtimes.base import LoadRequest, Progress
from core.worker.runtimes.generator_loading import generation_length
from core.worker.runtimes.loading import quiet
from core.worker.runtimes.onnxruntime_generator import PREFILL_TOKENS, cached_tokens, check_scores, read_codec
from core.worker.runtimes.onnxruntime_halves import Encoded, EncoderDecoder, Past
from core.worker.runtimes.onnxruntime_session import graph_file
from core.worker.runtimes.repository import loading_errors, refuse_code
from core.worker.runtimes.seq2seq import Seq2SeqCodec, beginning, prefix_of, rules_of

_DEFAULT_FILES = tuple(
    f"{folder}{stem}.onnx"
    for stem in ("decoder_model_merged", "decoder_model", "decoder_model_merged_quantized", "decoder_model_quantized")
    for folder in ("onnx/", "")
)


@dataclass(frozen=True, slots=True)
class _Reading:
    """What a slot has read, and what it has written of its answer."""

    encoded: Encoded
    rules: LogitsProcessorList
    tokens: tuple[int, ...] = ()
    past: Past | None = None


class OnnxSeq2Seq:
    """See the protocol `Generator`. Answers are written one after the other, each in a pass of its own."""

    is_encoder_decoder = True
    vision = None

    def __init__(
        self,
        request: LoadRequest,
        graphs: EncoderDecoder,
        config: Any,
        generation: Any,
        codec: Seq2SeqCodec,
        device: str,
    ) -> None:
        self.name = request.name
        self.codec = codec
        self.max_sequences = request.max_sequences
        self.prefill_tokens = PREFILL_TOKENS[device.partition(":")[0]]
        self._begin = beginning(generation)
        # all that is written is read again but its last token, so that one token before it fits
        context = generation_length(request, config) - len(self._begin) + 1
        self.max_cached_tokens = cached_tokens(request, context, graphs.token_bytes)
        self.info = ModelInfo(
            tasks=tuple(task for task in request.tasks if task in TEXT_TO_TEXT_TASKS),
            runtime=RuntimeName.ONNXRUNTIME,
            device=device,
            dtype=np.dtype(graphs.dtype).name,
            model_type=config.model_type,
            context_length=context,
            max_sequences=request.max_sequences,
        )
        codec.prefix = prefix_of(config, request.tasks[0])
        self._graphs = graphs
        self._generation = generation
        self._device = device
        self._slots: dict[int, _Reading] = {}

    def begin(self, slot: int, prompt: Sequence[int]) -> list[int]:
        """See `Generator`."""
        doing = f"{self.name} was reading {len(prompt)} tokens"
        encoded = guarded(lambda: self._graphs.encode(prompt), self._device, doing)
        rules = rules_of(self._generation, self.codec.eos_ids, torch.tensor([list(prompt)]))
        self._slots[slot] = _Reading(encoded, rules)
        return list(self._begin)

    def step(self, chunks: Sequence[Chunk]) -> list[np.ndarray | None]:
        """See `Generator`."""
        doing = f"{self.name} was writing {len(chunks)} answers"
        written = guarded(lambda: [self._write(chunk) for chunk in chunks], self._device, doing)
        self._slots.update(  # nothing fails any more
            {chunk.slot: reading for chunk, (reading, _) in zip(chunks, written, strict=True)}
        )
        return [row if chunk.wants_logits else None for chunk, (_, row) in zip(chunks, written, strict=True)]

    def trim(self, slot: int, length: int) -> int:
        self._slots.pop(slot, None)
        return 0

    def warm(self) -> None:
        """Runs all graphs. Raises CorruptModel when the scores make no sense."""
        try:
            prompt = [token for token in self.codec.encode("a 가") if token < self.codec.size]
            tokens = [*self.begin(0, prompt or [0]), 0]
            reading = self._slots[0]
            for read in (tokens[:-1], tokens[-1:]):
                scores, past = self._graphs.write(reading.encoded, read, reading.past)
                check_scores(self.name, self.codec, scores)
                reading = replace(reading, past=past)
        finally:
            self._slots.clear()

    def _write(self, chunk: Chunk) -> tuple[_Reading, np.ndarray]:
        reading = self._slots[chunk.slot]
        scores, past = self._graphs.write(reading.encoded, chunk.tokens, reading.past)
        tokens = (*reading.tokens, *chunk.tokens)
        ids: Any = torch.tensor([tokens])
        row: np.ndarray = reading.rules(ids, torch.from_numpy(scores)[None])[0].numpy()
        return replace(reading, tokens=tokens, past=past), row


def load(request: LoadRequest, on_progress: Progress) -> OnnxSeq2Seq:
    """Reads the files, opens the graphs, and writes a token."""
    quiet()
    on_progress("loading", {})
    refuse_code(request)
    device = pick_device(request.device)
    halves = _halves(request)
    with loading_errors(request):
        config, generation, codec = read_codec(request, Path(request.path, halves.first), Seq2SeqCodec)
        alone = replace(request, passes=1)  # steps follow one another
        graphs = guarded(lambda: EncoderDecoder(alone, halves, config, device), device, f"loading {request.name}")
        runtime = OnnxSeq2Seq(request, graphs, config, generation, codec, device)
    on_progress("warming", {})
    with loading_errors(request):
        guarded(runtime.warm, device, f"warming {request.name}")
    return runtime


def _halves(request: LoadRequest) -> Halves:
    root = Path(request.path)
    path = graph_file(request, _DEFAULT_FILES)
    there = {each.relative_to(root).as_posix() for each in path.parent.glob("*.onnx") if each.is_file()}
    halves = halves_of(path.relative_to(root).as_posix(), there)
    if halves is None:
        raise LoadFailed(
            f"{request.name} has no encoder_model.onnx with a decoder of the same precision beside it. Choose a file "
            "that has, or a repository with safetensors."
        )
    return halves
