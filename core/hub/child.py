"""The process that talks to the Hub: `python -m core.hub.child`. One request, one answer, then it ends.

In a process of its own a download can be stopped at any moment, also while a socket stalls, and the server never
holds huggingface_hub's client. Standard input brings one line of JSON, the request, token included, and stays
open: the line `cancel` stops the work and undoes it, the end of the input (the server is gone) stops it and keeps
what can be resumed. Standard output gives lines of JSON: `{"progress": …}` …, then `{"result": …}` or
`{"error": {"type", "message", "retry_after"}}`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

from core.hub.interrupts import Cancelled, Stopped
from core.types import FileProgress, ModelSpec, Quantization, RepoFile, Runtime, Task

# Plain HTTP is what can be resumed, counted and cut short; nothing is reported to anyone.
_ENVIRONMENT = {
    "HF_HUB_DISABLE_XET": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_OFFLINE": "0",
    "TRANSFORMERS_OFFLINE": "0",
    "HF_HUB_VERBOSITY": "error",
}


def decode_spec(raw: dict[str, Any]) -> ModelSpec:
    """A ModelSpec as it crossed the pipe."""
    values = dict(raw)
    for name, kind in (("runtime", Runtime), ("task", Task), ("quantization", Quantization)):
        values[name] = kind(values[name]) if values[name] is not None else None
    return ModelSpec(**values)


def _say(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def _watch(main: int) -> None:
    """Waits for the word to stop, or for the server's end, and interrupts the main thread wherever it is."""
    word = sys.stdin.buffer.readline().strip()
    signal.pthread_kill(main, signal.SIGUSR1 if word == b"cancel" else signal.SIGTERM)


def _inspect(request: dict[str, Any]) -> dict[str, Any]:
    from core.hub.client import HubClient
    from core.hub.errors import hub_errors
    from core.hub.identify import identify
    from core.hub.remote import open_repository

    client = HubClient(**request["client"])
    with hub_errors(request["name"]):
        files = open_repository(request["name"], client, request["revision"], Path(request["cache_dir"]))
        return asdict(identify(files, decode_spec(request["spec"]), pickle_allowed=request["pickle_allowed"]))


def _download(request: dict[str, Any]) -> str:
    from core.hub.client import HubClient
    from core.hub.download import Download
    from core.hub.errors import hub_errors

    def report(progress: FileProgress) -> None:
        _say({"progress": asdict(progress)})

    client = HubClient(**request["client"])
    files = [RepoFile(**each) for each in request["files"]]
    with hub_errors(request["name"]):
        return str(
            Download(client, Path(request["cache_dir"]), request["commit"], files, report).run(request["revision"])
        )


def _on_cancel(*_: object) -> None:
    raise Cancelled


def _on_stop(*_: object) -> None:
    raise Stopped


def main() -> int:
    """Answers the one request. Returns the exit status: 0 also for an error that was reported."""
    from core.errors import BerthError

    request = json.loads(sys.stdin.buffer.readline())
    os.environ.update(_ENVIRONMENT)  # read by huggingface_hub when it is imported, which is below
    signal.signal(signal.SIGUSR1, _on_cancel)
    signal.signal(signal.SIGTERM, _on_stop)
    threading.Thread(target=_watch, args=(threading.get_ident(),), daemon=True).start()
    try:
        answer = {"inspect": _inspect, "download": _download}[request["op"]](request)
        _say({"result": answer})
    except BerthError as error:
        _say({"error": {"type": error.type, "message": error.message, "retry_after": error.retry_after}})
        if error.type == "internal":
            raise
    return 0


if __name__ == "__main__":
    try:
        status = main()
    except (Cancelled, Stopped, BrokenPipeError):
        status = 3
    os._exit(status)  # the watching thread sits in a read that nothing else would end
