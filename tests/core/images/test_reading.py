"""What becomes of a picture, held against Pillow and plain arithmetic, and what is refused (B62 to B65 of the plan)."""

import contextlib
import io
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from core.errors import InvalidImage, RequestTooLarge
from core.images import reading
from core.images.reading import read_image, size_of
from tests.core.images.pictures import (
    BLUE,
    RED,
    WHITE,
    chunk,
    exif,
    gif_frames,
    picture,
    pixels,
    png,
    png_that_says,
    saved,
    with_exif,
)

SVG = b'<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/passwd">]><svg><script>1</script>&x;</svg>'


def seen(data: bytes, **options: object) -> np.ndarray:
    return pixels(read_image(data, **options)["data"])


@pytest.mark.parametrize("form", ["PNG", "WEBP", "BMP"])
def test_what_is_lossless_stays_as_it_is(form):
    options = {"lossless": True} if form == "WEBP" else {}
    noise = np.random.default_rng(1).integers(0, 256, (21, 34, 3), np.uint8)
    data = saved(Image.fromarray(noise), form, **options)
    image = read_image(data)
    assert np.array_equal(pixels(image["data"]), noise)
    assert image["data"].startswith(b"\x89PNG")
    assert size_of(image) == (34, 21)
    assert image == read_image(data)
    assert len(image["key"]) == 64
    assert image["key"] != read_image(png())["key"]


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_keeps_its_pixels_and_nothing_else(progressive):
    data = saved(picture(), "JPEG", progressive=progressive, comment=b"secret place", icc_profile=b"secret" * 99)
    private = with_exif(data, exif(1) + b"secret GPS") + b"PK\3\4 secret archive"
    image = read_image(private)
    assert np.array_equal(pixels(image["data"]), pixels(data))
    assert image["data"].startswith(b"\xff\xd8")
    assert b"secret" not in image["data"]
    assert image["key"] == read_image(data)["key"]


def test_a_jpeg_with_a_thumbnail_of_what_was_cut_away_loses_it():
    data = saved(picture(), "JPEG")
    assert data[6:11] == b"JFIF\0"
    thumbnail = data[:4] + (16 + 12).to_bytes(2, "big") + data[6:18] + b"\2\2" + b"secretsecret" + data[20:]
    image = read_image(thumbnail)
    assert b"secret" not in image["data"]
    assert np.array_equal(pixels(image["data"]), pixels(data))


def test_png_metadata_is_dropped():
    data = png()
    text = chunk(b"tEXt", b"Author\0secret") + chunk(b"zTXt", b"x\0\0" + zlib.compress(b"secret"))
    assert b"secret" not in read_image(data[:33] + text + data[33:] + b"<html>secret")["data"]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_stand_upright(form, orientation, order):
    content = exif(orientation, order=order)
    plain = saved(picture(), form, **({"lossless": True} if form == "WEBP" else {}))
    data = with_exif(plain, content) if form == "JPEG" else saved(picture(), form, exif=content, **(
        {"lossless": True} if form == "WEBP" else {}))  # fmt: skip
    with Image.open(io.BytesIO(data)) as opened:
        upright = np.asarray(ImageOps.exif_transpose(opened).convert("RGB")).astype(int)
    found = seen(data).astype(int)
    assert found.shape == upright.shape
    assert np.abs(found - upright).mean() <= (1 if form == "JPEG" else 0)


def test_transparent_parts_become_white():
    drawn = np.random.default_rng(2).integers(0, 256, (9, 12, 4), np.uint8)
    alpha = drawn[..., 3:].astype(float) / 255
    expected = drawn[..., :3] * alpha + 255 * (1 - alpha)
    assert np.abs(seen(saved(Image.fromarray(drawn))) - expected).max() <= 1


@pytest.mark.parametrize(
    ("image", "options", "colour"),
    [
        pytest.param(Image.new("L", (8, 8), 90), {}, (90, 90, 90), id="grey"),
        pytest.param(Image.new("LA", (8, 8), (90, 0)), {}, WHITE, id="grey and alpha"),
        pytest.param(Image.new("1", (8, 8), 1), {}, WHITE, id="bits"),
        pytest.param(Image.new("I;16", (8, 8), 0x5A80), {}, (90, 90, 90), id="16 bits"),
        pytest.param(Image.new("RGBA", (8, 8), (1, 2, 3, 0)).quantize(4), {}, WHITE, id="palette and alpha"),
        pytest.param(Image.new("P", (8, 8), 0), {"transparency": 0}, WHITE, id="a colour that is transparent"),
        pytest.param(Image.new("RGB", (8, 8), RED), {"transparency": RED}, WHITE, id="RGB with such a colour"),
        pytest.param(Image.new("RGBA", (8, 8), (255, 0, 0, 255)), {}, RED, id="opaque"),
    ],
)
def test_every_mode_becomes_rgb(image, options, colour):
    found = seen(saved(image, **options))
    assert found.shape == (8, 8, 3)
    assert np.abs(found.astype(int) - colour).max() <= 1


