"""The chat service, v5: all of v4, and pictures."""

from typing import Any

import orjson
from fastapi import APIRouter, Request, Response
from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from api.auth import owner_of
from api.chat import STREAMED, V4, KeptAnswer, streamed, whole
from api.forms import Part, is_form, read_form
from api.responses import JSON
from api.routing import OtherRequest, Route
from api.wire import Body, Wire
from core.chat.types import ChatTurn
from core.core import Core
from core.errors import InvalidRequest
from core.images.encoded import view_with_uris
from core.images.kinds import FORMATS
from core.types import Image, Preview, State, Task

_PICTURES = ("image", "images")
_NUMBERS = ("max_tokens", "temperature", "top_p", "seed")
_Picture = str | SkipJsonSchema[bytes]  # bytes: a file of a form


class _Pictured(Body):
    model: str | None = Field(None, description="Unset: the default model for images, or the only one that sees.")
    image: _Picture | None = Field(None, description="A picture in base64, bare or as a data: URI.")
    images: list[_Picture] | None = Field(None, description="Several, as they stand before the message.")

    @property
    def pictures(self) -> list[str | bytes]:
        return [*([] if self.image is None else [self.image]), *(self.images or ())]

    async def read(self, core: Core) -> tuple[Image, ...]:
        return await core.images.read("image" if self.images is None else "images", self.pictures)


class V5(_Pictured, V4):
    @property
    def task(self) -> Task:
        return Task.IMAGE_TEXT_TO_TEXT


class VisionInfo(Wire):
    model: str | None = Field(description="That answers where a request names none.")
    state: str
    loaded: bool
    runtime: str | None
    device: str | None
    context_length: int | None = Field(description="Tokens, those of images included.")
    models: list[str] = Field(description="Models that look at images, loaded or loaded on the first request.")
    formats: list[str]
    max_images: int = Field(description="Of one message.")
    max_conversation_images: int
    max_pixels: int = Field(description="Of one picture.")
    max_body_bytes: int = Field(description="Of one request.")


class PreviewRequest(_Pictured):
    """One picture."""


class ViewShown(Wire):
    tiles: list[str] = Field(description="PNG files of one size as data: URIs, row by row.")
    columns: int = Field(description="Of tiles.")
    width: int = Field(description="Of one tile, in pixels.")
    height: int


class PreviewShown(Wire):
    model: str
    image_tokens: int = Field(description="That the picture takes of a prompt.")
    is_exact: bool = Field(
        description="False: the picture as llama.cpp is handed it, which resizes and cuts it itself."
    )
    views: list[ViewShown] = Field(description="The picture as a whole, and in tiles, where the model sees both.")


class _FormRequest(OtherRequest):
    """A form: files named `image` or `images`, and the fields of the JSON body as text."""

    takes = staticmethod(is_form)

    def fields(self, content_type: str, body: bytes) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        for part in read_form(content_type, body):
            if part.name in _PICTURES:
                if part.data or part.filename:  # not what nobody chose, as browsers send it
                    fields.setdefault("images", []).append(bytes(part.data) if part.is_file else part.text)
            elif part.name == "stop":
                fields.setdefault("stop", []).append(part.text)
            elif part.name in fields:
                raise InvalidRequest(f"`{part.name[:64]}` is in the form twice.")
            elif part.data:  # an input that was left empty
                fields[part.name] = _value(part)
        return fields


def _value(part: Part) -> Any:
    """What a field stands for in JSON; text where it is no JSON, which is then refused by what it should have been."""
    if part.is_file:
        raise InvalidRequest(f"`{part.name[:64]}` is a file. Send pictures as `image`, and all else as text.")
    if part.name not in (*_NUMBERS, "variables"):
        return part.text
    try:
        return orjson.loads(part.data)
    except orjson.JSONDecodeError:
        return part.text


class _FormRoute(Route):
    request_class = _FormRequest


def router(core: Core) -> APIRouter:
    routes = APIRouter(prefix="/api/v5/vision", route_class=_FormRoute, tags=["chat"])

    @routes.post("/chat", response_model=KeptAnswer, name="chat_v5", openapi_extra=_BODY)
    async def chat(request: Request, body: V5) -> Response:
        """The model's answer to a message about pictures, in a conversation. Ask on about them by `conversation_id`."""
        return JSON(await whole(core.chat.reply(await _turn(core, body), owner_of(request))))

    @routes.post("/chat/stream", responses=STREAMED, name="stream_v5", openapi_extra=_BODY)
    async def stream(request: Request, body: V5) -> Response:
        """The model's answer as it is written: `data: {"delta": …}` events, then one `data: {"done": true, …}`."""
        return await streamed(request, core.chat.reply(await _turn(core, body), owner_of(request)))

    @routes.post("/preview", response_model=PreviewShown, openapi_extra=_ONE)
    async def preview(body: PreviewRequest) -> Response:
        """What a model sees of a picture: resized and cut as its processor does it, and in how many tokens."""
        if len(body.pictures) != 1:
            raise InvalidRequest(f"The request holds {len(body.pictures):,} pictures. Send one, as `image`.")
        (image,) = await body.read(core)
        return JSON(_shown(*await core.preview(image, body.model)))

    @routes.get("/info", response_model=VisionInfo)
    async def info() -> Response:
        """Which model looks at pictures, and which pictures it is sent; loads nothing."""
        return JSON(_info(core))

    return routes


async def _turn(core: Core, body: V5) -> ChatTurn:
    return body.turn(await body.read(core))


def _shown(model: str, preview: Preview) -> dict[str, Any]:
    views = [view_with_uris(view) for view in preview["views"]]
    return {"model": model, "image_tokens": preview["tokens"], "is_exact": preview["is_exact"], "views": views}


def _info(core: Core) -> dict[str, Any]:
    name = core.default_model(Task.IMAGE_TEXT_TO_TEXT)
    view = core.offer(name) if name is not None and core.knows(name) else None
    settings = core.settings
    return {
        "model": name,
        "state": (view.state if view else State.ABSENT).shown,
        "loaded": view is not None and view.state is State.READY,
        "runtime": view.runtime if view else None,
        "device": view.device if view else None,
        "context_length": view.context_length if view else None,
        "models": [each.name for each in core.offered() if Task.IMAGE_TEXT_TO_TEXT in each.tasks],
        "formats": list(FORMATS),
        "max_images": settings.max_images,
        "max_conversation_images": settings.max_conversation_images,
        "max_pixels": settings.max_image_pixels,
        "max_body_bytes": settings.max_body_bytes,
    }


def _form_schema(body: type[Body]) -> dict[str, Any]:
    file = {"type": "string", "contentMediaType": "application/octet-stream"}
    schema = body.model_json_schema()
    schema["properties"]["image"] = {"type": "array", "items": file, "description": "One picture, or several."}
    del schema["properties"]["images"]
    return {**schema, "title": f"{body.__name__}Form"}


def _taken(body: type[Body], examples: dict[str, Any]) -> dict[str, Any]:
    content = {
        "application/json": {"examples": examples},
        "multipart/form-data": {"schema": _form_schema(body)},
    }
    return {"requestBody": {"content": content}}


_PICTURE = "data:image/png;base64,iVBORw0KGgo…"
_BODY = _taken(
    V5,
    {
        "a question": {"value": {"message": "이 사진에 무엇이 있나요?", "images": [_PICTURE]}},
        "asking on": {"value": {"message": "그건 무슨 색인가요?", "conversation_id": "0b5c…"}},
    },
)
_ONE = _taken(PreviewRequest, {"a picture": {"value": {"image": _PICTURE}}})
