"""The wire between the front process and a worker: length-prefixed msgpack frames on a private socket pair.

Frame: 4 bytes big-endian length, then one msgpack map `{id, op, …}` → `{id, result | event | error}`.
Arrays travel as extension type 1: dtype string, shape, raw little-endian bytes. Nothing is ever unpickled.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any

import msgpack
import numpy as np

MAX_FRAME = 256 * 1024 * 1024  # bytes; a peer that announces more is broken
_LENGTH = struct.Struct(">I")
_NDARRAY = 1


class WireError(Exception):
    """The peer sent something that is not a frame."""


def _default(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        array = np.ascontiguousarray(value)
        return msgpack.ExtType(_NDARRAY, msgpack.packb([array.dtype.str, list(array.shape), array.tobytes()]))
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} cannot cross the wire")


def _ext_hook(code: int, data: bytes) -> Any:
    if code != _NDARRAY:
        raise WireError(f"unknown extension type {code}")
    dtype, shape, raw = msgpack.unpackb(data)
    if np.dtype(dtype).hasobject:
        raise WireError("object arrays are not accepted")
    return np.frombuffer(raw, dtype=dtype).reshape(shape)


def pack(message: dict[str, Any]) -> bytes:
    """`message` as one frame, length included."""
    # surrogatepass: a lone surrogate in a text is refused at the edge, never a crash here
    body = msgpack.packb(message, default=_default, unicode_errors="surrogatepass")
    if len(body) > MAX_FRAME:
        raise WireError(f"frame of {len(body)} bytes is over the limit of {MAX_FRAME}")
    return _LENGTH.pack(len(body)) + bytes(body)


def unpack(body: bytes) -> dict[str, Any]:
    """One frame's body as a map. Raises WireError on anything else."""
    try:
        message = msgpack.unpackb(body, ext_hook=_ext_hook, unicode_errors="surrogatepass", strict_map_key=True)
    except WireError:
        raise
    except Exception as error:
        raise WireError(f"not msgpack: {error}") from error
    if not isinstance(message, dict):
        raise WireError("a frame must hold a map")
    return message


def _length_of(head: bytes) -> int:
    (length,) = _LENGTH.unpack(head)
    if length > MAX_FRAME:
        raise WireError(f"peer announced a frame of {length} bytes")
    return int(length)


async def read_frame(reader: asyncio.StreamReader) -> dict[str, Any] | None:
    """The next frame, or None when the peer has closed."""
    try:
        head = await reader.readexactly(_LENGTH.size)
        return unpack(await reader.readexactly(_length_of(head)))
    except (asyncio.IncompleteReadError, ConnectionResetError):
        return None


def _receive_exactly(sock: socket.socket, count: int) -> bytes | None:
    chunks = bytearray()
    while len(chunks) < count:
        chunk = sock.recv(min(count - len(chunks), 1 << 20))
        if not chunk:
            return None
        chunks += chunk
    return bytes(chunks)


def receive(sock: socket.socket) -> dict[str, Any] | None:
    """The next frame from a blocking socket, or None when the peer has closed."""
    head = _receive_exactly(sock, _LENGTH.size)
    if head is None:
        return None
    body = _receive_exactly(sock, _length_of(head))
    return None if body is None else unpack(body)
