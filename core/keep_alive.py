"""How long a model stays in memory after its last request: "5m", "1h30m", seconds, 0 (not at all) or -1 (for good)."""

from __future__ import annotations

import math
import re

FOR_GOOD = -1.0
_LONGEST_S = 365 * 86400
_PART = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_SAYS = 'must be seconds, a duration such as "5m" or "1h30m", 0 for not at all, or -1 for good'


def parse_keep_alive(value: object) -> float:
    """Seconds, or FOR_GOOD. Raises ValueError that says what may be written."""
    if isinstance(value, str):
        return _parse_text(value.strip())
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(_SAYS)
    if value < 0:  # however negative, as in Ollama's API
        return FOR_GOOD
    if value > _LONGEST_S:
        raise ValueError(f"{_SAYS}; a year at most")
    return float(value)


def _parse_text(text: str) -> float:
    if len(text) > 40:
        raise ValueError(_SAYS)
    parts = _PART.findall(text)
    if parts and "".join(number + unit for number, unit in parts) == text.removeprefix("-"):
        seconds = sum(float(number) * _SECONDS[unit] for number, unit in parts)
        return parse_keep_alive(-seconds if text.startswith("-") else seconds)
    try:
        return parse_keep_alive(float(text))
    except ValueError:
        raise ValueError(_SAYS) from None
