"""The graphs of an encoder-decoder, as optimum exports them: an encoder, and a decoder with keys and values.

The decoder's first pass makes the keys and values of what the encoder said, which stay as they are; each later pass
makes its own ones longer. A merged decoder is both, by `use_cache_branch`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from onnxruntime import OrtValue

from core.errors import LoadFailed
from core.halves import Halves
from core.worker.runtimes.base import LoadRequest
from core.worker.runtimes.onnxruntime_graph import DTYPES
from core.worker.runtimes.onnxruntime_session import open_session

_PAST, _OWN = re.compile(r"past_key_values\.(\d+\.(?:decoder|encoder)\.(?:key|value))"), ".decoder."
_PRESENT = re.compile(r"present(?:_key_values)?\.(\d+\.(?:decoder|encoder)\.(?:key|value))")
_READS = frozenset(("input_ids", "attention_mask"))
_WRITES = frozenset(("input_ids", "encoder_attention_mask", "encoder_hidden_states", "use_cache_branch"))

Past = Mapping[str, OrtValue]  # "0.decoder.key" → (1, heads, tokens, head_dim)


@dataclass(frozen=True, slots=True)
class Encoded:
    """What the encoder said of one prompt."""

    hidden: OrtValue  # (1, tokens, width)
    tokens: int


class Graph:
    """A session, with what it takes and gives by name."""

    def __init__(self, request: LoadRequest, path: Path, device: str) -> None:
        self.session = open_session(request, path, device)
        self.inputs = {each.name: each for each in self.session.get_inputs()}
        self.outputs = [each.name for each in self.session.get_outputs()]
        self.pasts = {match[1]: name for name in self.inputs if (match := _PAST.fullmatch(name))}
        self.presents = {match[1]: name for name in self.outputs if (match := _PRESENT.fullmatch(name))}
        self._device = device
        self._name = f"{path.name} of {request.name}"

    def check(self, plain: frozenset[str], gives: set[str]) -> None:
        """Raises LoadFailed when it takes what cannot be given to it here, or does not give `gives`."""
        foreign = [name for name in self.inputs if name not in plain and name not in self.pasts.values()]
        foreign += [name for name, each in self.inputs.items() if each.type not in DTYPES and name not in foreign]
        missing = sorted(gives - set(self.outputs) - set(self.presents))
        if foreign or missing:
            what = f"takes {', '.join(foreign)[:200]}" if foreign else f"does not give {', '.join(missing)[:200]}"
            raise LoadFailed(
                f"{self._name} {what}, so it cannot be run here. Export the model again with optimum, or choose a "
                "repository with safetensors."
            )

    def run(self, feed: Mapping[str, Any], outputs: Sequence[str]) -> list[OrtValue]:
        """`outputs` for `feed`, of which it takes what it knows. Arrays are numpy's, or lie on the device already."""
        kind, _, index = self._device.partition(":")
        binding = self.session.io_binding()
        for name, each in self.inputs.items():
            value = feed[name]
            if isinstance(value, OrtValue):
                binding.bind_ortvalue_input(name, value)
            else:
                binding.bind_cpu_input(name, np.ascontiguousarray(value, DTYPES[each.type]))
        for name in outputs:
            if name == "logits":
                binding.bind_output(name, "cpu")
            else:
                binding.bind_output(name, kind, int(index or 0))
        self.session.run_with_iobinding(binding)
        found: list[OrtValue] = binding.get_outputs()
        return found


class EncoderDecoder:
    """The graphs of one model on one device."""

    def __init__(self, request: LoadRequest, halves: Halves, config: Any, device: str) -> None:
        root = Path(request.path)
        self._encoder = Graph(request, root / halves.encoder, device)
        self._first = Graph(request, root / halves.first, device)
        is_merged = halves.later == halves.first
        self._later = self._first if is_merged else Graph(request, root / halves.later, device)
        self._own = [name for name in self._later.pasts if _OWN in name]
        self._encoder.check(_READS, set())
        self._first.check(_WRITES, {"logits", *self._later.pasts})
        self._later.check(_WRITES, {"logits", *self._own})
        if not self._own or (is_merged and "use_cache_branch" not in self._later.inputs):
            raise LoadFailed(
                f"{halves.later} of {request.name} does not take what was written before as past_key_values, so each "
                "token would cost the whole text again. Choose another file, or a repository with safetensors."
            )
        self._sizes = {name: self._size(name, config) for name in self._later.pasts}

    @property
    def dtype(self) -> Any:
        """Of keys and values."""
        return self._dtype(self._own[0])

    @property
    def token_bytes(self) -> int:
        """What the keys and values of one written token take."""
        return sum(math.prod(self._sizes[name]) * np.dtype(self._dtype(name)).itemsize for name in self._own)

    def encode(self, ids: Sequence[int]) -> Encoded:
        """Reads a prompt."""
        array = np.array([ids], np.int64)
        feed = {"input_ids": array, "attention_mask": np.ones_like(array)}
        (hidden,) = self._encoder.run(feed, self._encoder.outputs[:1])
        return Encoded(hidden, len(ids))

    def write(self, encoded: Encoded, tokens: Sequence[int], past: Past | None) -> tuple[np.ndarray, Past]:
        """Float32 scores (vocabulary,) after the last of `tokens`, and the past to go on with; no past begins."""
        if past is None:
            return self._pass(self._first, encoded, tokens, {}, self._first.presents)
        for token in tokens:  # most graphs with a past read one at a time
            own = {name: self._later.presents[name] for name in self._own}
            scores, past = self._pass(self._later, encoded, [token], past, own)
        return scores, past

    def _pass(
        self, graph: Graph, encoded: Encoded, tokens: Sequence[int], past: Past, grows: Mapping[str, str]
    ) -> tuple[np.ndarray, Past]:
        feed = {
            "input_ids": np.array([tokens]),
            "encoder_attention_mask": np.ones((1, encoded.tokens)),
            "encoder_hidden_states": encoded.hidden,
            "use_cache_branch": np.array([bool(past)]),
        }
        given = past or {name: self._zeros(name) for name in graph.pasts}
        feed |= {source: given[name] for name, source in graph.pasts.items()}
        logits, *values = graph.run(feed, ["logits", *grows.values()])
        row = np.array(logits.numpy()[0, -1], np.float32)
        return row, {**past, **dict(zip(grows, values, strict=True))}

    def _dtype(self, name: str) -> Any:
        return DTYPES[self._later.inputs[self._later.pasts[name]].type]

    def _zeros(self, name: str) -> np.ndarray:
        """A past of no tokens, which the first branch of a merged decoder does not look at."""
        heads, head_dim = self._sizes[name]
        return np.zeros((1, heads, 0, head_dim), self._dtype(name))

    def _size(self, name: str, config: Any) -> tuple[int, int]:
        """Heads, and numbers of each."""
        shape = self._later.inputs[self._later.pasts[name]].shape
        heads, head_dim = (size if isinstance(size, int) else None for size in (shape[1], shape[3]))
        heads = heads or getattr(config, "decoder_attention_heads", None) or config.num_attention_heads
        return heads, head_dim or getattr(config, "d_kv", None) or config.d_model // heads
