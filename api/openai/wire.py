"""What all requests and answers of the dialect share."""

import secrets
import time
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from api.errors import error_body
from api.openai.bound import BoundRoute
from api.sse import EVENT_STREAM, SayError, event
from api.wire import Wire
from core.errors import InvalidRequest
from core.names import MAX_NAME
from core.params import checked, integer
from core.sampling import MAX_TOP_LOGPROBS, parse_sampling
from core.types import Sampling, Usage

DONE = b"data: [DONE]\n\n"
STREAMED: dict[int | str, dict[str, Any]] = {
    200: {"content": {EVENT_STREAM: {}}, "description": "JSON, or with `stream` server-sent events."}
}


class OpenAIErrorInfo(Wire):
    message: str
    type: str
    param: str | None
    code: str | None


class OpenAIError(Wire):
    error: OpenAIErrorInfo


class Tokens(Wire):
    prompt_tokens: int
    total_tokens: int
    completion_tokens: int | None = None


class Body(BaseModel):
    """A request. Fields that it does not know are left aside, as vLLM, llama.cpp and TGI do: clients of this dialect
    send many that are meant for one server or another. Fields that it knows and cannot honour are refused."""

    model_config = ConfigDict(extra="ignore", strict=True, allow_inf_nan=False)

    model: str | None = Field(
        None, max_length=MAX_NAME, description="Unset, or one of the names that stand for none: the default model."
    )


class StreamOptions(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)

    include_usage: bool | None = Field(None, description="One more chunk before the end says how many tokens it took.")


class SamplingBody(Body):
    """What both ways to generate take."""

    max_tokens: int | None = None
    temperature: float | None = Field(None, description="1 when not said; 0: the likeliest token always.")
    top_p: float | None = None
    n: int | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    ignore_eos: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    logit_bias: Any = Field(None, description="Not supported.")

    @property
    def wants_usage(self) -> bool:
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    def sampling_with(self, max_tokens: int | None, logprobs: int | None) -> Sampling:
        """Raises InvalidRequest."""
        if self.stream_options is not None and not self.stream:
            raise refusal("stream_options", "is only taken with `stream` true")
        same = ("temperature", "top_p", "n", "stop", "seed", "presence_penalty", "frequency_penalty", "top_k", "min_p")
        fields = {name: getattr(self, name) for name in (*same, "repetition_penalty", "ignore_eos")}
        return parse_sampling({**fields, "max_tokens": max_tokens, "logprobs": logprobs})


def refusal(field: str, why: str) -> InvalidRequest:
    error = InvalidRequest(f"`{field}` {why}.")
    error.param = field
    return error


def refuse_unsupported(body: BaseModel, neutral: Mapping[str, tuple[Any, ...]]) -> None:
    """Raises InvalidRequest for a field of `neutral` that asks for more than one of its values there does."""
    for name, values in neutral.items():
        if getattr(body, name) not in values:
            raise refusal(name, "is not supported by this server: leave it out")


def top_logprobs(name: str, value: int | None) -> int:
    """How many alternatives are wanted. Raises InvalidRequest."""
    return 0 if value is None else int(checked(name, value, integer(0, MAX_TOP_LOGPROBS)))


def routes_of_dialect() -> APIRouter:
    return APIRouter(
        prefix="/v1",
        route_class=BoundRoute,
        tags=["openai"],
        responses={"4XX": {"model": OpenAIError}, "5XX": {"model": OpenAIError}},
    )


def head(prefix: str, kind: str, model: str) -> dict[str, Any]:
    """What an answer, and each of its chunks, begins with."""
    return {
        "id": f"{prefix}-{secrets.token_hex(12)}",
        "object": kind,
        "created": int(time.time()),
        "model": model,
        "system_fingerprint": None,
    }


def usage_shown(*usages: Usage, image_tokens: int = 0) -> dict[str, Any]:
    """Tokens of one request. `image_tokens` are those of the prompt that stand for images."""
    details = {"cached_tokens": sum(each.cached_tokens for each in usages)}
    prompt, completion = sum(each.prompt_tokens for each in usages), sum(each.completion_tokens for each in usages)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {**details, "image_tokens": image_tokens} if image_tokens else details,
    }


def say_error(request: Request) -> SayError:
    """Writes an error into a stream."""
    return lambda error: event(error_body(error, request.scope))
