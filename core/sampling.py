"""What a request may ask of a generation, checked once for every door: REST, the OpenAI dialect, the page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from core.errors import InvalidRequest
from core.params import checked, flag, integer, number, valid_text
from core.types import Sampling

MAX_ANSWERS = 16  # to one prompt
MAX_STOPS = 16
MAX_STOP_CHARACTERS = 256
MAX_TOP_LOGPROBS = 20

_TOKENS = integer(1, 1_000_000)


def _stop(name: str, value: Any) -> tuple[str, ...]:
    stops = [value] if isinstance(value, str) else value
    if not isinstance(stops, list | tuple) or len(stops) > MAX_STOPS:
        raise InvalidRequest(f"`{name}` must be a string, or a list of at most {MAX_STOPS}.")
    for stop in stops:
        if not isinstance(stop, str) or not 1 <= len(stop) <= MAX_STOP_CHARACTERS:
            raise InvalidRequest(f"`{name}` must hold strings of 1 to {MAX_STOP_CHARACTERS} characters.")
    return tuple(valid_text(name, stop) for stop in stops)


# field → field of Sampling, and its check
_FIELDS: dict[str, tuple[str, Callable[[str, Any], Any]]] = {
    "max_tokens": ("max_tokens", _TOKENS),
    "max_new_tokens": ("max_tokens", _TOKENS),
    "max_completion_tokens": ("max_tokens", _TOKENS),
    "max_length": ("max_length", _TOKENS),
    "temperature": ("temperature", number(0.0, 10.0)),
    "top_p": ("top_p", number(0.0, 1.0)),
    "top_k": ("top_k", integer(0, 1_000_000)),
    "min_p": ("min_p", number(0.0, 1.0)),
    "repetition_penalty": ("repetition_penalty", number(0.01, 10.0)),
    "presence_penalty": ("presence_penalty", number(-2.0, 2.0)),
    "frequency_penalty": ("frequency_penalty", number(-2.0, 2.0)),
    "stop": ("stop", _stop),
    "seed": ("seed", integer(0, 2**63 - 1 - MAX_ANSWERS)),
    "logprobs": ("logprobs", integer(0, MAX_TOP_LOGPROBS)),
    "n": ("n", integer(1, MAX_ANSWERS)),
    "num_return_sequences": ("n", integer(1, MAX_ANSWERS)),
    "ignore_eos": ("ignore_eos", flag),
}
FIELD_NAMES = frozenset(_FIELDS) | {"do_sample"}


def parse_sampling(fields: Mapping[str, Any]) -> Sampling:
    """The sampling that a request asks for. Null means "not said"; `do_sample` false is temperature 0.

    Raises InvalidRequest that names the first field which is unknown or out of range.
    """
    values: dict[str, Any] = {}
    for name, value in fields.items():
        if name not in FIELD_NAMES:
            raise InvalidRequest(f"There is no field `{name[:64]}`. Known fields: {', '.join(sorted(FIELD_NAMES))}.")
        if value is not None and name != "do_sample":
            field, check = _FIELDS[name]
            values[field] = checked(name, value, check)
    if values.get("top_p") == 0:
        values["top_p"] = 1e-9  # the likeliest token alone
    does = fields.get("do_sample")
    if does is not None and not checked("do_sample", does, flag):
        values["temperature"] = 0.0
    return Sampling(**values)
