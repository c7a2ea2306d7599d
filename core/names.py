"""What a model may be called. One rule for every door: REST and the page."""

from __future__ import annotations

import re

MAX_NAME = 200  # characters
_PART = r"\w[\w.@:+-]*"  # letters and digits of any script
_NAME = re.compile(rf"{_PART}(/{_PART})*")
_CALLS = ("predict", "events", "cancel", "unload", "tasks", "load", "plan")  # what stands after /models or a name


def check_new_name(name: str) -> str:
    """`name`, if a model can be called so. Raises ValueError, whose words go on from "it"."""
    if len(name) > MAX_NAME or not _NAME.fullmatch(name):
        raise ValueError(f"must be letters, digits and . _ - @ : + in parts joined by /, at most {MAX_NAME} characters")
    if name.rsplit("/", 1)[-1] in _CALLS:
        raise ValueError(f"must not end in {', '.join(_CALLS)}: these are calls on a model")
    return name
