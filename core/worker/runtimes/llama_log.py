"""What llama.cpp says, sent to Python's logging; its last complaints are kept for an error's message."""

from __future__ import annotations

import ctypes
import logging
from collections import deque

import llama_cpp

log = logging.getLogger("llama.cpp")

_KEPT = 16  # lines
_WARNING, _ERROR, _CONTINUED = 3, 4, 5  # ggml_log_level
_LEVELS = {_WARNING: logging.INFO, _ERROR: logging.ERROR}  # its warnings are advice, and the rest is for us
_complaints: deque[str] = deque(maxlen=_KEPT)


def _receive(level: int, text: bytes, _: ctypes.c_void_p) -> None:
    line = text.decode("utf-8", errors="replace").rstrip()
    if level == _ERROR:
        _complaints.append(line)
    if level != _CONTINUED and line.strip(". "):
        log.log(_LEVELS.get(level, logging.DEBUG), "%s", line)


callback = llama_cpp.llama_log_callback(_receive)  # of this module, so that it lives as long as the library


def capture() -> None:
    """From here on for good."""
    llama_cpp.llama_log_set(callback, ctypes.c_void_p(0))


def forget() -> None:
    _complaints.clear()


def complaint() -> str:
    """The first error since `forget`: those behind it only pass it on. Empty when there is none."""
    return _complaints[0][:300] if _complaints else ""
