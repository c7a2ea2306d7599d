"""Runs the Hub's process for one request. Cancelling the caller ends the process and undoes its work."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from core.errors import HubUnreachable, revive
from core.types import FileProgress

_PROJECT = Path(__file__).resolve().parent.parent.parent
_MAX_LINE = 64 * 1024 * 1024  # bytes; an Inspection with a hundred thousand labels has 10 MB
_GRACE_S = 5.0  # seconds that a cancelled process has to undo its work


async def ask(request: dict[str, Any], on_progress: Callable[[FileProgress], None] | None = None) -> Any:
    """The result of `request`. Raises the typed error that the process reports."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "core.hub.child",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=_PROJECT,
        limit=_MAX_LINE,
        start_new_session=True,  # Ctrl-C in a terminal is for the server to act on
    )  # fmt: skip
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(request).encode() + b"\n")
        async for line in process.stdout:
            if not line.endswith(b"\n"):
                break  # it was killed in the middle of a line
            message = json.loads(line)
            if "progress" in message:
                if on_progress is not None:
                    on_progress(FileProgress(**message["progress"]))
            elif "error" in message:
                error = revive(message["error"]["type"], message["error"]["message"])
                error.retry_after = message["error"]["retry_after"]
                raise error
            else:
                return message["result"]
        raise HubUnreachable(f"The download process ended early (status {await process.wait()}). Load the model again.")
    finally:
        await asyncio.shield(_end(process))


async def _end(process: asyncio.subprocess.Process) -> None:
    """Cancels what still runs, and waits for the process's end; kills it when it does not obey."""
    assert process.stdin is not None
    with contextlib.suppress(OSError, RuntimeError):
        if process.returncode is None:
            process.stdin.write(b"cancel\n")
        process.stdin.close()
    try:
        await asyncio.wait_for(process.wait(), _GRACE_S)
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
