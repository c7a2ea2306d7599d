"""How work in the Hub's process is broken off. Not Exceptions: nothing on the way may take them for a failure."""

from __future__ import annotations


class Cancelled(BaseException):
    """The load was cancelled: what was written is taken away again."""


class Stopped(BaseException):
    """The server is gone: what was written stays for the next try."""
