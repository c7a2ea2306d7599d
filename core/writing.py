"""Generation as a prediction: texts in, texts out, with the defaults of transformers' pipelines."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from core.fleet.record import Record
from core.generation import join, stream
from core.messages import user_message
from core.sampling import parse_sampling
from core.together import together
from core.types import Completion, Prompt, Sampling, Task

MAX_NEW_TOKENS = 256  # of an answer, when the request says nothing of its length
TOP_K = 50  # likeliest tokens that one is drawn from, when the request wants sampling and no more
_AT_ONCE = 16  # texts of one request that are in the model's queue


def sampling_of(params: Mapping[str, Any]) -> Sampling:
    """The likeliest token always, unless `do_sample` or a `temperature` asks for a draw. Raises InvalidRequest."""
    fields = {name: value for name, value in params.items() if value is not None}
    if "max_new_tokens" in fields:
        fields.pop("max_length", None)
    elif "max_length" not in fields:
        fields["max_new_tokens"] = MAX_NEW_TOKENS
    fields.setdefault("do_sample", bool(fields.get("temperature")))
    if fields["do_sample"]:
        fields.setdefault("top_k", TOP_K)
    return parse_sampling(fields)


async def write(
    record: Record, task: Task, items: Sequence[Any], params: Mapping[str, Any], patience_s: float
) -> dict[str, Any]:
    """`[{"generated_text"}]` for each text, in the form in which a worker answers a `run`.

    What continues a text gives it with its continuation; what turns a text into another, or answers one that may have
    an image, gives that alone.
    """
    sampling, room = sampling_of(params), asyncio.Semaphore(_AT_ONCE)

    async def one(item: Any) -> Completion:
        async with room:
            return await join(stream(record, _prompt(task, item), sampling, patience_s), 1)

    completions = await together(map(one, items))
    read = [each.begun.prompt_tokens for each in completions]
    starts = items if task is Task.TEXT_GENERATION else [""] * len(items)
    went = [each.generated for each in completions]
    return {
        "outputs": [
            [{"generated_text": start + each.texts[0]}] for start, each in zip(starts, completions, strict=True)
        ],
        "tokens": sum(read),
        "input_tokens": read,
        "windows": [1] * len(read),
        "truncated": [False] * len(read),
        "queue_ms": max(each.queue_ms for each in went),
        "model_ms": max(each.total_ms - each.queue_ms for each in went),
    }


def _prompt(task: Task, item: Any) -> Prompt:
    """A text as it is; to a model that looks, a message of a chat."""
    if task is not Task.IMAGE_TEXT_TO_TEXT:
        return Prompt(text=item)
    if isinstance(item, str):
        return Prompt(messages=({"role": "user", "content": item},))
    return Prompt(messages=(user_message(item["text"], [item["image"]]),))
