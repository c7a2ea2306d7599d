"""POST /v1/chat/completions."""

from collections.abc import AsyncGenerator, Sequence
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import Field

from api.openai.names import model_meant
from api.openai.wire import (
    DONE,
    STREAMED,
    SamplingBody,
    Tokens,
    head,
    refusal,
    refuse_unsupported,
    routes_of_dialect,
    say_error,
    top_logprobs,
    usage_shown,
)
from api.responses import JSON
from api.sse import event, open_stream
from api.wire import Wire
from core.core import Core
from core.generation import Item
from core.messages import read_messages
from core.types import Begun, Completion, Delta, Prompt, Sampling, TokenScore

_NO_TEXT = (None, "none", "auto")
# fields that this server knows and cannot honour, and the values that ask for nothing
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "tools": (None, []),
    "tool_choice": _NO_TEXT,
    "functions": (None, []),
    "function_call": _NO_TEXT,
    "response_format": (None, {"type": "text"}),
    "modalities": (None, [], ["text"]),
    "audio": (None,),
    "prediction": (None,),
    "web_search_options": (None,),
    "logit_bias": (None, {}),
}


class ChatRequest(SamplingBody):
    messages: list[dict[str, Any]] = Field(
        examples=[[{"role": "user", "content": "안녕하세요?"}]],
        description="Contents are texts or lists of parts: `text`, and of the user `image_url` with a data: URI.",
    )
    max_completion_tokens: int | None = Field(None, description="Unset: `max_tokens`, or as much as there is room for.")
    logprobs: bool | None = None
    top_logprobs: int | None = None
    tools: Any = Field(None, description="Not supported.")
    tool_choice: Any = Field(None, description="Not supported.")
    functions: Any = Field(None, description="Not supported.")
    function_call: Any = Field(None, description="Not supported.")
    response_format: Any = Field(None, description="Only text is supported.")
    modalities: Any = Field(None, description="Only text is supported.")
    audio: Any = Field(None, description="Not supported.")
    prediction: Any = Field(None, description="Not supported.")
    web_search_options: Any = Field(None, description="Not supported.")

    def sampling(self) -> Sampling:
        """Raises InvalidRequest."""
        if self.top_logprobs is not None and not self.logprobs:
            raise refusal("top_logprobs", "is only taken with `logprobs` true")
        likeliest = top_logprobs("top_logprobs", self.top_logprobs) if self.logprobs else None
        wanted = self.max_completion_tokens if self.max_completion_tokens is not None else self.max_tokens
        return self.sampling_with(wanted, likeliest)


class Choice(Wire):
    index: int
    message: dict[str, Any]
    logprobs: dict[str, Any] | None
    finish_reason: str


class ChatCompletion(Wire):
    id: str
    object: str
    created: int
    model: str
    choices: list[Choice]
    usage: Tokens


def router(core: Core) -> APIRouter:
    routes = routes_of_dialect()

    @routes.post("/chat/completions", response_model=ChatCompletion, responses=STREAMED)
    async def chat(request: Request, body: ChatRequest) -> Response:
        """The next message of a conversation, as OpenAI's clients ask for it."""
        refuse_unsupported(body, _NEUTRAL)
        sampling, model = body.sampling(), model_meant(core, body.model)
        prompt = Prompt(messages=await read_messages(body.messages, core.images))
        if body.stream:
            chunks = _chunks(core.generate(prompt, sampling, model), body.wants_usage)
            return await open_stream(chunks, say_error(request))
        return JSON(_answer(await core.complete(prompt, sampling, model), wants_logprobs=sampling.logprobs is not None))

    return routes


def _answer(done: Completion, *, wants_logprobs: bool) -> dict[str, Any]:
    return {
        **head("chatcmpl", "chat.completion", done.begun.model),
        "choices": [
            {
                "index": index,
                "message": {"role": "assistant", "content": text, "refusal": None},
                "logprobs": _logprobs(done.logprobs[index]) if wants_logprobs else None,
                "finish_reason": done.generated.finish_reasons[index],
            }
            for index, text in enumerate(done.texts)
        ],
        "usage": usage_shown(done.generated.usage, image_tokens=sum(done.begun.image_tokens)),
    }


def _logprobs(scores: Sequence[TokenScore]) -> dict[str, Any]:
    return {
        "content": [
            {
                "token": score["token"],
                "logprob": score["logprob"],
                "bytes": score["bytes"],
                "top_logprobs": score["top"],
            }
            for score in scores
        ],
        "refusal": None,
    }


async def _chunks(items: AsyncGenerator[Item], wants_usage: bool) -> AsyncGenerator[bytes, None]:
    begins: dict[str, Any] = {}
    spoken: set[int] = set()
    image_tokens = 0
    try:
        async for item in items:
            if isinstance(item, Begun):
                image_tokens = sum(item.image_tokens)
                begins = head("chatcmpl", "chat.completion.chunk", item.model)
                if wants_usage:
                    begins["usage"] = None
            elif isinstance(item, Delta):
                if item.index not in spoken:
                    spoken.add(item.index)
                    yield event({**begins, "choices": [_choice(item.index, {"role": "assistant", "content": ""})]})
                for choice in _choices(item):
                    yield event({**begins, "choices": [choice]})
            elif wants_usage:
                usage = usage_shown(item.usage, image_tokens=image_tokens)
                yield event({**begins, "choices": [], "usage": usage})
        yield DONE
    finally:
        await items.aclose()


def _choices(delta: Delta) -> list[dict[str, Any]]:
    found = []
    if delta.text or delta.logprobs:
        choice = _choice(delta.index, {"content": delta.text})
        found.append({**choice, "logprobs": _logprobs(delta.logprobs) if delta.logprobs else None})
    if delta.finish_reason:
        found.append({**_choice(delta.index, {}), "finish_reason": delta.finish_reason})
    return found


def _choice(index: int, delta: dict[str, Any]) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}
