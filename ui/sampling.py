"""The controls of how a model writes, shared by the tabs that write."""

from __future__ import annotations

from typing import Any

import gradio as gr

from core.errors import InvalidRequest
from core.sampling import parse_sampling
from core.types import Sampling
from ui.words import w

MAX_SAMPLES = 4  # side by side


def sampling_fields(*, several: bool, max_tokens: int = 256, top_k: int = 50, penalty: float = 1.1) -> dict[str, Any]:
    """The components by parameter name, put where this is called, with the values that they begin with."""
    with gr.Row(elem_classes="knobs"):
        fields: dict[str, Any] = {
            "max_tokens": _slider("max_tokens", "max_tokens_hint", 1, 4096, max_tokens, 1),
            "temperature": _slider("temperature", "temperature_hint", 0, 2, 0.7, 0.05),
            "top_p": _slider("top_p", "top_p_hint", 0, 1, 0.9, 0.01),
            "top_k": _slider("sampling_top_k", "sampling_top_k_hint", 0, 200, top_k, 1),
            "min_p": _slider("min_p", "min_p_hint", 0, 1, 0, 0.01),
            "repetition_penalty": _slider("repetition_penalty", "repetition_penalty_hint", 1, 2, penalty, 0.01),
        }
        if several:
            fields["n"] = _slider("samples", "samples_hint", 1, MAX_SAMPLES, 1, 1)
        fields["seed"] = gr.Textbox("", label=w("seed"), info=w("seed_hint"), placeholder=w("seed_any"), max_lines=1)
        fields["stop"] = gr.Textbox("", label=w("stop_strings"), info=w("stop_strings_hint"), lines=2, max_lines=6)
    return fields


def _slider(label: str, hint: str, low: float, high: float, value: float, step: float) -> gr.Slider:
    return gr.Slider(low, high, value, step=step, label=w(label), info=w(hint), buttons=[])


def sampling_of(*, max_tokens: float, top_k: float, seed: str, stop: str, n: float = 1, **others: Any) -> Sampling:
    """What the controls say. Raises InvalidRequest."""
    whole = {"max_tokens": int(max_tokens), "top_k": int(top_k), "n": int(n), "seed": parse_seed(seed)}
    return parse_sampling({**others, **whole, "stop": split_stops(stop)})


def parse_seed(typed: str) -> int | None:
    """None when there is none. Raises InvalidRequest."""
    typed = typed.strip()
    if not typed:
        return None
    if not typed.isascii() or not typed.isdigit() or len(typed) > 15:
        raise InvalidRequest("`seed` must be a whole number of at most 15 digits, or empty.")
    return int(typed)


def split_stops(typed: str) -> list[str]:
    r"""Stop strings, one a line; `\n` stands for a line break."""
    return [line.replace("\\n", "\n") for line in typed.split("\n") if line]