def test_sixteen_bits_of_each_colour():
    rows = b"".join(b"\0" + bytes((0x12, 0x34, 0x80, 0, 0xFF, 0xFF)) * 4 for _ in range(4))
    head = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", (4).to_bytes(4, "big") * 2 + bytes((16, 2, 0, 0, 0)))
    found = seen(head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
    assert np.abs(found.astype(int) - (0x12, 0x80, 0xFF)).max() <= 1


@pytest.mark.parametrize("form", ["JPEG", "grey JPEG"])
def test_jpegs_in_other_colours(form):
    image = picture().convert("CMYK" if form == "JPEG" else "L")
    assert np.abs(seen(saved(image, "JPEG")).astype(int) - np.asarray(image.convert("RGB"))).max() <= 12


def test_what_is_large_is_written_small():
    data = saved(Image.effect_noise((2500, 1800), 90).convert("RGB"), "BMP")
    image = read_image(data)
    assert image["data"].startswith(b"\xff\xd8")
    assert len(image["data"]) < len(data) / 2
    assert np.abs(pixels(image["data"]).astype(int) - pixels(data)).mean() < 3


def test_a_small_file_does_not_become_a_large_one(monkeypatch):
    """Noise is as good as incompressible: the limit is what it takes, not what came."""
    noise = saved(Image.effect_noise((400, 300), 120).convert("RGB"), "WEBP", quality=1)
    assert len(read_image(noise)["data"]) > 4 * len(noise)
    monkeypatch.setattr(reading, "MAX_MADE", 3 * len(noise))
    with pytest.raises(RequestTooLarge, match="Make it smaller"):
        read_image(noise)


def test_b64_only_the_first_frame_is_looked_at():
    data = gif_frames(100_000)
    assert len(data) > 10_000_000
    tracemalloc.start()
    found = seen(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert np.array_equal(found, np.full((16, 16, 3), RED))
    assert peak < 3 * len(data)
    frames = [picture(colour=colour) for colour in (RED, WHITE)]
    animated = saved(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    assert np.array_equal(seen(animated), np.asarray(frames[0]))
    moving = saved(frames[0], "PNG", save_all=True, append_images=frames[1:])
    assert np.array_equal(seen(moving), np.asarray(frames[0]))


def test_b64_a_frame_smaller_than_its_gif():
    gif = saved(Image.new("P", (20, 20)), "GIF")
    assert seen(gif).shape == (20, 20, 3)


def test_a_gif_whose_comments_would_take_hours():
    gif = gif_frames(1)
    comments = b"\x21\xfe\1x\0" * 400_000  # Pillow joins them one by one, which is quadratic
    assert np.array_equal(seen(gif[:19] + comments + gif[19:]), np.full((16, 16, 3), RED))


def test_b65_an_exif_bomb():
    plain = saved(picture(), "JPEG")
    bomb = exif(6, entries=3000)
    tracemalloc.start()
    found = seen(with_exif(plain, bomb))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.shape == (48, 32, 3)
    assert peak < 4_000_000
    for broken in (b"", b"II", b"II*\0\xff\xff\xff\xff", exif(0), exif(9), exif(6, entries=9)[:20], b"Z" * 100):
        assert seen(with_exif(plain, broken)).shape == (32, 48, 3)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(png_that_says(65_500, 65_500), id="B62 65,500 a side"),
        pytest.param(png_that_says(10_000, 10_000), id="B62 10,000 a side"),
        pytest.param(png_that_says(5000, 4001), id="one row over 20 megapixels"),
        pytest.param(png_that_says(2**31 - 1, 1), id="one long row"),
        pytest.param(saved(picture(4, 4), "WEBP")[:20] + b"\xff\x7f\xff\x7f" + b"\0" * 99, id="WebP"),
        pytest.param(b"GIF89a" + b"\xff" * 4 + gif_frames(1)[10:], id="GIF"),
        pytest.param(saved(picture(), "BMP")[:18] + b"\0\0\1\0" * 2 + saved(picture(), "BMP")[26:], id="BMP"),
    ],
)
def test_b62_a_bomb_is_told_by_its_header(data):
    if data[8:12] == b"WEBP":
        data = (
            b"RIFF"
            + data[4:12]
            + b"VP8 "
            + (30).to_bytes(4, "little")
            + b"\0\0\0\x9d\1\x2a"
            + b"\xff\x3f" * 2
            + b"\0" * 20
        )
    assert len(data) < 5000
    tracemalloc.start()
    with pytest.raises(RequestTooLarge, match="megapixels"):
        read_image(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000


def test_a_frame_that_reaches_out_of_its_gif():
    gif = gif_frames(1)
    at = gif.index(b",")
    with pytest.raises((RequestTooLarge, InvalidImage)):
        read_image(gif[: at + 5] + b"\xff\xff\xff\xff" + gif[at + 9 :])


@pytest.mark.parametrize(
    ("data", "said"),
    [
        pytest.param(b"", "empty", id="empty"),
        pytest.param(SVG, "SVG", id="B63 SVG"),
        pytest.param(b"\xef\xbb\xbf \n<svg onload=alert(1)>", "SVG", id="B63 bare SVG"),
        pytest.param(saved(picture(), "TIFF"), "TIFF", id="B64 TIFF"),
        pytest.param(b"SIMPLE  =                    T", "FITS", id="B64 FITS"),
        pytest.param(b"8BPS\0\1", "Photoshop", id="B64 PSD"),
        pytest.param(b"%!PS-Adobe-3.0 EPSF", "PostScript", id="B64 EPS"),
        pytest.param(b"%PDF-1.7\n" + png(), "PDF", id="B64 PDF with a PNG in it"),
        pytest.param(b"\0\0\0\x18ftypheic", "HEIC", id="HEIC"),
        pytest.param(saved(picture(), "AVIF"), "AVIF", id="AVIF"),
        pytest.param(b"<!doctype html><img>", "web page", id="HTML"),
        pytest.param(b"\x80\2}q\0.", "no picture", id="pickle"),
        pytest.param(png_that_says(1, 1), "1 × 1", id="B65 1x1"),
        pytest.param(png_that_says(0, 0), "0 × 0", id="B65 0x0"),
        pytest.param(png_that_says(3, 3), "3 × 3", id="which a processor takes for channels"),
        pytest.param(png_that_says(4, 4000), "as long as wide", id="a thread"),
        pytest.param(saved(picture(300, 200), "JPEG")[:-40], "ends too early", id="B65 truncated JPEG"),
        pytest.param(saved(picture(300, 200), "JPEG")[:100], "ends too early", id="a JPEG's header"),
        pytest.param(png()[:-20], "ends too early", id="truncated PNG"),
        pytest.param(png()[:60], "ends too early", id="a PNG's header"),
        pytest.param(saved(picture(), "WEBP")[:-20], "damaged", id="truncated WebP"),
        pytest.param(saved(picture(), "BMP")[:-20], "damaged", id="truncated BMP"),
        pytest.param(gif_frames(1)[:-40], "ends too early", id="truncated GIF"),
        pytest.param(saved(picture(), "BMP")[:30] + b"\1" + saved(picture(), "BMP")[31:], "compressed", id="BMP RLE"),
        pytest.param(png_that_says(50, 50), "damaged", id="fewer pixels than it says"),
        pytest.param(png()[:20] + b"\xff" + png()[21:], "pixels", id="a bit that fell over"),
        pytest.param(b"\xff\xd8\xff\xd9", "no picture", id="a JPEG of nothing"),
        pytest.param(b"\xff\xd8\xff" + b"\xff" * 1000, "ends too early", id="a JPEG of fill bytes"),
        pytest.param(b"GIF89a", "ends too early", id="six bytes"),
    ],
)
def test_what_is_no_picture_is_refused_by_what_it_is(data, said):
    with pytest.raises((InvalidImage, RequestTooLarge), match=said) as refused:
        read_image(data, "images[2]")
    assert refused.value.message.startswith("`images[2]` ")


def test_a_jpeg_of_very_many_scans_is_not_decoded():
    plain = saved(picture(), "JPEG", progressive=True)
    at = plain.rindex(b"\xff\xda")
    with pytest.raises(InvalidImage, match="scans"):
        read_image(plain[:-2] + plain[at:-2] * 100 + b"\xff\xd9")


def test_a_png_of_very_many_chunks_is_not_read_through():
    whole = png()
    empty = chunk(b"IDAT", b"")
    assert np.array_equal(seen(whole[:33] + empty * 1000 + whole[33:]), pixels(whole))
    with pytest.raises(InvalidImage, match="chunks"):
        read_image(whole[:33] + empty * 70_000 + whole[33:])


def test_no_byte_that_falls_over_gets_past():
    """What is read is read as before or refused by its type, whatever byte is another."""
    rng = np.random.default_rng(3)
    files = [png(12, 9), gif_frames(1), *(saved(picture(12, 9), form) for form in ("JPEG", "WEBP", "BMP"))]
    for data in files:
        for _ in range(150):
            broken = bytearray(data)
            for at in rng.integers(0, len(data), rng.integers(1, 4)):
                broken[at] = rng.integers(0, 256)
            with contextlib.suppress(InvalidImage, RequestTooLarge):
                assert seen(bytes(broken)).size > 0


def test_the_colours_are_where_they_were():
    found = seen(png())
    assert tuple(found[0, 0]) == BLUE
    assert tuple(found[-1, -1]) == RED
