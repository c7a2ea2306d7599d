"""Every error that huggingface_hub and its HTTP client can raise has a row, and none falls through as our bug."""

from __future__ import annotations

import errno

import httpx2
import pytest
from huggingface_hub import errors as hub

from core.errors import (
    BerthError,
    DiskFull,
    HostError,
    HubBusy,
    HubUnreachable,
    InternalError,
    RepositoryGated,
    RepositoryNotFound,
    all_errors,
)
from core.hub.errors import hub_errors, retry_after, to_berth


def answer(status: int, **headers: str) -> httpx2.Response:
    return httpx2.Response(status, headers=headers, request=httpx2.Request("GET", "https://hub/x"))


def subclasses(kind: type[Exception]) -> list[type[Exception]]:
    return [kind, *(each for child in kind.__subclasses__() for each in subclasses(child))]


@pytest.mark.parametrize("kind", subclasses(hub.HfHubHTTPError))
def test_every_http_error_of_the_hub_is_one_of_ours(kind: type[hub.HfHubHTTPError]) -> None:
    error = to_berth("org/name", kind("text", response=answer(404)))
    assert not isinstance(error, InternalError)
    assert "org/name" in error.message


@pytest.mark.parametrize(
    "kind", [each for each in subclasses(httpx2.HTTPError) if each.__module__.startswith("httpx2")]
)
def test_every_error_of_the_client_is_unreachable(kind: type[httpx2.HTTPError]) -> None:
    request = httpx2.Request("GET", "https://hub/x")
    if kind is httpx2.HTTPStatusError:
        error: Exception = kind("text", request=request, response=answer(500))  # type: ignore[call-arg]
    else:
        error = kind("text")
    assert type(to_berth("org/name", error)) is HubUnreachable


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        *((401, RepositoryNotFound), (403, RepositoryGated), (404, RepositoryNotFound), (410, RepositoryNotFound)),
        *(
            (408, HubBusy),
            (425, HubBusy),
            (429, HubBusy),
            (500, HubBusy),
            (502, HubBusy),
            (503, HubBusy),
            (504, HubBusy),
        ),
        *((520, HubBusy), (451, RepositoryGated), (400, HubUnreachable), (418, HubUnreachable)),
    ],
)
def test_the_status_decides_where_the_class_does_not(status: int, kind: type[BerthError]) -> None:
    assert type(to_berth("org/name", hub.HfHubHTTPError("text", response=answer(status)))) is kind


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (hub.GatedRepoError("x", response=answer(403)), RepositoryGated),
        (hub.RepositoryNotFoundError("x", response=answer(401)), RepositoryNotFound),
        (hub.OfflineModeIsEnabled("x"), HubUnreachable),
        (hub.LocalEntryNotFoundError("x"), HubUnreachable),
        (hub.FileMetadataError("x"), HubUnreachable),
        (OSError(errno.ENOSPC, "full"), DiskFull),
        (OSError(errno.EDQUOT, "quota"), DiskFull),
        (PermissionError(errno.EACCES, "denied"), HostError),
        (OSError(errno.EROFS, "read only"), HostError),
        (ConnectionResetError(), HubUnreachable),
        (TimeoutError(), HubUnreachable),
        (ZeroDivisionError(), InternalError),
    ],
)
def test_others_have_their_rows(error: Exception, kind: type[BerthError]) -> None:
    assert type(to_berth("org/name", error)) is kind


def test_ours_pass_unchanged() -> None:
    for kind in all_errors():
        with pytest.raises(kind) as caught, hub_errors("org/name"):
            raise kind("as it was")
        assert caught.value.message == "as it was"


@pytest.mark.parametrize(
    ("value", "seconds"), [("7", 7), ("0", 0), ("", None), ("soon", None), ("-1", None), ("²", None), ("9" * 40, None)]
)
def test_retry_after_is_a_number_of_seconds(value: str, seconds: float | None) -> None:
    headers = [("Retry-After", value.encode())]
    response = httpx2.Response(429, headers=headers, request=httpx2.Request("GET", "https://hub/x"))  # type: ignore[arg-type]
    assert retry_after(hub.HfHubHTTPError("x", response=response)) == seconds


def test_the_rate_limit_of_the_hub_is_read() -> None:
    response = answer(429, ratelimit='"api";r=0;t=55', **{"Retry-After": "7"})
    assert retry_after(hub.HfHubHTTPError("x", response=response)) == 55
    response = answer(429, ratelimit='"api";r=3;t=55', **{"Retry-After": "7"})
    assert retry_after(hub.HfHubHTTPError("x", response=response)) == 7
