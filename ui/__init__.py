"""The page: Gradio at "/", drawn from what `core` says."""

from __future__ import annotations

from ui.page import mount

__all__ = ["mount"]
