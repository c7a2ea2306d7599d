"""Pictures that the page sends: new ones in base64 or as data: URIs, those that the server keeps by their names."""

from __future__ import annotations

from typing import Any

from core.core import Core
from core.errors import InvalidRequest
from core.types import Image


async def read_pictures(core: Core, owner: str, given: Any) -> tuple[Image, ...]:
    """In the order of `given`: strings, or `conversation` and `key` of a picture that the owner's conversations hold.

    Sent back, a kept one may be too large for a request: a WebP file is kept as PNG. Raises InvalidRequest,
    ConversationNotFound and what `core.images.read` raises.
    """
    if not given:
        return ()
    if not isinstance(given, list) or not all(isinstance(each, str | dict) for each in given):
        raise InvalidRequest("`images` must be a list of pictures, each in base64 or as a data: URI.")
    core.images.check_count("images", len(given))
    new = iter(await core.images.read("images", [each for each in given if isinstance(each, str)]))
    return tuple([await _kept(core, owner, each) if isinstance(each, dict) else next(new) for each in given])


async def _kept(core: Core, owner: str, named: dict[str, Any]) -> Image:
    found = await core.chat.conversations.image(owner, str(named.get("conversation")), str(named.get("key")))
    return {"data": found.data or b"", "key": found.key}
