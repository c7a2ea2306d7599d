"""Models of the Hub and of this machine: what they are, and how they get here."""

from core.hub.hub import Hub
from core.hub.source import Source

__all__ = ["Hub", "Source"]
