"""Pictures read beside the event loop."""

import asyncio
import base64

import pytest

from core.errors import InvalidImage, InvalidRequest, QueueFull, RequestTooLarge
from core.images import reader
from core.images.reader import ImageReader
from core.images.reading import read_image
from tests.core.images.pictures import png


async def test_files_and_texts_in_order():
    files = [png(8 + n, 8) for n in range(4)]
    given = [
        files[0],
        base64.b64encode(files[1]).decode(),
        files[2],
        f"data:;base64,{base64.b64encode(files[3]).decode()}",
    ]
    assert await ImageReader().read("images", given) == tuple(map(read_image, files))
    assert await ImageReader().read("images", []) == ()


async def test_the_one_at_fault_is_named():
    with pytest.raises(InvalidImage, match=r"`images\[1\]`"):
        await ImageReader().read("images", [png(), b"?", png()])
    with pytest.raises(InvalidImage, match="`image` "):
        await ImageReader().read("image", [b"?"])


async def test_no_more_than_a_message_may_hold():
    with pytest.raises(InvalidRequest, match="a message takes 2"):
        await ImageReader(max_images=2).read("images", [png()] * 3)


async def test_no_more_than_a_model_is_sent_at_once(monkeypatch):
    monkeypatch.setattr(reader, "MAX_IMAGE_BYTES", 2 * len(read_image(png())["data"]))
    assert len(await ImageReader().read("images", [png()] * 2)) == 2
    with pytest.raises(RequestTooLarge, match="Send fewer"):
        await ImageReader().read("images", [png()] * 3)


async def test_very_many_at_once(monkeypatch):
    monkeypatch.setattr(reader, "MAX_WAITING", 5)
    images = ImageReader()
    found = await asyncio.gather(*(images.read("images", [png()] * 2) for _ in range(4)), return_exceptions=True)
    refused = [each for each in found if isinstance(each, QueueFull)]
    assert len(refused) == 2
    assert len(await images.read("images", [png()] * 5)) == 5


async def test_who_leaves_waits_no_more():
    images = ImageReader()
    reading = asyncio.create_task(images.read("images", [png(2000, 2000)] * 8))
    await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert images._waiting == 0
