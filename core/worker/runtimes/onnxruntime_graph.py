"""What an ONNX decoder takes and gives, by the names that optimum gives the inputs and outputs of its exports."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from core.errors import LoadFailed

_PAST = re.compile(r"past_key_values\.\d+\.(key|value)")
_PRESENT = ("present", "present_key_values")
_PLAIN = frozenset(("attention_mask", "position_ids", "use_cache_branch", "num_logits_to_keep", "logits_to_keep"))
DTYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(bool)": np.bool_,
}


@dataclass(frozen=True, slots=True)
class Past:
    """The keys or the values of one layer: float (rows, heads, columns, head_dim)."""

    source: str  # the input
    target: str  # the output, one column longer for each token read
    heads: int
    head_dim: int
    dtype: Any

    def zeros(self, rows: int, columns: int) -> np.ndarray:
        return np.zeros((rows, self.heads, columns, self.head_dim), self.dtype)


@dataclass(frozen=True, slots=True)
class Graph:
    """The signature of a decoder with past keys and values."""

    pasts: tuple[Past, ...]
    inputs: dict[str, Any]  # the others → dtype
    reads: str = "input_ids"  # the one of them that is the text: tokens, or rows that these were embedded as
    axes_of_positions: int = 2  # rows and tokens; 3 where each token has several positions

    @property
    def has_branches(self) -> bool:
        """Whether it holds two graphs, one for the first pass and one for those with a past."""
        return "use_cache_branch" in self.inputs

    @property
    def token_bytes(self) -> int:
        """What the keys and values of one token take."""
        return sum(past.heads * past.head_dim * np.dtype(past.dtype).itemsize for past in self.pasts)

    def feed(
        self, text: np.ndarray, held: np.ndarray, mask: np.ndarray, positions: np.ndarray | None = None
    ) -> dict[str, np.ndarray]:
        """The inputs besides the past for `text` (rows, n) or (rows, n, width), after `held` (rows,) tokens each.

        `mask` (rows, columns) says which columns of the past and of `text` count. `positions` are those of `text`,
        where they are not its indices.
        """
        batch: dict[str, Any] = {
            self.reads: text,
            "attention_mask": mask,
            "position_ids": held[:, None] + np.arange(text.shape[1]) if positions is None else positions,
            "use_cache_branch": np.array([held.any()]),
            "num_logits_to_keep": np.array(1),
            "logits_to_keep": np.array(1),
        }
        return {name: np.asarray(batch[name], dtype) for name, dtype in self.inputs.items()}


def read_graph(session: Any, config: Any, name: str, reads: str = "input_ids") -> Graph:
    """The signature of `session`, a decoder that takes its text as `reads`.

    Raises LoadFailed, naming the inputs, when it is none that can be run here.
    """
    inputs = {each.name: each for each in session.get_inputs()}
    outputs = {each.name for each in session.get_outputs()}
    pasts = [each for each in inputs if _PAST.fullmatch(each)]
    plain = _PLAIN | {reads}
    foreign = [each for each in inputs if each not in plain and each not in pasts]
    if not pasts or foreign or reads not in inputs or "logits" not in outputs:
        raise _unknown(name, list(inputs), outputs, foreign, reads)
    unknown = [each for each in inputs if inputs[each].type not in DTYPES]
    if unknown:
        raise LoadFailed(
            f"The graph of {name} takes {inputs[unknown[0]].type} as {unknown[0]}, which cannot be given to it here. "
            "Choose another file, with float32 or float16."
        )
    return Graph(
        tuple(_past(inputs[each], outputs, config, name) for each in pasts),
        {each: DTYPES[inputs[each].type] for each in inputs if each in plain},
        reads,
        len(inputs["position_ids"].shape) if "position_ids" in inputs else 2,
    )


def _unknown(name: str, inputs: list[str], outputs: set[str], foreign: list[str], reads: str) -> LoadFailed:
    if not foreign and "logits" not in outputs:
        what = f"gives {', '.join(sorted(outputs))[:200]} and no logits"
    elif not foreign:
        what = f"takes {', '.join(inputs)[:200]} and no past_key_values, so each token would cost the whole text again"
    else:
        what = f"takes {', '.join(foreign)[:300]}, which cannot be given to it here"
    return LoadFailed(
        f"The graph of {name} {what}. A decoder takes {reads}, maybe attention_mask, position_ids and "
        "use_cache_branch, and past_key_values.N.key and .value. Choose such a file by `file`, or another model."
    )


def _past(value: Any, outputs: set[str], config: Any, name: str) -> Past:
    number = value.name.removeprefix("past_key_values.")
    target = next((f"{each}.{number}" for each in _PRESENT if f"{each}.{number}" in outputs), None)
    if target is None:
        raise LoadFailed(f"The graph of {name} takes {value.name} and gives no present.{number}, so it cannot go on.")
    if len(value.shape) != 4 or isinstance(value.shape[2], int):
        raise LoadFailed(
            f"The graph of {name} takes {value.name} as {value.shape}; it must be (rows, heads, columns, head_dim), "
            "with any number of columns. Choose another file."
        )
    heads, head_dim = (size if isinstance(size, int) else None for size in value.shape[1::2])
    heads = heads or getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    head_dim = head_dim or getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return Past(value.name, target, heads, head_dim, DTYPES[value.type])
