"""Picture files for tests: what a camera, a program or somebody with bad intentions would send."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def picture(width: int = 48, height: int = 32, colour: tuple[int, ...] = RED, mode: str = "RGB") -> Image.Image:
    """`colour`, with a blue corner at the top left, so that one can tell which side is up."""
    made = Image.new(mode, (width, height), colour)
    if mode == "RGB":
        made.paste(BLUE, (0, 0, width // 2, height // 2))
    return made


def saved(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def png(width: int = 48, height: int = 32, colour: tuple[int, ...] = RED) -> bytes:
    return saved(picture(width, height, colour))


def pixels(data: bytes) -> np.ndarray:
    """(height, width, 3)."""
    with Image.open(io.BytesIO(data)) as opened:
        return np.asarray(opened.convert("RGB"))


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png_that_says(width: int, height: int) -> bytes:
    """A PNG of under 200 bytes which announces any size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def exif(orientation: int, *, entries: int = 1, order: str = "<") -> bytes:
    """EXIF that says how the camera was held, after `entries` - 1 entries that each point at all of the rest."""
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, entries)
    bombs = struct.pack(f"{order}HHII", 0x9999, 1, 1 << 20, 0) * (entries - 1)
    return head + bombs + struct.pack(f"{order}HHIHHI", 0x0112, 3, 1, orientation, 0, 0)


def with_exif(jpeg: bytes, content: bytes) -> bytes:
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(content) + 8) + b"Exif\0\0" + content + jpeg[2:]


def gif_frames(count: int) -> bytes:
    """A GIF of `count` frames, the first of them red and all others white."""
    head = b"GIF89a" + struct.pack("<HHBBB", 16, 16, 0x80, 0, 0) + bytes((*RED, *WHITE))
    frames = []
    for colour in (0, 1):
        # codes of 3 bits: clear before each pixel keeps the code size, so that any picture can be written by hand
        bits = "".join(f"{code:03b}"[::-1] for _ in range(256) for code in (4, colour)) + "101"[::-1]
        packed = bytes(int(bits[at : at + 8][::-1], 2) for at in range(0, len(bits), 8))
        blocks = b"".join(
            bytes([len(packed[at : at + 255])]) + packed[at : at + 255] for at in range(0, len(packed), 255)
        )
        frames.append(b"," + struct.pack("<HHHHB", 0, 0, 16, 16, 0) + b"\2" + blocks + b"\0")
    return head + frames[0] + frames[1] * (count - 1) + b";"
