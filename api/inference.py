"""`POST /models/{name}` with a picture, as huggingface_hub's InferenceClient calls the address of a model.

The client sends the file as the body when it has nothing else to say, and else the file in base64 as `inputs`; of a
question about a document `inputs` is both. It knows its answers by their form alone, a list for each of its calls.
"""

from typing import Any

from fastapi import APIRouter, Response
from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from api.names import Name
from api.predict import PICTURE_BODY, PictureRequest
from api.responses import JSON
from api.routing import Route
from api.wire import Body, Wire
from core.core import Core
from core.errors import TaskNotSupported


class AskedPicture(Body):
    image: str = Field(description="A picture in base64, bare or as a data: URI.")
    question: str


class InferenceRequest(Body):
    """A picture in base64; the picture's file may also be the body by itself."""

    model_config = {"json_schema_extra": {"examples": [{"inputs": "iVBORw0KGgo…", "question": "무엇이 보이나요?"}]}}

    inputs: str | AskedPicture | SkipJsonSchema[bytes] = Field(
        description="A picture in base64, bare or as a data: URI, or such an `image` and a `question` about it."
    )
    question: str | None = None
    image: str | None = Field(None, description="What `inputs` is, once more, as visual_question_answering sends it.")
    parameters: dict[str, Any] | None = Field(None, description="As the fields of `POST /models/{name}/predict`.")

    @property
    def picture(self) -> str | bytes:
        return self.inputs.image if isinstance(self.inputs, AskedPicture) else self.inputs

    @property
    def asked(self) -> str | None:
        return self.inputs.question if isinstance(self.inputs, AskedPicture) else self.question


class Found(Wire):
    label: str | None = Field(None, description="Of a model that names pictures, with its score; best first.")
    score: float | None = None
    generated_text: str | None = Field(None, description="What a model that looks writes.")
    answer: str | None = Field(None, description="The same, where it was asked a question.")


class _BareRequest(PictureRequest):
    """The client does not say what kind of file it sends where it does not know."""

    @staticmethod
    def takes(content_type: str) -> bool:
        return not content_type or PictureRequest.takes(content_type)

    def fields(self, content_type: str, body: bytes) -> dict[str, Any]:
        return {"inputs": body}


class _BareRoute(Route):
    request_class = _BareRequest


def router(core: Core) -> APIRouter:
    routes = APIRouter(route_class=_BareRoute, tags=["predict"])

    @routes.post("/models/{name:path}", response_model=list[Found], openapi_extra=PICTURE_BODY)
    async def infer(name: Name, body: InferenceRequest) -> Response:
        """What a model sees in a picture, for huggingface_hub: image_to_text, image_classification and questions."""
        return JSON(await _answer(core, name, body))

    return routes


async def _answer(core: Core, name: str, body: InferenceRequest) -> list[dict[str, Any]]:
    fields = body.parameters or {}
    if fields.get("candidate_labels") is not None:
        raise TaskNotSupported(
            f"{name} does not choose among labels of one's own for a picture. Leave `candidate_labels` out, or ask a "
            "model that looks at images in words."
        )
    (image,) = await core.images.read("inputs", [body.picture])
    reply = await core.predict(name, [{"image": image, "text": body.asked or ""}], fields)
    found: list[dict[str, Any]] = reply.outputs[0]
    if body.asked is None or not reply.task.generates:
        return found
    return [{"answer": each["generated_text"]} for each in found]
