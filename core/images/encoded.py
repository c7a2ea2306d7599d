"""Pictures inside of text: base64, bare or as a data: URI. An address in its place is refused: nothing is fetched."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any

from core.errors import InvalidImage, InvalidRequest, RequestTooLarge
from core.params import checked
from core.types import View

MAX_FILE = 32 * 1024 * 1024  # bytes of one picture's file; a request's own limit is usually below it
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]{0,31}):", re.IGNORECASE)
_DATA = re.compile(r"data:[^,]{0,200}?;base64,", re.IGNORECASE)
_SPACE = str.maketrans("", "", " \t\r\n")


def data_uri(data: bytes, media_type: str = "image/png") -> str:
    """A file as browsers show it and requests may send it."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def view_with_uris(view: View) -> dict[str, Any]:
    """What a model sees of a picture, with its tiles as data: URIs."""
    return {**view, "tiles": [data_uri(png) for png in view["tiles"]]}


def decode_image(name: str, value: object) -> bytes:
    """The file that `value` stands for. Raises InvalidRequest, InvalidImage, RequestTooLarge."""
    decoded: bytes = checked(name, value, _decode)
    return decoded


def _decode(name: str, value: object) -> bytes:
    if not isinstance(value, str):
        raise InvalidRequest(f"`{name}` must be a string: a picture in base64, or as a data: URI.")
    start = _start(name, value)
    if (len(value) - start) * 3 // 4 > MAX_FILE:
        raise RequestTooLarge(f"`{name}` holds more than {MAX_FILE >> 20} MiB. Send a smaller picture.")
    encoded = value[start:].translate(_SPACE) if any(space in value for space in " \t\r\n") else value[start:]
    try:
        return binascii.a2b_base64(encoded, strict_mode=True)
    except ValueError:  # binascii.Error, and characters beyond ASCII
        why = "is not base64 of a picture's file. Send `data:image/png;base64,…`, or what follows it."
        raise _invalid(name, why) from None


def _start(name: str, value: str) -> int:
    """Where the base64 begins."""
    head = value[:300].lstrip()
    scheme = _SCHEME.match(head)
    if scheme is None:
        if head.startswith(("/", "./", "../", "\\")) and not head.startswith("/9j/"):  # as a JPEG begins in base64
            raise _fetches_nothing(name, "a path")
        return 0
    if scheme[1].lower() != "data":
        raise _fetches_nothing(name, "an address")
    data = _DATA.match(head)
    if data is None:
        raise _invalid(name, "is a data: URI without base64. Send `data:image/png;base64,…`.")
    return value.index(",") + 1


def _fetches_nothing(name: str, what: str) -> InvalidImage:
    return _invalid(
        name,
        f"is {what}, and this server fetches nothing that a request names. Send the picture itself: as "
        "`data:image/png;base64,…`, or as a file to POST /api/v5/vision/chat.",
    )


def _invalid(name: str, why: str) -> InvalidImage:
    error = InvalidImage(f"`{name}` {why}")
    error.param = name
    return error
