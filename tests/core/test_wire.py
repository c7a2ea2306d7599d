"""The wire carries what it is given, and refuses what is not a frame."""

import asyncio
import socket

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import wire

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text(), PLAIN, max_size=5))
def test_a_message_arrives_as_it_was_sent(message):
    assert wire.unpack(wire.pack(message)[4:]) == message


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "uint8"])
def test_an_array_keeps_dtype_shape_and_bytes(dtype):
    array = np.arange(24).astype(dtype).reshape(2, 3, 4)
    arrived = wire.unpack(wire.pack({"a": array})[4:])["a"]
    assert arrived.dtype == array.dtype
    assert np.array_equal(arrived, array)


def test_an_array_with_gaps_in_memory_arrives_whole():
    array = np.arange(20, dtype=np.float32).reshape(4, 5)[::2, ::2]
    assert np.array_equal(wire.unpack(wire.pack({"a": array})[4:])["a"], array)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc1",
        msgpack.packb([1, 2]),
        msgpack.packb({"a": msgpack.ExtType(9, b"")}),
        msgpack.packb({"a": msgpack.ExtType(1, msgpack.packb(["|O", [1], b"\x00" * 8]))}),
        msgpack.packb({"a": msgpack.ExtType(1, msgpack.packb(["<f4", [100], b"\x00"]))}),
        msgpack.packb({"a": 1})[:-1],
    ],
)
def test_what_is_not_a_frame_is_refused(body):
    with pytest.raises(wire.WireError):
        wire.unpack(body)


def test_an_object_cannot_be_sent():
    with pytest.raises(TypeError):
        wire.pack({"a": object()})


async def test_a_lying_length_is_refused_before_it_is_read():
    reader = asyncio.StreamReader()
    reader.feed_data(b"\xff\xff\xff\xff")
    with pytest.raises(wire.WireError, match="announced"):
        await wire.read_frame(reader)


async def test_a_closed_peer_is_the_end_and_not_an_error():
    reader = asyncio.StreamReader()
    reader.feed_data(wire.pack({"id": 1})[:-1])
    reader.feed_eof()
    assert await wire.read_frame(reader) is None


def test_frames_cross_a_socket_in_order():
    left, right = socket.socketpair()
    with left, right:
        left.sendall(wire.pack({"id": 1}) + wire.pack({"id": 2, "text": "안녕"}))
        left.close()
        assert wire.receive(right) == {"id": 1}
        assert wire.receive(right) == {"id": 2, "text": "안녕"}
        assert wire.receive(right) is None
