"""What a file is, by its first bytes. What it is called, or said to be, does not count."""

from __future__ import annotations

FORMATS = ("PNG", "JPEG", "WebP", "GIF", "BMP")  # that are read
READ = ", ".join(FORMATS[:-1]) + f" or {FORMATS[-1]}"

_HEIF_BRANDS = (b"heic", b"heix", b"heif", b"hevc", b"mif1", b"msf1")
_OTHERS = {  # first bytes → what people call it
    b"II*\0": "a TIFF file",
    b"MM\0*": "a TIFF file",
    b"%PDF": "a PDF file",
    b"%!PS": "a PostScript file",
    b"8BPS": "a Photoshop file",
    b"SIMPLE  =": "a FITS file",
    b"\0\0\1\0": "an icon file",
    b"PK\3\4": "a ZIP archive",
    b"\x1f\x8b": "a gzip archive",
    b"\x00\x00\x00\x0cjP": "a JPEG 2000 file",
}


def kind_of(data: bytes) -> str | None:
    """One of FORMATS; None when it is none of them."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WebP"
    return "BMP" if data.startswith(b"BM") else None


def described(data: bytes) -> str:
    """What a file that is not read seems to be: `an SVG drawing`."""
    if data[4:8] == b"ftyp":
        brand = data[8:12]
        return "a HEIC photo" if brand in _HEIF_BRANDS else "an AVIF picture" if brand == b"avif" else "a video file"
    for start, name in _OTHERS.items():
        if data.startswith(start):
            return name
    text = data[:1000].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if b"<svg" in text or (text.startswith(b"<?xml") and b"svg" in text):
        return "an SVG drawing"
    if text.startswith((b"<!doctype html", b"<html")):
        return "a web page"
    return "no picture"
