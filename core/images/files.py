"""Picture files taken apart: how large the picture is, how it was held, and the parts that its pixels need.

All else (metadata, comments, profiles, further frames, what follows the end) never reaches a decoder: some of it can be
made to cost a parser hours or gigabytes. WebP and BMP alone go to theirs as they came: none was found that costs much.
Only headers are looked at here, and nothing is allocated by what they say.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

MAX_SCANS = 24  # of a progressive JPEG; each goes over the whole picture, and encoders write about ten
MAX_CHUNKS = 65_536  # of a PNG; encoders write one for every 8 KiB or more
MAX_SEGMENTS = 4096  # of a JPEG that are kept
_ORIENTATION, _SHORT = 0x0112, 3  # an entry of EXIF and the type it has
_TURNED = range(1, 9)
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")  # in the data of a scan: 0 and restarts belong to it
_SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SOI, _EOI, _SOS, _APP0, _APP1, _ADOBE = 0xD8, 0xD9, 0xDA, 0xE0, 0xE1, 0xEE
_TABLES = frozenset((0xC4, 0xCC, 0xDB, 0xDD))  # Huffman, arithmetic, quantisation, restart interval
_JFIF = b"\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0"  # without a density of its own, or a thumbnail
_BMP_PLAIN = (0, 3)  # compressions: none, and none with masks


class Damaged(Exception):
    """The file is not what it begins as. The message ends a sentence: `it …`."""


@dataclass(frozen=True, slots=True)
class Parts:
    """`data`: a file of the same format with only what the pixels need. Sizes are in pixels, as the header says."""

    data: bytes
    width: int
    height: int
    orientation: int = 1  # as EXIF numbers it, 1 to 8; 1: upright


def take_apart(kind: str, data: bytes) -> Parts:
    """Raises Damaged."""
    try:
        return _READERS[kind](data)
    except (IndexError, struct.error):
        raise Damaged("ends too early") from None


def _png(data: bytes) -> Parts:
    kept, pixels, orientation = [data[:8]], [], 1
    for name, start, end in _png_chunks(data):
        if name == b"IDAT":
            pixels.append(data[start:end])
        elif name in (b"IHDR", b"PLTE", b"tRNS"):
            kept.append(data[start - 8 : end + 4])
        elif name == b"eXIf":
            orientation = _orientation(data[start:end])
        elif name == b"IEND":
            break
    else:
        raise Damaged("ends too early")
    if data[12:16] != b"IHDR":
        raise Damaged("does not begin with its header")
    width, height = struct.unpack_from(">II", data, 16)
    kept += [_png_chunk(b"IDAT", b"".join(pixels)), _png_chunk(b"IEND", b"")]
    return Parts(b"".join(kept), width, height, orientation)


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """(name, start, end) of what each chunk holds."""
    at = 8
    for _ in range(MAX_CHUNKS):
        if at + 12 > len(data):
            return
        (length,) = struct.unpack_from(">I", data, at)
        if at + 12 + length > len(data):
            raise Damaged("ends too early")
        yield data[at + 4 : at + 8], at + 8, at + 8 + length
        at += 12 + length
    raise Damaged(f"has more than {MAX_CHUNKS:,} chunks")


def _png_chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def _jpeg(data: bytes) -> Parts:
    kept, size, orientation, scans = [data[:2]], None, 1, 0
    for marker, start, end in _jpeg_segments(data):
        if marker in _SOF:
            if size is not None:
                raise Damaged("has two headers")
            size = struct.unpack_from(">HH", data, start + 5)
        elif marker == _APP1 and data[start + 4 : start + 10] == b"Exif\0\0":
            orientation = _orientation(data[start + 10 : end])
        scans += marker == _SOS
        if (segment := _kept_of_jpeg(data, marker, start, end)) is not None:
            kept.append(segment)
        if scans > MAX_SCANS or len(kept) > MAX_SEGMENTS:
            raise Damaged(f"has more than {MAX_SCANS} scans or {MAX_SEGMENTS:,} segments")
    if size is None or not scans:
        raise Damaged("holds no picture")
    return Parts(b"".join((*kept, b"\xff\xd9")), size[1], size[0], orientation)


def _kept_of_jpeg(data: bytes, marker: int, start: int, end: int) -> bytes | None:
    if marker == _APP0 and data[start + 4 : start + 9] == b"JFIF\0":
        return _JFIF
    if marker == _ADOBE and data[start + 4 : start + 9] == b"Adobe":
        return b"\xff\xee\0\x0e" + data[start + 4 : start + 16]
    return data[start:end] if marker in _SOF or marker in _TABLES or marker == _SOS else None


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """(marker, start, end) of each segment, a scan with its data, up to the end of the picture."""
    at = 2
    while True:
        while data[at] == 0xFF and data[at + 1] == 0xFF:  # fill bytes
            at += 1
        if data[at] != 0xFF:
            raise Damaged("is damaged")
        marker = data[at + 1]
        if marker == _EOI:
            return
        end = at + 2 + struct.unpack_from(">H", data, at + 2)[0]
        if marker == _SOS:
            found = _MARKER.search(data, end)
            if found is None:
                raise Damaged("ends too early")
            end = found.start()
        if end > len(data) or marker == _SOI:
            raise Damaged("ends too early" if end > len(data) else "is damaged")
        yield marker, at, end
        at = end


def _gif(data: bytes) -> Parts:
    """The first frame alone, with its palette and transparency."""
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    at = 13 + _palette(flags)
    kept, control = data[:at], b""
    while True:
        block = data[at]
        if block == 0x2C:
            end = _gif_data(data, at + 10 + _palette(data[at + 9]) + 1)
            return Parts(kept + control + data[at:end] + b"\x3b", width, height)
        if block != 0x21:
            raise Damaged("holds no picture")
        end = _gif_data(data, at + 2)
        if data[at + 1] == 0xF9 and end == at + 8:
            control = data[at:end]
        at = end


def _palette(flags: int) -> int:
    """Bytes of the palette that a descriptor's flags announce."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _gif_data(data: bytes, at: int) -> int:
    """Where a chain of data blocks that begins at `at` ends."""
    while data[at]:
        at += data[at] + 1
    return at + 1


