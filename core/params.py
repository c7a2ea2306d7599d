"""What a request may ask of each task, checked once for every door: REST, the page, and the command line.

A field that belongs to another task is checked and then left aside, since clients send one body to every
model; a field that no task knows is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from core.errors import InvalidRequest, RequestTooLarge
from core.types import GENERATION_TASKS, VISION_TASKS, Task

Check = Callable[[str, Any], Any]

MAX_TEXTS = 2048  # in one request
MAX_CHARACTERS = 2_000_000  # in one request, over all its texts
MAX_LABELS = 256  # candidate labels of a zero-shot request
AGGREGATIONS = ("none", "simple", "first", "average", "max")


def integer(low: int, high: int) -> Check:
    """A check for whole numbers from `low` to `high`."""

    def check(name: str, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise InvalidRequest(f"`{name}` must be a whole number from {low} to {high}.")
        return value

    return check


def number(low: float, high: float) -> Check:
    """A check for numbers from `low` to `high`, never NaN."""

    def check(name: str, value: Any) -> float:
        # the comparison is false for NaN, so NaN is refused too
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise InvalidRequest(f"`{name}` must be a number from {low} to {high}.")
        return float(value)

    return check


def flag(name: str, value: Any) -> bool:
    """`value` as it is when it is true or false. Raises InvalidRequest."""
    if not isinstance(value, bool):
        raise InvalidRequest(f"`{name}` must be true or false.")
    return value


def checked(name: str, value: Any, check: Check) -> Any:
    """`value` as `check` makes it. Raises InvalidRequest that says which field it is about."""
    try:
        return check(name, value)
    except InvalidRequest as error:
        error.param = name
        raise


def _one_of(*choices: str) -> Check:
    def check(name: str, value: Any) -> str:
        if not isinstance(value, str) or value not in choices:
            raise InvalidRequest(f"`{name}` must be one of: {', '.join(choices)}.")
        return value

    return check


def valid_text(name: str, value: Any) -> str:
    """`value` as a text that can be encoded.

    Raises InvalidRequest for other types and lone surrogates, RequestTooLarge.
    """
    if not isinstance(value, str):
        raise InvalidRequest(f"`{name}` must be a string.")
    if len(value) > MAX_CHARACTERS:
        raise RequestTooLarge(f"`{name}` has {len(value):,} characters; a request may hold {MAX_CHARACTERS:,}.")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InvalidRequest(f"`{name}` holds half a surrogate pair at character {error.start}.") from None
    return value


def _texts(low: int, high: int) -> Check:
    def check(name: str, value: Any) -> list[str]:
        if not isinstance(value, list | tuple) or not low <= len(value) <= high:
            raise InvalidRequest(f"`{name}` must be a list of {low} to {high:,} strings.")
        texts = [valid_text(f"{name}[{index}]", item) for index, item in enumerate(value)]
        if (total := sum(map(len, texts))) > MAX_CHARACTERS:
            raise RequestTooLarge(f"`{name}` holds {total:,} characters; a request may hold {MAX_CHARACTERS:,}.")
        return texts

    return check


def _template(name: str, value: Any) -> str:
    template = valid_text(name, value)
    if template.count("{}") != 1 or len(template) > 1000:
        raise InvalidRequest(f"`{name}` must hold {{}} once, where the label goes, and at most 1,000 characters.")
    return template


_TOKENS = integer(1, 1_000_000)
_SEED = integer(0, 2**63 - 1)

# field → check. `texts` is the only way in for texts: `text` is a list of one.
_FIELDS: dict[str, Check] = {
    "max_length": _TOKENS,
    "max_new_tokens": _TOKENS,
    "temperature": number(0.0, 10.0),
    "top_p": number(0.0, 1.0),
    "top_k": integer(1, 1000),
    "do_sample": flag,
    "repetition_penalty": number(0.01, 10.0),
    "seed": _SEED,
    "normalize": flag,
    "aggregation_strategy": _one_of(*AGGREGATIONS),
    "candidate_labels": _texts(1, MAX_LABELS),
    "multi_label": flag,
    "hypothesis_template": _template,
    "stride": integer(0, 100_000),
    "dimensions": integer(1, 100_000),
    "prompt_name": valid_text,
    "handle_impossible_answer": flag,
    "function_to_apply": _one_of("softmax", "sigmoid", "none"),
    "targets": _texts(1, 1000),
}

# As transformers' pipelines do where a request says nothing: the likeliest token always.
_GENERATION: dict[str, Any] = {
    "max_length": None,
    "max_new_tokens": None,
    "temperature": None,
    "top_p": None,
    "top_k": None,
    "do_sample": None,
    "repetition_penalty": None,
    "seed": None,
}

# task → its parameters and what they are when not said; None leaves it to the model's own files.
DEFAULTS: dict[Task, dict[str, Any]] = {
    Task.TEXT_CLASSIFICATION: {"top_k": 1, "function_to_apply": None, "max_length": None},
    Task.TOKEN_CLASSIFICATION: {"aggregation_strategy": "none", "stride": None},
    Task.FEATURE_EXTRACTION: {"normalize": None, "dimensions": None, "prompt_name": None, "max_length": None},
    Task.QUESTION_ANSWERING: {"top_k": 1, "stride": None, "handle_impossible_answer": False},
    Task.ZERO_SHOT_CLASSIFICATION: {
        "candidate_labels": None,
        "multi_label": False,
        "hypothesis_template": "This example is {}.",
    },
    Task.FILL_MASK: {"top_k": 5, "targets": None},
    Task.IMAGE_CLASSIFICATION: {"top_k": 5, "function_to_apply": None},
    **dict.fromkeys(GENERATION_TASKS, _GENERATION),
}

FIELD_NAMES = frozenset(_FIELDS)


def parse_params(task: Task, fields: dict[str, Any]) -> dict[str, Any]:
    """The parameters of `task`, complete, from what a request said. Null means "not said".

    Raises InvalidRequest that names the first field which is unknown or out of range.
    """
    params = dict(DEFAULTS[task])
    for name, value in fields.items():
        if name not in _FIELDS:
            known = ", ".join(sorted(_FIELDS))
            raise InvalidRequest(f"There is no field `{name[:64]}`. Known fields: {known}.")
        if value is not None:
            value = checked(name, value, _FIELDS[name])
            if name in params:
                params[name] = value
    if task is Task.ZERO_SHOT_CLASSIFICATION and params["candidate_labels"] is None:
        raise InvalidRequest("`candidate_labels` is missing: the labels to choose from, as a list of strings.")
    return params


def parse_texts(texts: Any) -> list[str]:
    """The texts of a request. Raises InvalidRequest."""
    taken: list[str] = _texts(1, MAX_TEXTS)("texts", texts)
    return taken


def _is_image(item: Any) -> bool:
    return isinstance(item, dict) and item.keys() == {"data", "key"} and isinstance(item["data"], bytes)


def _looked_at(task: Task, items: Any) -> list[Any]:
    """Pictures for image classification; texts, each with the picture that it is about, for image-text-to-text."""
    if isinstance(items, list | tuple) and items and all(isinstance(item, dict) and "image" in item for item in items):
        if task is Task.IMAGE_TEXT_TO_TEXT:
            parse_texts([item["text"] for item in items])
            return list(items)
        if any(item["text"] for item in items):
            raise InvalidRequest(f"{task} reads an image alone. Send no `text` with it.")
        items = [item["image"] for item in items]
    if task is Task.IMAGE_TEXT_TO_TEXT:
        return parse_texts(items)
    if not isinstance(items, list | tuple) or not all(map(_is_image, items)):
        raise InvalidRequest(f"{task} reads an image, in `image`, not a text.")
    return list(items)


def parse_items(task: Task, items: Any) -> list[Any]:
    """What `task` reads: texts; for question answering `{"question", "context"}`; for tasks that look pictures as
    `core/images` makes them, or `{"image", "text"}`. Raises InvalidRequest."""
    if task in VISION_TASKS:
        return _looked_at(task, items)
    if task is not Task.QUESTION_ANSWERING:
        if isinstance(items, list | tuple) and any(isinstance(item, dict) and "image" in item for item in items):
            raise InvalidRequest(f"{task} reads text alone. Leave `image` or `task` out.")
        if isinstance(items, list | tuple) and any(isinstance(item, dict) for item in items):
            raise InvalidRequest(f"{task} reads `text` or `texts`, not a question and its context.")
        return parse_texts(items)
    if not isinstance(items, list | tuple) or not all(
        isinstance(item, dict) and item.keys() == {"question", "context"} for item in items
    ):
        raise InvalidRequest(f"{task} reads `question` and `context`.")
    parse_texts([text for item in items for text in item.values()])
    return list(items)
