"""JSON out. orjson writes numpy arrays straight from their buffers, so that a batch of embeddings costs no list."""

from typing import Any

import orjson
from starlette.responses import Response


class JSON(Response):
    """A JSON body from plain values and numpy arrays; NaN becomes null."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS)
