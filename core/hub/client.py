"""Calls of the Hub with patience: busy answers and dropped connections are tried again, for a while."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import httpx2
from huggingface_hub import HfApi, hf_hub_url
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.hf_api import ModelInfo
from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status  # type: ignore[attr-defined]

from core.errors import CorruptModel
from core.hub.errors import BUSY_STATUSES, MAX_RETRY_AFTER, retry_after

T = TypeVar("T")
DROPPED = (httpx2.TimeoutException, httpx2.NetworkError, httpx2.RemoteProtocolError)
_BUSY_TRIES, _DROPPED_TRIES, _CONNECT_TRIES = 6, 4, 2


class Patience:
    """Counts the failures of one call and waits between them; gives up by raising the last."""

    def __init__(self, wait_s: float) -> None:
        self._wait_s = wait_s
        self._failures = 0
        self._never = threading.Event()  # waiting for it is a pause that a signal ends at once

    def reset(self) -> None:
        """Something arrived: what failed before no longer counts."""
        self._failures = 0

    def wait(self, error: Exception) -> None:
        """Pauses before the next try, or raises `error` when there shall be none."""
        self._failures += 1
        if isinstance(error, HfHubHTTPError):
            limit = _BUSY_TRIES if error.response.status_code in BUSY_STATUSES else 0
        else:
            limit = _CONNECT_TRIES if isinstance(error, httpx2.ConnectError) else _DROPPED_TRIES
        asked = retry_after(error)
        if self._failures >= limit or (asked or 0) > MAX_RETRY_AFTER:
            raise error
        self._never.wait(asked if asked is not None else min(8.0, self._wait_s * 2 ** (self._failures - 1)))


@dataclass(frozen=True, slots=True)
class HubClient:
    """One repository at one endpoint. The token goes to the endpoint alone: redirects to other hosts lose it."""

    repo_id: str
    endpoint: str | None
    token: str | None
    timeout_s: float  # for each wait on the socket
    retry_wait_s: float  # before the first repetition; doubles

    def info(self, revision: str) -> ModelInfo:
        """The repository's commit, files with sizes and hashes, and card."""
        api = HfApi(endpoint=self.endpoint, token=self.token)
        return self._patiently(
            lambda: api.model_info(self.repo_id, revision=revision, files_metadata=True, timeout=self.timeout_s)
        )

    def read(self, path: str, revision: str, start: int, length: int) -> bytes:
        """At most `length` bytes of a file from `start`, by a ranged request."""

        def call() -> bytes:
            with self.stream(path, revision, start, start + length - 1) as response:
                if response.status_code == 416:  # the file ends before `start`
                    return b""
                hf_raise_for_status(response)
                skip = 0 if response.status_code == 206 else start
                body = bytearray()
                for chunk in response.iter_bytes():
                    body += chunk
                    if len(body) >= skip + length:  # a server that knows no ranges sends it all
                        break
                return bytes(body[skip : skip + length])

        return self._patiently(call)

    @contextmanager
    def stream(self, path: str, revision: str, start: int, end: int | None = None) -> Iterator[httpx2.Response]:
        """The open answer to a request of a file's bytes `start` to `end`, both included. No repetition here."""
        url = hf_hub_url(self.repo_id, path, revision=revision, endpoint=self.endpoint)
        headers = build_hf_headers(token=self.token)
        headers["Accept-Encoding"] = "identity"  # ranges and lengths are those of the file
        if start or end is not None:
            headers["Range"] = f"bytes={start}-{'' if end is None else end}"
        with get_session().stream("GET", url, headers=headers, timeout=self.timeout_s) as response:
            yield response

    def _patiently(self, call: Callable[[], T]) -> T:
        patience = Patience(self.retry_wait_s)
        while True:
            try:
                return call()
            except (HfHubHTTPError, *DROPPED) as error:
                patience.wait(error)
            except ValueError as error:  # an answer that is not JSON
                raise CorruptModel(
                    f"The Hub's answer about {self.repo_id} cannot be read. Check HF_ENDPOINT."
                ) from error
