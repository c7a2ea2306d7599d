"""Loads that there is no memory for, with the numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from core.errors import InsufficientMemory
from core.memory.ledger import Ledger


def cannot_fit(ledger: Ledger, name: str, need: Mapping[str, int], pinned: Sequence[str]) -> InsufficientMemory:
    """Whoever goes that may go."""
    stays = f" What is pinned stays: {', '.join(pinned)}." if pinned else ""
    return InsufficientMemory(
        f"{name} needs {_short(ledger, need)}.{stays} Load it quantized, with a shorter context, or on another device, "
        "unload or unpin a model, or raise the memory budget."
    )


def had_no_turn(
    ledger: Ledger, name: str, need: Mapping[str, int], blockers: Sequence[str], waited_s: float
) -> InsufficientMemory:
    """Those in use, or before it in the line, were so for too long."""
    return InsufficientMemory(
        f"{name} needs {_short(ledger, need)}. {', '.join(blockers)} did not make room within {waited_s:g} s. "
        "Try again, or unload a model.",
        retry_after=5,
    )


def overrun(ledger: Ledger, name: str, cause: str) -> InsufficientMemory:
    """It was promised its bytes, and ran out of memory nevertheless."""
    account = ledger.account(name)
    told = [
        f"{_mib(size)} on {device}, where all models hold {_mib(ledger.held(device))}"
        for device, size in (account.promised if account else {}).items()
    ]
    return InsufficientMemory(
        f"{name} ran out of memory while loading, though it was promised {' and '.join(told)}: {cause} "
        "Load it quantized or with a shorter context, or unload another model."
    )


def _short(ledger: Ledger, need: Mapping[str, int]) -> str:
    """What is needed on each device that has no room for it, and what there is."""
    told = [
        f"{_mib(size)} on {device}, where models may take {_mib(ledger.limits[device])} and hold "
        f"{_mib(ledger.held(device))}"
        for device, size in need.items()
        if device in ledger.limits and size > ledger.room(device)
    ]
    return " and ".join(told) or "more memory than there is"


def _mib(size: int) -> str:
    return f"{size / 1024 / 1024:,.0f} MiB"
