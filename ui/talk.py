"""A turn of a conversation while it is answered, as the page and its clients are told of it."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import replace
from functools import partial
from typing import Any

import gradio as gr

from core.chat.types import ChatBegun, ChatEnded, ChatTurn
from core.core import Core
from core.sampling import parse_sampling
from core.types import Delta, Sampling, Task
from ui.guard import owner_of
from ui.pace import Look
from ui.pictures import read_pictures
from ui.sampling import sampling_of
from ui.section import quiet
from ui.streaming import StreamingSection
from ui.written import Written

_TOLD = ("model", "revision", "prompt_tokens", "context_length", "first_token_ms", "total_ms", "tokens_per_s")


class Said:
    """The answer as far as it is written, and where it is kept."""

    def __init__(self) -> None:
        self.written = Written()
        self.begun: ChatBegun | None = None
        self.ended: ChatEnded | None = None

    def take(self, item: ChatBegun | Delta | ChatEnded) -> None:
        if isinstance(item, ChatBegun):
            self.begun = item
            self.written.take(item.begun)
        elif isinstance(item, Delta):
            self.written.take(item)
        else:
            self.ended = item

    def plain(self) -> dict[str, Any]:
        told = self.written.plain()
        begun, ended = self.begun, self.ended
        return {
            **{name: told[name] for name in _TOLD},
            "result": told["result"][0],
            "tokens": ended.usage.completion_tokens if ended else told["tokens"][0],
            "finish_reason": told["finish_reasons"][0],
            "has_chat_template": begun.begun.has_chat_template if begun else None,
            "image_tokens": list(begun.begun.image_tokens) if begun else [],
            "dropped_messages": begun.dropped_messages if begun else 0,
            "conversation_id": begun.conversation_id if begun else None,
            "question_id": ended.question_id if ended else None,
            "answer_id": ended.answer_id if ended else None,
        }

    def look(self) -> dict[str, Any]:
        return {"stage": "done" if self.ended else "writing", "reply": self.plain()}


async def answered(core: Core, turn: ChatTurn, owner: str, images: Any) -> AsyncGenerator[Said]:
    """The same object after each step of the model. `images` as `read_pictures` takes them."""
    turn = replace(turn, images=await read_pictures(core, owner, images))
    said = Said()
    async with contextlib.aclosing(core.chat.reply(turn, owner)) as items:
        async for item in items:
            said.take(item)
            yield said


def wire(section: StreamingSection, core: Core, task: Task, talk: gr.HTML, options: dict[str, Any]) -> None:
    """Hangs up the panel of a conversation: `options` are the components of `sampling_fields`."""

    async def send(request: gr.Request, model: str, given: dict[str, Any], *values: Any) -> AsyncIterator[Any]:
        knobs = dict(zip(options, values, strict=True))
        answer = partial(_page_answer, core, owner_of(request), task, model, given, knobs)
        async with contextlib.aclosing(section.followed(request, model, answer)) as shown:
            async for each in shown:
                yield {**each, "turn": given.get("turn")}  # the page may hear the end of one turn in the next

    talk.send(send, [section.line, talk, *options.values()], [talk], **quiet(section.name))
    section.wire_stop(talk.stop)
    section.tell_browser(options)


async def _page_answer(
    core: Core, owner: str, task: Task, model: str, given: dict[str, Any], knobs: dict[str, Any]
) -> AsyncGenerator[Look]:
    """What the page shows of the turn `given`, as `ui/static/46-chat.js` sends it."""
    turn = ChatTurn(
        message=str(given.get("message") or ""),
        model=model or None,
        sampling=sampling_of(**knobs),
        template=given.get("template") or None,
        variables=given.get("variables") or {},
        language=given.get("language"),
        system=given.get("system"),
        is_kept=True,
        conversation_id=given.get("conversation"),
        replaces=given.get("replaces"),
        task=task,
    )
    async with contextlib.aclosing(answered(core, turn, owner, given.get("images"))) as steps:
        async for said in steps:
            yield said.look


async def plain_answer(core: Core, turn: ChatTurn, owner: str, images: Any) -> AsyncGenerator[Look]:
    """What a client is told."""
    async with contextlib.aclosing(answered(core, turn, owner, images)) as steps:
        async for said in steps:
            yield said.plain


def sampling_given(
    max_tokens: int = 512,
    temperature: float = 0.7,
    top_p: float = 0.9,
    top_k: int = 0,
    repetition_penalty: float = 1.0,
    seed: int | None = None,
    stop: list[str] | None = None,
) -> Sampling:
    fields: dict[str, Any] = {"max_tokens": max_tokens, "temperature": temperature, "top_p": top_p, "top_k": top_k}
    return parse_sampling({**fields, "repetition_penalty": repetition_penalty, "seed": seed, "stop": stop})


DEFAULT_SAMPLING = sampling_given()


def asks_sampling(function: Callable[..., AsyncIterator[Any]]) -> Callable[..., AsyncIterator[Any]]:
    """`function`, an endpoint for programs, with the parameters of `sampling_given` in the place of its `sampling`."""
    own, fields = inspect.signature(function), inspect.signature(sampling_given).parameters
    parameters = [
        each
        for name, parameter in own.parameters.items()
        for each in (fields.values() if name == "sampling" else (parameter,))
    ]
    signature = own.replace(parameters=parameters)

    @functools.wraps(function)
    async def asked(*args: Any, **named: Any) -> AsyncIterator[Any]:
        given = signature.bind(*args, **named)
        given.apply_defaults()
        values = given.arguments
        sampling = sampling_given(**{name: values.pop(name) for name in fields})
        async with contextlib.aclosing(function(**values, sampling=sampling)) as steps:  # type: ignore[type-var]
            async for step in steps:
                yield step

    asked.__signature__ = signature  # type: ignore[attr-defined]
    asked.__annotations__ = {each.name: each.annotation for each in parameters} | {"return": own.return_annotation}
    return asked
