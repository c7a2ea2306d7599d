"""The border where errors of huggingface_hub and of HTTP become ours. Only the Hub's own process imports this."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx2
from huggingface_hub import errors as hub
from huggingface_hub.utils import parse_ratelimit_headers  # type: ignore[attr-defined]

from core.errors import (
    BerthError,
    CorruptModel,
    DiskFull,
    HostError,
    HubBusy,
    HubUnreachable,
    InternalError,
    RepositoryGated,
    RepositoryNotFound,
)

BUSY_STATUSES = frozenset((408, 425, 429, 500, 502, 503, 504))
MAX_RETRY_AFTER = 60.0  # seconds; a Hub that asks for more is answered to the user at once


def retry_after(error: BaseException) -> float | None:
    """Seconds that the answer behind `error` asks to wait, None when it does not say."""
    if not isinstance(error, hub.HfHubHTTPError):
        return None
    headers = error.response.headers
    limit = parse_ratelimit_headers(headers) if error.response.status_code == 429 else None
    if limit is not None and limit.remaining == 0:
        return float(limit.reset_in_seconds)
    value = headers.get("Retry-After", "").strip()
    return float(value) if value.isascii() and value.isdigit() and len(value) < 8 else None


def _gated(repo: str, error: Exception) -> BerthError:
    return RepositoryGated(
        f"{repo} is gated. Accept its licence at https://huggingface.co/{repo.partition('@')[0]}, then set HF_TOKEN "
        "to a token of that account and restart the server."
    )


def _missing(repo: str, error: Exception) -> BerthError:
    return RepositoryNotFound(
        f"The Hub has no repository {repo}, or it is private. Check the spelling; a private one needs HF_TOKEN."
    )


def _no_revision(repo: str, error: Exception) -> BerthError:
    return RepositoryNotFound(f"{repo}: the repository has no such revision. Give a branch, a tag or a commit of it.")


def _no_entry(repo: str, error: Exception) -> BerthError:
    return RepositoryNotFound(f"A file of {repo} is not on the Hub any more. Load the model again.")


def _disabled(repo: str, error: Exception) -> BerthError:
    return RepositoryNotFound(f"{repo} has been disabled on the Hub. Choose another model.")


def _by_status(repo: str, error: Exception) -> BerthError:
    status = error.response.status_code if isinstance(error, hub.HfHubHTTPError) else 0
    if status == 401 and "credentials" in error.response.headers.get("X-Error-Message", "").lower():  # type: ignore[attr-defined]
        return RepositoryGated(f"The Hub did not accept HF_TOKEN for {repo}. Set a valid token and restart the server.")
    if status in (401, 404, 410):
        return _missing(repo, error)
    if status in (403, 451):
        return RepositoryGated(f"The Hub does not let this server read {repo}. Set HF_TOKEN to a token that may.")
    if status in BUSY_STATUSES or status >= 500:
        wait = retry_after(error)
        return HubBusy(f"The Hub is busy (HTTP {status}) and did not give {repo}. Try again later.", retry_after=wait)
    return HubUnreachable(f"The Hub answered HTTP {status} for {repo}. Check HF_ENDPOINT, or try again later.")


def _unreachable(repo: str, error: Exception) -> BerthError:
    return HubUnreachable(
        f"The Hub could not be reached for {repo} ({type(error).__name__}). Check the network, then load it again."
    )


def _offline(repo: str, error: Exception) -> BerthError:
    return HubUnreachable(f"Offline mode is on and {repo} is not on this machine. Unset HF_HUB_OFFLINE to download it.")


def _by_errno(repo: str, error: Exception) -> BerthError:
    code = error.errno if isinstance(error, OSError) else None
    if code in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(f"The disk became full while {repo} was downloaded. Free some space, then load it again.")
    why = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
    return HostError(f"The download of {repo} could not be stored: {why}. Check the cache directory, HF_HOME.")


def _damaged(repo: str, error: Exception) -> BerthError:
    return CorruptModel(f"A file of {repo} is not what it says: {type(error).__name__}. Load the model again.")


# The first row that fits counts, so a class stands before its parents.
TABLE: tuple[tuple[type[Exception], Callable[[str, Exception], BerthError]], ...] = (
    (hub.GatedRepoError, _gated),
    (hub.RepositoryNotFoundError, _missing),
    (hub.RevisionNotFoundError, _no_revision),
    (hub.RemoteEntryNotFoundError, _no_entry),
    (hub.DisabledRepoError, _disabled),
    (hub.OfflineModeIsEnabled, _offline),
    (hub.HfHubHTTPError, _by_status),
    (hub.LocalEntryNotFoundError, _unreachable),
    (hub.EntryNotFoundError, _no_entry),
    (hub.FileMetadataError, _unreachable),
    (hub.SafetensorsParsingError, _damaged),
    (hub.HFValidationError, _missing),
    (httpx2.HTTPError, _unreachable),
    (httpx2.InvalidURL, _unreachable),
    (ConnectionError, _unreachable),
    (TimeoutError, _unreachable),
    (OSError, _by_errno),
)


def to_berth(repo: str, error: Exception) -> BerthError:
    """`error` as one of ours; what no row knows is our own bug."""
    if isinstance(error, BerthError):
        return error
    for kind, make in TABLE:
        if isinstance(error, kind):
            return make(repo, error)
    return InternalError(f"Reading {repo} failed unexpectedly ({type(error).__name__}). The server's log says more.")


@contextmanager
def hub_errors(repo: str) -> Iterator[None]:
    """Whatever the Hub or the disk raises inside comes out as a BerthError that names `repo`."""
    try:
        yield
    except Exception as error:
        raised = to_berth(repo, error)
        if raised is error:
            raise
        raise raised from error
