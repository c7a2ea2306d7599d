"""Decoders as ONNX graphs with past keys and values, run by onnxruntime."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from core.types import ModelInfo, Task
from core.types import Runtime as RuntimeName
from core.worker.devices import guarded, is_full, is_lost, pick_device
from core.worker.generation.base import Chunk, Vision
from core.worker.generation.codec import HFCodec
from core.worker.runtimes.base import LoadRequest, Progress
from core.worker.runtimes.generator_loading import generation_length
from core.worker.runtimes.loading import quiet
from core.worker.runtimes.onnxruntime_cache import (
    BeginsTogether,
    EndsTogether,
    Held,
    Layout,
    empty,
    gathered,
    grown,
)
from core.worker.runtimes.onnxruntime_generator import PREFILL_TOKENS, cached_tokens, check_scores, read_codec
from core.worker.runtimes.onnxruntime_graph import Graph, read_graph
from core.worker.runtimes.onnxruntime_session import graph_file, open_session
from core.worker.runtimes.repository import loading_errors, refuse_code

MAX_LOGITS = 64 * 1024 * 1024  # numbers in one pass; most graphs give those of every token
_UNEVEN = 2  # how many times as long as the shortest of a batch its longest may be,
_SHORT = 128  # above so many tokens
_TOLERANCE = {np.float32: 1e-4, np.float16: 2e-2}  # share of the largest score; rounding is some 1e-6 and 5e-3

_DEFAULT_FILES = tuple(
    f"{folder}{stem}.onnx"
    for stem in ("model", "decoder_model_merged", "model_quantized", "decoder_model_merged_quantized")
    for folder in ("onnx/", "")
)


class OnnxDecoder:
    """See the protocol `Generator`."""

    is_encoder_decoder = False
    vision: Vision | None = None

    def __init__(
        self, request: LoadRequest, session: Any, graph: Graph, config: Any, codec: HFCodec, device: str
    ) -> None:
        kind = device.partition(":")[0]
        context = generation_length(request, config)
        self.name = request.name
        self.codec = codec
        self.max_sequences = request.max_sequences
        self.max_cached_tokens = cached_tokens(request, context, graph.token_bytes)
        self._session = session
        self._graph = graph
        self._device = device
        self._slots: dict[int, Held] = {}
        self._layout: Layout = EndsTogether()
        self._batches = False
        self._reads_on = not graph.has_branches  # several tokens at once after others
        self.prefill_tokens = max(1, min(PREFILL_TOKENS[kind], MAX_LOGITS // max(codec.size, 1)))
        self.info = ModelInfo(
            tasks=(Task.TEXT_GENERATION,),
            runtime=RuntimeName.ONNXRUNTIME,
            device=device,
            dtype=np.dtype(graph.pasts[0].dtype).name,
            model_type=config.model_type,
            context_length=context,
            has_chat_template=codec.has_template,
            max_sequences=self.max_sequences,
        )

    def begin(self, slot: int, prompt: Sequence[int]) -> list[int]:
        return list(prompt)

    def trim(self, slot: int, length: int) -> int:
        held = self._slots.get(slot)
        if held is not None and length < held.length:
            self._slots[slot] = held.cut(length)
        if length == 0:
            self._slots.pop(slot, None)
        return self.length(slot)

    def length(self, slot: int) -> int:
        """How many tokens `slot` holds."""
        return self._slots[slot].length if slot in self._slots else 0

    def step(self, chunks: Sequence[Chunk]) -> list[np.ndarray | None]:
        for chunk in chunks:
            if chunk.start != self.length(chunk.slot):
                raise ValueError(f"slot {chunk.slot} holds {self.length(chunk.slot)} tokens, not {chunk.start}")
        doing = f"{self.name} was reading {sum(len(chunk.tokens) for chunk in chunks)} tokens of {len(chunks)} answers"
        try:
            return guarded(lambda: self._step(chunks), self._device, doing)
        except BaseException:
            for chunk in chunks:  # those whose turn has been go back
                self.trim(chunk.slot, chunk.start)
            raise

    def _step(self, chunks: Sequence[Chunk]) -> list[np.ndarray | None]:
        found: dict[int, np.ndarray] = {}
        for group in self._groups(chunks):
            slots = [chunk.slot for chunk in group]
            found.update(zip(slots, self._read(slots, [chunk.tokens for chunk in group]), strict=True))
        return [found[chunk.slot] if chunk.wants_logits else None for chunk in chunks]

    def _groups(self, chunks: Sequence[Chunk]) -> list[list[Chunk]]:
        """What to run together: single tokens of sequences about as long as one another."""
        singles = [chunk for chunk in chunks if self._batches and len(chunk.tokens) == 1 and chunk.start]
        groups: list[list[Chunk]] = []
        for chunk in sorted(singles, key=lambda chunk: chunk.start):
            if groups and chunk.start <= max(_UNEVEN * groups[-1][0].start, _SHORT):
                groups[-1].append(chunk)
            else:
                groups.append([chunk])
        for group in groups:
            group.sort(key=lambda chunk: self._slots[chunk.slot].row)  # as they lie, when they lie together already
        return groups + [[chunk] for chunk in chunks if chunk not in singles]

    def _read(self, slots: list[int], tokens: list[Sequence[int]]) -> list[np.ndarray]:
        """As many tokens for each of `slots`; float32 (vocabulary,) after the last of each."""
        count = len(tokens[0])
        if count > 1 and not self._reads_on and self.length(slots[0]):
            return [self._read(slots, [[each[index]] for each in tokens]) for index in range(count)][-1]
        group = self._seated(slots, count)
        held = np.array([each.length for each in group])
        feed = self._feed(slots, tokens, held, self._layout.mask(group, count))
        logits, values = self._run(feed, group[0].cache.values)
        self._slots.update(zip(slots, grown(group, values, count), strict=True))
        return logits

    def _feed(
        self, slots: list[int], tokens: list[Sequence[int]], held: np.ndarray, mask: np.ndarray
    ) -> dict[str, np.ndarray]:
        return self._graph.feed(np.array(tokens, np.int64), held, mask)

    def _seated(self, slots: list[int], count: int) -> list[Held]:
        """What `slots` hold, in one cache of their own, to read `count` tokens each."""
        group = [self._slots.get(slot) or empty(self._graph.pasts, self._device) for slot in slots]
        if self._layout.is_whole(group, count):
            return group
        seated = gathered(group, self._graph.pasts, self._device, self._layout)
        self._slots.update(zip(slots, seated, strict=True))
        for slot, held in self._slots.items():  # a row that stays behind would keep all the others' in memory
            if any(held.cache is each.cache for each in group):
                (self._slots[slot],) = gathered([held], self._graph.pasts, self._device, self._layout)
        return seated

    def _run(self, feed: dict[str, np.ndarray], values: Sequence[Any]) -> tuple[list[np.ndarray], Sequence[Any]]:
        """The scores after the last token of each row, and the keys and values after it."""
        kind, _, index = self._device.partition(":")
        binding = self._session.io_binding()
        for name, array in feed.items():
            binding.bind_cpu_input(name, array)
        for past, value in zip(self._graph.pasts, values, strict=True):
            binding.bind_ortvalue_input(past.source, value)
        binding.bind_output("logits", "cpu")
        for past in self._graph.pasts:
            binding.bind_output(past.target, kind, int(index or 0))
        self._session.run_with_iobinding(binding)
        logits, *grown = binding.get_outputs()
        return [np.array(row, np.float32) for row in logits.numpy()[:, -1]], grown

    def warm(self) -> None:
        """Runs the graph, and finds out what it can do. Raises CorruptModel when its scores make no sense."""
        long, short = [[token % self.codec.size for token in range(3, 3 + 5 * count, 5)] for count in (16, 3)]
        (scores,) = self._read([0], [long])
        self._slots.clear()
        check_scores(self.name, self.codec, scores)
        if self._graph.has_branches:
            self._reads_on = self._reads_several(long)
        if not self._reads_on:  # so that a prompt is read at once
            self.prefill_tokens = max(1, min(self.info.context_length or 1, MAX_LOGITS // self.codec.size))
        self._batches = self.max_sequences > 1 and self._reads_side_by_side(long, short)

    def _reads_several(self, text: list[int]) -> bool:
        """Whether the branch with a past reads several tokens: some let them see those behind them."""
        (apart,) = self._try([text[:2]], *([[token]] for token in text[2:-1]), [text[-1:]])
        self._reads_on = True
        found = self._try([text[:2]], [text[2:-1]], [text[-1:]])
        return bool(found) and self._equal(apart, found[0])

    def _reads_side_by_side(self, long: list[int], short: list[int]) -> bool:
        """Whether sequences of different lengths give in one pass what they give alone; chooses their layout.

        Not where positions do not follow the mask, nor where activations are quantised over all rows together.
        """
        alone = [scores for text in (long, short) for scores in self._try([text[:-2]], [text[-2:-1]], [text[-1:]])]
        for layout in (EndsTogether(), BeginsTogether()):
            self._layout = layout
            both = ([text[at : at + 1 or None] for text in (long, short)] for at in (-2, -1))
            together = self._try([long[:-2]], [[], short[:-2]], *both)
            if together and all(map(self._equal, alone, together)):
                return True
        self._layout = EndsTogether()
        return False

    def _try(self, *passes: list[list[int]]) -> list[np.ndarray]:
        """The scores after the last of `passes`, each the tokens for slots 0, 1 …; empty when the graph refuses."""
        try:
            for texts in passes:
                slots = [slot for slot, text in enumerate(texts) if text]
                scores = self._read(slots, [texts[slot] for slot in slots])
            return scores
        except Exception as error:
            if is_full(error) or is_lost(error):
                raise
            return []
        finally:
            self._slots.clear()

    def _equal(self, one: np.ndarray, other: np.ndarray) -> bool:
        """To rounding."""
        return bool(np.abs(one - other).max() <= _TOLERANCE[self._graph.pasts[0].dtype] * np.abs(one).max())


def load(request: LoadRequest, on_progress: Progress) -> OnnxDecoder:
    """Reads the files, opens the graph, and runs it a few times."""
    quiet()
    on_progress("loading", {})
    refuse_code(request)
    device = pick_device(request.device)
    path = graph_file(request, _DEFAULT_FILES)
    with loading_errors(request):
        config, _, codec = read_codec(request, path, HFCodec)
        alone = replace(request, passes=1)  # steps follow one another
        session = guarded(lambda: open_session(alone, path, device), device, f"loading {request.name}")
        runtime = OnnxDecoder(request, session, read_graph(session, config, request.name), config, codec, device)
    on_progress("warming", {})
    with loading_errors(request):
        guarded(runtime.warm, device, f"warming {request.name}")
    return runtime
