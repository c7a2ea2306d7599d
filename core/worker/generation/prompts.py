"""A request to generate, from the wire to a job for the scheduler, and its outcome back."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

from core.errors import ContextOverflow, InvalidRequest, TaskNotSupported
from core.types import Delta, Image, Message, Prompt, Sampling, Task
from core.worker.generation.answer import Job
from core.worker.generation.base import Generator
from core.worker.generation.chat_template import PLAIN_STOP
from core.worker.generation.images import images_of

DEFAULT_MAX_TOKENS = 1024  # of an answer, when the request does not say


def read(raw: dict[str, Any]) -> Prompt:
    """The prompt as it crossed the wire."""
    lists = {name: tuple(raw[name]) if raw[name] is not None else None for name in ("ids", "messages")}
    return Prompt(text=raw["text"], **lists)


def read_sampling(raw: dict[str, Any]) -> Sampling:
    return Sampling(**{**raw, "stop": tuple(raw["stop"])})


def prepare(
    runtime: Generator,
    prompt: Prompt,
    sampling: Sampling,
    on_delta: Callable[[Delta], None],
    on_done: Callable[[Job], None],
) -> Job:
    """The prompt as tokens. Raises InvalidRequest, TaskNotSupported, ContextOverflow, TemplateFailed."""
    images = images_of(prompt.messages or ())
    ids = _ids(runtime, prompt, images)
    context = runtime.info.context_length
    assert context is not None
    room = min(context, runtime.max_cached_tokens) - (0 if runtime.is_encoder_decoder else len(ids))
    if len(ids) > context or room < 1:
        seen = sum(each >= runtime.codec.size for each in ids)
        of_images = f", {seen:,} of them for {len(images)} image{'s' * (len(images) > 1)}" if seen else ""
        raise ContextOverflow(
            f"The prompt has {len(ids):,} tokens{of_images}; {runtime.name} reads {context:,}, the answer included. "
            "Send less, or load the model with a larger `context_length`."
        )
    wanted = _wanted(sampling, 0 if runtime.is_encoder_decoder else len(ids))
    if prompt.messages is not None and not runtime.codec.has_template:
        sampling = replace(sampling, stop=(*sampling.stop, PLAIN_STOP))
    continues = prompt.messages is None and not runtime.is_encoder_decoder
    return Job(ids, sampling, min(wanted, room), on_delta, on_done, continues, images)


def _wanted(sampling: Sampling, prompt_tokens: int) -> int:
    if sampling.max_tokens is not None or sampling.max_length is None:
        return DEFAULT_MAX_TOKENS if sampling.max_tokens is None else sampling.max_tokens
    if sampling.max_length <= prompt_tokens:
        raise InvalidRequest(
            f"`max_length` is {sampling.max_length:,} tokens, the answer included, and the prompt has "
            f"{prompt_tokens:,}. Raise it, or send `max_new_tokens`, which counts the answer alone."
        )
    return sampling.max_length - prompt_tokens


def _ids(runtime: Generator, prompt: Prompt, images: Sequence[Image]) -> list[int]:
    codec = runtime.codec
    if images and prompt.messages is not None:
        ids = _seen(runtime, prompt.messages, len(images))
    elif prompt.messages is not None:
        ids = codec.encode_chat(codec.render(prompt.messages))
    elif prompt.ids is not None:
        ids = list(prompt.ids)
        if outside := next((each for each in ids if not 0 <= each < codec.size), None):
            raise InvalidRequest(f"{runtime.name} has no token {outside}; its tokens are 0 to {codec.size - 1:,}.")
    else:
        ids = codec.encode(prompt.text or "")
    if not ids:
        raise InvalidRequest(f"The prompt gives no token to {runtime.name}. Send some text.")
    return ids


def _seen(runtime: Generator, messages: Sequence[Message], count: int) -> list[int]:
    if runtime.vision is None:
        raise TaskNotSupported(
            f"{runtime.name} reads text alone and cannot look at images. Send none, or choose a model for "
            f"{Task.IMAGE_TEXT_TO_TEXT}; GET /models says which."
        )
    if count > runtime.vision.max_images:
        raise InvalidRequest(
            f"The chat holds {count:,} images; {runtime.name} takes {runtime.vision.max_images} at once. Send fewer."
        )
    return runtime.vision.encode(messages)


def as_map(delta: Delta) -> dict[str, Any]:
    """A delta as it crosses the wire; `dataclasses.asdict` would copy every score."""
    return {
        "index": delta.index,
        "text": delta.text,
        "tokens": delta.tokens,
        "logprobs": delta.logprobs,
        "finish_reason": delta.finish_reason,
    }


def outcome(job: Job) -> dict[str, Any]:
    """What the last message says. Times are in ms from the request's arrival."""
    started, first = job.started_at or job.added_at, job.first_token_at or time.monotonic()
    return {
        "usage": asdict(job.usage),
        "finish_reasons": [answer.finish_reason for answer in job.answers],
        "queue_ms": (started - job.added_at) * 1000,
        "first_token_ms": (first - job.added_at) * 1000,
        "total_ms": (time.monotonic() - job.added_at) * 1000,
    }
