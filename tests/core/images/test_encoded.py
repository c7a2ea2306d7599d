"""Base64 and data: URIs, and addresses that nobody goes to."""

import base64

import pytest

from core.errors import InvalidImage, InvalidRequest, RequestTooLarge
from core.images import encoded
from core.images.encoded import decode_image
from tests.core.images.pictures import picture, png, saved

PNG = png()
BASE64 = base64.b64encode(PNG).decode()


@pytest.mark.parametrize(
    "value",
    [
        BASE64,
        f"data:image/png;base64,{BASE64}",
        f"DATA:image/PNG;BASE64,{BASE64}",
        f"data:;base64,{BASE64}",
        f"data:text/html;name=a.png;base64,{BASE64}",  # what it is said to be does not count
        base64.encodebytes(PNG).decode(),  # lines of 76 characters
        f"  data:image/png;base64,\r\n{BASE64}\n",
    ],
)
def test_what_is_taken(value):
    assert decode_image("image", value) == PNG


def test_a_jpegs_base64_begins_as_a_path_does():
    jpeg = saved(picture(), "JPEG")
    text = base64.b64encode(jpeg).decode()
    assert text.startswith("/9j/")
    assert decode_image("image", text) == jpeg


@pytest.mark.parametrize(
    "value",
    [
        "http://169.254.169.254/latest/meta-data",
        "https://example.com/cat.png",
        "HTTP://localhost:7860/",
        " ftp://host/x",
        "file:///etc/passwd",
        "gopher://localhost:6379/_x",
        "javascript:alert(1)",
        "blob:null/1-2",
        "//host/cat.png",
        "/etc/passwd",
        "../../secret.png",
        r"\\host\share\x",
    ],
)
def test_nothing_is_fetched(value):
    with pytest.raises(InvalidImage, match="fetches nothing") as refused:
        decode_image("images[0]", value)
    assert (refused.value.param, value in refused.value.message) == ("images[0]", False)


@pytest.mark.parametrize(
    "value",
    [
        "data:image/svg+xml,<svg/>",
        "data:image/png",
        "data:,x",
        "data:base64,",
        "?",
        "한글",
        BASE64[:-1],
        "A===",
        "AAAA=A",
    ],
)
def test_what_is_no_base64(value):
    with pytest.raises(InvalidImage, match="base64"):
        decode_image("image", value)


@pytest.mark.parametrize("value", [None, 1, b"x", ["x"], {"url": "x"}])
def test_what_is_no_string(value):
    with pytest.raises(InvalidRequest, match="string"):
        decode_image("image", value)


def test_a_limit_before_anything_is_decoded(monkeypatch):
    monkeypatch.setattr(encoded, "MAX_FILE", 3000)
    assert decode_image("image", "A" * 4000) == b"\0" * 3000
    monkeypatch.setattr(encoded.binascii, "a2b_base64", None)
    with pytest.raises(RequestTooLarge):
        decode_image("image", "A" * 4004)
    with pytest.raises(RequestTooLarge):
        decode_image("image", "data:image/png;base64," + "A" * 4004)