def _webp(data: bytes) -> Parts:
    size, orientation, at = None, 1, 12
    while at + 8 <= len(data):
        name, length = data[at : at + 4], struct.unpack_from("<I", data, at + 4)[0]
        content = data[at + 8 : at + 8 + min(length, 1 << 20)]
        if size is None:
            size = _webp_size(name, content)
        if name == b"EXIF":
            orientation = _orientation(content.removeprefix(b"Exif\0\0"))
        at += 8 + length + length % 2
    if size is None:
        raise Damaged("holds no picture")
    return Parts(data, *size, orientation)


def _webp_size(name: bytes, content: bytes) -> tuple[int, int] | None:
    if name == b"VP8X":
        sides = int.from_bytes(content[4:7], "little"), int.from_bytes(content[7:10], "little")
        return sides[0] + 1, sides[1] + 1
    if name == b"VP8L":
        bits = struct.unpack_from("<I", content, 1)[0]
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if name == b"VP8 ":
        width, height = struct.unpack_from("<HH", content, 6)
        return width & 0x3FFF, height & 0x3FFF
    return None


def _bmp(data: bytes) -> Parts:
    (header,) = struct.unpack_from("<I", data, 14)
    if header == 12:
        width, height = struct.unpack_from("<HH", data, 18)
        return Parts(data, width, height)
    width, height, _, _, compression = struct.unpack_from("<iiHHI", data, 18)
    if compression not in _BMP_PLAIN:
        raise Damaged("is compressed, which no program writes any more; save it as PNG")
    return Parts(data, abs(width), abs(height))


def _orientation(exif: bytes) -> int:
    """What EXIF says of how the camera was held; 1, upright, where it says nothing that can be read."""
    try:
        order = {b"II": "<", b"MM": ">"}[exif[:2]]
        (at,) = struct.unpack_from(f"{order}I", exif, 4)
        (count,) = struct.unpack_from(f"{order}H", exif, at)
        for entry in range(at + 2, at + 2 + 12 * count, 12):
            tag, kind, _, value = struct.unpack_from(f"{order}HHIH", exif, entry)
            if tag == _ORIENTATION and kind == _SHORT:
                return value if value in _TURNED else 1
    except (KeyError, struct.error):
        pass
    return 1


_READERS: dict[str, Callable[[bytes], Parts]] = {"PNG": _png, "JPEG": _jpeg, "GIF": _gif, "WebP": _webp, "BMP": _bmp}
