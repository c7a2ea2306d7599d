"""A picture file made into what models are shown: upright, in RGB, without metadata, as PNG or JPEG.

Transparent parts become white, as a page would show them. A JPEG that is upright and in colour already keeps its
pixels' data word for word; all else becomes PNG, so that nothing is lost, but for what was a JPEG or is over 4
megapixels, which is written as JPEG of quality 95, or 80 where that is too large: quick and small, and models look at
far fewer pixels than that. The same file always gives the same bytes. Colour profiles are dropped, not applied: the
processors of models read raw RGB.
"""

from __future__ import annotations

import hashlib
import struct
from io import BytesIO

from PIL import Image as Pillow
from PIL.Image import Transpose

from core.errors import InvalidImage, RequestTooLarge
from core.images.files import Damaged, Parts, take_apart
from core.images.kinds import READ, described, kind_of
from core.types import Image

MAX_PIXELS = 20_000_000
MIN_SIDE, MAX_SIDE = 4, 16_384  # pixels
MAX_RATIO = 100  # of the longer side to the shorter
_MILLION = 1_000_000
_MIB = 1 << 20
_QUALITIES = 95, 80  # of a JPEG; the second where the first takes more than MAX_MADE
MAX_MADE = 12 * 1024 * 1024  # bytes of what a picture is made into: a file of a hundredth may stand for them
_PNG_EFFORT = 1  # of 9
_PNG_SIZE, _PNG_HEADER = struct.Struct(">II"), 16  # where a PNG file says its width and height
_PNG_PIXELS = 4_000_000  # of the largest PNG that is written
_TURNS = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}


def read_image(data: bytes, name: str = "image", max_pixels: int = MAX_PIXELS) -> Image:
    """The picture in a file of any format in `kinds.FORMATS`; of an animation, its first frame.

    Takes up to a few seconds at 20 megapixels: not for the event loop. `name` is the field that it came in.
    Raises InvalidImage, RequestTooLarge.
    """
    kind = kind_of(data)
    if kind is None:
        what = "is empty" if not data else f"is {described(data)}"
        raise _refusal(name, f"{what}. This server reads {READ}: save or export the picture as one of them.")
    try:
        parts = take_apart(kind, data)
    except Damaged as error:
        raise _refusal(
            name, f"cannot be read: the {kind} file {error}. Open it, save it again and send that."
        ) from None
    _check_size(name, parts.width, parts.height, max_pixels)
    made = _made(name, kind, parts, max_pixels)
    return {"data": made, "key": hashlib.sha256(made).hexdigest()}


def size_of(image: Image) -> tuple[int, int]:
    """Width and height in pixels of what `read_image` made."""
    if image["data"].startswith(b"\x89"):  # of ours: the header comes first
        width, height = _PNG_SIZE.unpack_from(image["data"], _PNG_HEADER)
        return width, height
    parts = take_apart("JPEG", image["data"])
    return parts.width, parts.height


def _made(name: str, kind: str, parts: Parts, max_pixels: int) -> bytes:
    try:
        # Pillow's own limit against decompression bombs lies above ours, which was checked before
        with Pillow.open(BytesIO(parts.data), formats=[kind.upper()]) as opened:
            _check_size(name, *opened.size, max_pixels)  # frames may reach out of what the header says
            opened.load()
            if kind == "JPEG" and parts.orientation == 1 and opened.mode == "RGB":
                return parts.data
            image = _rgb(opened)
    except (InvalidImage, RequestTooLarge):
        raise
    except MemoryError:
        raise RequestTooLarge(f"`{name}` is too large for the memory that is left. Send a smaller picture.") from None
    except Exception:  # a parser of strangers' files raises whatever it stumbles upon
        raise _refusal(name, f"cannot be read: the {kind} file is damaged or cut off. Send it anew, whole.") from None
    if parts.orientation in _TURNS:
        image = image.transpose(_TURNS[parts.orientation])
    made = _written(image, as_jpeg=kind == "JPEG" or image.width * image.height > _PNG_PIXELS)
    if len(made) > MAX_MADE:
        raise RequestTooLarge(
            f"`{name}` takes {len(made) / _MIB:.0f} MiB as models are shown it; this server takes {MAX_MADE // _MIB}. "
            "Make it smaller: models look at far fewer pixels."
        )
    return made


def _rgb(image: Pillow.Image) -> Pillow.Image:
    if image.mode.startswith("I"):  # 16 bits of grey, of which Pillow's own conversion would cut the upper
        image = image.point(lambda value: value * (1 / 256)).convert("L")
    if image.has_transparency_data:
        below = Pillow.new("RGBA", image.size, "white")
        below.alpha_composite(image.convert("RGBA"))
        image = below
    return image if image.mode == "RGB" else image.convert("RGB")


def _written(image: Pillow.Image, *, as_jpeg: bool) -> bytes:
    bare = Pillow.new("RGB", image.size)  # nothing but pixels: what a file said else stays behind
    bare.paste(image)
    if not as_jpeg:
        return _saved(bare, "PNG", compress_level=_PNG_EFFORT)
    fine, plain = ({"quality": quality, "subsampling": 0} for quality in _QUALITIES)
    made = _saved(bare, "JPEG", **fine)
    return made if len(made) <= MAX_MADE else _saved(bare, "JPEG", **plain)


def _saved(image: Pillow.Image, kind: str, **options: int) -> bytes:
    made = BytesIO()
    image.save(made, kind, **options)
    return made.getvalue()


def _check_size(name: str, width: int, height: int, max_pixels: int) -> None:
    shown = f"has {width:,} × {height:,} pixels"
    if width * height > max_pixels or max(width, height) > MAX_SIDE:
        raise RequestTooLarge(
            f"`{name}` {shown}; this server takes {max_pixels / _MILLION:g} megapixels and {MAX_SIDE:,} pixels a side. "
            "Make it smaller: models look at far fewer."
        )
    if min(width, height) < MIN_SIDE:
        raise _refusal(name, f"{shown}; there is nothing to see with fewer than {MIN_SIDE} a side. Send a larger one.")
    if max(width, height) > MAX_RATIO * min(width, height):
        raise _refusal(
            name, f"{shown}; models cannot look at what is over {MAX_RATIO} times as long as wide. Send a part of it."
        )


def _refusal(name: str, why: str) -> InvalidImage:
    error = InvalidImage(f"`{name}` {why}")
    error.param = name
    return error
