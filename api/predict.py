"""Asking a model: its own task with `POST /models/{name}/predict`, a label with the Space's `POST /predict`."""

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Response
from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from api.names import Name
from api.responses import JSON
from api.routing import OtherRequest, Route
from api.wire import Body, Wire
from core.core import Core
from core.errors import InvalidRequest
from core.images.reader import ImageReader
from core.images.reading import size_of
from core.params import FIELD_NAMES
from core.types import Reply, Task


class PredictRequest(Body):
    """One `text`, many `texts`, a `question` and its `context`, or an `image`, to which a `text` may belong. Which
    other fields count depends on the task; those of another task are checked and left aside."""

    model_config = {
        "json_schema_extra": {
            "examples": [{"text": "이 영화는 정말 재미있었다!"}, {"texts": ["Loved it.", "Never again."], "top_k": 2}]
        },
    }

    text: str | None = None
    texts: list[str] | None = None
    question: str | None = None
    context: str | None = None
    image: str | SkipJsonSchema[bytes] | None = Field(None, description="A picture in base64, bare or as a data: URI.")
    task: Annotated[Task | None, Field(strict=False)] = Field(None, description="One of the model's tasks.")

    max_length: int | None = Field(None, description="Tokens of a text that are read, special ones included.")
    max_new_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = Field(None, description="How many answers, best first.")
    do_sample: bool | None = None
    repetition_penalty: float | None = None
    seed: int | None = None
    normalize: bool | None = Field(None, description="Whether a vector has length 1; unset: as the model says.")
    aggregation_strategy: str | None = Field(None, description="none, simple, first, average or max.")
    candidate_labels: list[str] | None = None
    multi_label: bool | None = None
    hypothesis_template: str | None = None
    stride: int | None = Field(None, description="Tokens that the windows of a long text share.")
    dimensions: int | None = Field(None, description="Numbers of a vector that are kept.")
    prompt_name: str | None = None
    handle_impossible_answer: bool | None = None
    function_to_apply: str | None = Field(None, description="softmax, sigmoid or none.")
    targets: list[str] | None = None

    async def items(self, reader: ImageReader) -> list[Any]:
        """What the model reads. Raises InvalidRequest unless exactly one of them is there, and what `reader` raises."""
        is_pair = self.question is not None or self.context is not None
        has_text = self.text is not None and self.image is None
        if has_text + (self.texts is not None) + is_pair + (self.image is not None) != 1:
            raise InvalidRequest("Send one of: `text`, `texts`, `question` with `context`, or `image`.")
        if self.image is not None:
            (image,) = await reader.read("image", [self.image])
            return [{"image": image, "text": self.text or ""}]
        if self.text is not None:
            return [self.text]
        if self.texts is not None:
            return self.texts
        if self.question is None or self.context is None:
            raise InvalidRequest("A question needs both `question` and `context`.")
        return [{"question": self.question, "context": self.context}]

    def params(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.model_fields_set & FIELD_NAMES}


class Timing(Wire):
    queue_ms: float
    model_ms: float
    total_ms: float


class Prediction(Wire):
    model_name: str
    task: str
    input: Any = Field(
        description="The text, the texts, or the question and its context, as sent; of an image its size, upright."
    )
    result: Any = Field(description="Of one `text`, or a list with one for each of `texts`; its form is the task's.")
    timestamp: str
    revision: str
    timing: Timing
    tokens: int
    windows: list[int] = Field(description="How many windows each input was read in.")
    truncated: list[bool] = Field(description="Whether the end of each input was not read.")


class ClassifyRequest(Body):
    text: str = Field(examples=["이 영화는 정말 재미있었다!"])
    model: str | None = Field(None, description="Unset: BERTH_CLASSIFY_MODEL, or the only classifier, or the starter.")


class Classification(Wire):
    text: str
    classification: str
    score: float
    model: str


class PictureRequest(OtherRequest):
    """A picture's file as the body, as curl's --data-binary sends it."""

    @staticmethod
    def takes(content_type: str) -> bool:
        kind = content_type.partition(";")[0].strip().lower()
        return kind.startswith("image/") or kind == "application/octet-stream"

    def fields(self, content_type: str, body: bytes) -> dict[str, Any]:
        return {"image": body}


class _PictureRoute(Route):
    request_class = PictureRequest


_FILE = {"schema": {"type": "string", "contentMediaType": "application/octet-stream"}}
PICTURE_BODY = {"requestBody": {"content": {"image/*": _FILE, "application/octet-stream": _FILE}}}


def router(core: Core) -> APIRouter:
    routes = APIRouter(route_class=_PictureRoute, tags=["predict"])

    @routes.post("/models/{name:path}/predict", response_model=Prediction, openapi_extra=PICTURE_BODY)
    async def predict(name: Name, body: PredictRequest) -> Response:
        """The model's answer to one text or many, or to a picture, which may also be the body by itself."""
        items = await body.items(core.images)
        reply = await core.predict(name, items, body.params(), body.task)
        return JSON(_prediction(reply, items, is_batch=body.texts is not None))

    @routes.post("/predict", response_model=Classification)
    async def classify(body: ClassifyRequest) -> Response:
        """The best label of a text, by the default classifier."""
        reply = await core.run(Task.TEXT_CLASSIFICATION, [body.text], {"top_k": 1}, body.model)
        best = reply.outputs[0][0]
        return JSON({"text": body.text, "classification": best["label"], "score": best["score"], "model": reply.model})

    return routes


def _prediction(reply: Reply, items: list[Any], *, is_batch: bool) -> dict[str, Any]:
    # an embedding is one vector a text, so that one text gives a list of one vector
    is_whole = is_batch or reply.task is Task.FEATURE_EXTRACTION
    return {
        "model_name": reply.model,
        "task": reply.task,
        "input": items if is_batch else _shown(items[0]),
        "result": reply.outputs if is_whole else reply.outputs[0],
        "timestamp": datetime.now(UTC).isoformat(),
        "revision": reply.revision,
        "timing": {
            "queue_ms": round(reply.timing.queue_ms, 3),
            "model_ms": round(reply.timing.model_ms, 3),
            "total_ms": round(reply.timing.total_ms, 3),
        },
        "tokens": reply.tokens,
        "windows": reply.windows,
        "truncated": reply.truncated,
    }


def _shown(item: Any) -> Any:
    if not isinstance(item, dict) or "image" not in item:
        return item
    width, height = size_of(item["image"])
    return {"image": {"width": width, "height": height}, "text": item["text"]}
