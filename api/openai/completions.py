"""POST /v1/completions: prompts continued as they are written, with no chat template."""

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
from core.params import valid_text
from core.together import merged, together
from core.types import Begun, Completion, Delta, Prompt, Sampling, TokenScore, Usage

MAX_PROMPTS = 128  # in one request
MAX_TOKENS = 16  # of an answer when the request does not say, as OpenAI documents it
_NEUTRAL: dict[str, tuple[Any, ...]] = {"suffix": (None, ""), "logit_bias": (None, {})}


class CompletionRequest(SamplingBody):
    prompt: str | list[str] | list[int] | list[list[int]] = Field(
        description="A text, several texts, a text as token ids, or several of these.", examples=["옛날 옛적에"]
    )
    echo: bool | None = Field(None, description="Whether each answer begins with its prompt.")
    logprobs: int | None = Field(None, description="How many alternatives of each token are told.")
    best_of: int | None = Field(None, description="Not supported, unless it is `n`.")
    suffix: Any = Field(None, description="Not supported.")

    def prompts(self) -> list[Prompt]:
        """Raises InvalidRequest."""
        given: list[Any] = [self.prompt] if isinstance(self.prompt, str) else list(self.prompt)
        if given and all(isinstance(each, int) for each in given):
            given = [given]
        if not 1 <= len(given) <= MAX_PROMPTS or [] in given:
            raise refusal("prompt", f"must be a text, token ids, or a list of 1 to {MAX_PROMPTS} of them")
        if self.echo and not all(isinstance(each, str) for each in given):
            raise refusal("echo", "is only taken with prompts that are texts")
        return [
            Prompt(text=valid_text("prompt", each)) if isinstance(each, str) else Prompt(ids=tuple(each))
            for each in given
        ]

    def sampling(self) -> Sampling:
        """Raises InvalidRequest."""
        if self.echo and self.logprobs is not None:
            raise refusal("echo", "is not taken together with `logprobs`: a prompt's own are not known")
        if self.best_of not in (None, self.n or 1):
            raise refusal("best_of", "is not supported by this server: leave it out")
        likeliest = None if self.logprobs is None else top_logprobs("logprobs", self.logprobs)
        return self.sampling_with(MAX_TOKENS if self.max_tokens is None else self.max_tokens, likeliest)


class Choice(Wire):
    index: int
    text: str
    logprobs: dict[str, Any] | None
    finish_reason: str


class TextCompletion(Wire):
    id: str
    object: str
    created: int
    model: str
    choices: list[Choice]
    usage: Tokens


def router(core: Core) -> APIRouter:
    routes = routes_of_dialect()

    @routes.post("/completions", response_model=TextCompletion, responses=STREAMED)
    async def completions(request: Request, body: CompletionRequest) -> Response:
        """One text or several continued, as OpenAI's clients ask for it."""
        refuse_unsupported(body, _NEUTRAL)
        prompts, sampling = body.prompts(), body.sampling()
        model = model_meant(core, body.model)
        starts = [prompt.text or "" if body.echo else "" for prompt in prompts]
        if body.stream:
            streams = [core.generate(prompt, sampling, model) for prompt in prompts]
            chunks = _chunks(merged(streams), starts, sampling.n, body.wants_usage)
            return await open_stream(chunks, say_error(request))
        done = await together(core.complete(prompt, sampling, model) for prompt in prompts)
        return JSON(_answer(done, starts, wants_logprobs=sampling.logprobs is not None))

    return routes


def _answer(done: Sequence[Completion], starts: Sequence[str], *, wants_logprobs: bool) -> dict[str, Any]:
    choices = [
        {
            "text": start + text,
            "logprobs": _Scores().read(each.logprobs[index]) if wants_logprobs else None,
            "finish_reason": each.generated.finish_reasons[index],
        }
        for start, each in zip(starts, done, strict=True)
        for index, text in enumerate(each.texts)
    ]
    return {
        **head("cmpl", "text_completion", done[0].begun.model),
        "choices": [{"index": index, **choice} for index, choice in enumerate(choices)],
        "usage": usage_shown(*(each.generated.usage for each in done)),
    }


class _Scores:
    """Logprobs of one answer in the form of this call; remembers how far the text is."""

    def __init__(self) -> None:
        self._offset = 0

    def read(self, scores: Sequence[TokenScore]) -> dict[str, Any]:
        offsets = []
        for score in scores:
            offsets.append(self._offset)
            self._offset += len(score["token"])
        return {
            "tokens": [score["token"] for score in scores],
            "token_logprobs": [score["logprob"] for score in scores],
            "top_logprobs": [{each["token"]: each["logprob"] for each in score["top"]} for score in scores],
            "text_offset": offsets,
        }


async def _chunks(
    items: AsyncGenerator[tuple[int, Item]], starts: Sequence[str], answers: int, wants_usage: bool
) -> AsyncGenerator[bytes, None]:
    begins: dict[str, Any] = {}
    usages: list[Usage] = []
    scores: dict[int, _Scores] = {}
    try:
        async for prompt, item in items:
            if isinstance(item, Begun):
                begins = begins or head("cmpl", "text_completion", item.model)
            elif isinstance(item, Delta):
                index = prompt * answers + item.index
                start = "" if index in scores else starts[prompt]
                scores.setdefault(index, _Scores())
                choice = {"index": index, "text": start + item.text, "logprobs": None}
                if item.logprobs:
                    choice["logprobs"] = scores[index].read(item.logprobs)
                chunk = {**begins, "choices": [{**choice, "finish_reason": item.finish_reason}]}
                yield event({**chunk, "usage": None} if wants_usage else chunk)
            else:
                usages.append(item.usage)
        if wants_usage:
            yield event({**begins, "choices": [], "usage": usage_shown(*usages)})
        yield DONE
    finally:
        await items.aclose()
