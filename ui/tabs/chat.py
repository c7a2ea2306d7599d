"""Chat: conversations with a model, kept by the server, under templates and a system prompt of one's own."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from functools import partial
from typing import Any

import gradio as gr
from gradio.events import api

from core.chat.types import ChatBegun, ChatEnded, ChatTurn
from core.core import Core
from core.sampling import parse_sampling
from core.types import Delta, Sampling, Task
from ui.conversations import server_functions
from ui.guard import guarded, owner_of
from ui.pace import Look, Paced
from ui.panel import panel
from ui.sampling import sampling_fields, sampling_of
from ui.section import quiet
from ui.streaming import StreamingSection
from ui.written import Written

EXAMPLES = {
    "en": [
        "What can I do with this server?",
        "How do I load a model?",
        "Can I use the openai client?",
    ],
    "ko": [
        "이 서버로 무엇을 할 수 있어?",
        "모델을 어떻게 불러와?",
        "openai 클라이언트로 쓸 수 있어?",
    ],
}


def build(page: gr.Blocks, core: Core, feed: gr.HTML) -> None:
    section = StreamingSection(page, core, feed, "chat", (Task.TEXT_GENERATION,))
    with section.tab(), gr.Column(elem_classes="side-chat"):
        chat = panel(
            "chat",
            options={"examples": EXAMPLES},
            events=("send", "stop"),
            server_functions=server_functions(core),
            elem_id="result-chat",
        )
        with section.options():
            panel("frame", elem_id="frame")
            options = sampling_fields(several=False, max_tokens=512, top_k=0, penalty=1.0)
        panel("code", options={"section": "chat"}, elem_id="code-chat")

    async def send(request: gr.Request, model: str, given: dict[str, Any], *values: Any) -> AsyncIterator[Any]:
        knobs = dict(zip(options, values, strict=True))
        answer = partial(_answer, core, owner_of(request), model, given, knobs)
        async with contextlib.aclosing(section.followed(request, model, answer)) as shown:
            async for each in shown:
                yield each

    chat.send(send, [section.line, chat, *options.values()], [chat], **quiet("chat"))
    section.wire_stop(chat.stop)
    section.tell_browser(options)


async def _answer(
    core: Core, owner: str, model: str, given: dict[str, Any], knobs: dict[str, Any]
) -> AsyncGenerator[Look]:
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
    )
    async with contextlib.aclosing(_said(core, turn, owner)) as steps:
        async for said in steps:
            yield said.look


class _Said:
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
            "dropped_messages": begun.dropped_messages if begun else 0,
            "conversation_id": begun.conversation_id if begun else None,
            "question_id": ended.question_id if ended else None,
            "answer_id": ended.answer_id if ended else None,
        }

    def look(self) -> dict[str, Any]:
        return {"stage": "done" if self.ended else "writing", "reply": self.plain()}


_TOLD = ("model", "revision", "prompt_tokens", "context_length", "first_token_ms", "total_ms", "tokens_per_s")


async def _said(core: Core, turn: ChatTurn, owner: str) -> AsyncGenerator[_Said]:
    """The same object after each step of the model."""
    said = _Said()
    async with contextlib.aclosing(core.chat.reply(turn, owner)) as items:
        async for item in items:
            said.take(item)
            yield said


def publish(core: Core) -> None:
    """The endpoint for programs."""

    @guarded
    async def chat(
        message: str,
        request: gr.Request,
        model: str | None = None,
        system: str | None = None,
        template: str | None = None,
        variables: dict[str, str] | None = None,
        language: str | None = None,
        conversation_id: str | None = None,
        keep: bool = False,
        max_tokens: int = 512,
        temperature: float = 0.7,
        top_p: float = 0.9,
        top_k: int = 0,
        repetition_penalty: float = 1.0,
        seed: int | None = None,
        stop: list[str] | None = None,
    ) -> AsyncIterator[dict[str, Any]]:
        """The answer to `message`. Streams.

        With `keep`, the turn begins a conversation, whose `conversation_id` is told; sent with the next message, it
        goes on there. `template` is one of the prompt templates, with its `variables`. Each step holds `result`, the
        answer as far as it is written, with tokens and milliseconds; the last step holds all of it.
        """
        sampling = _sampling(max_tokens, temperature, top_p, top_k, repetition_penalty, seed, stop)
        turn = ChatTurn(
            message=message,
            model=model,
            sampling=sampling,
            template=template,
            variables=variables or {},
            language=language,
            system=system,
            is_kept=keep or conversation_id is not None,
            conversation_id=conversation_id,
        )
        async with contextlib.aclosing(Paced(_plainly(core, turn, owner_of(request))).follow()) as shown:
            async for each in shown:
                yield each

    api(chat, api_name="chat")


def _sampling(
    max_tokens: int,
    temperature: float,
    top_p: float,
    top_k: int,
    repetition_penalty: float,
    seed: int | None,
    stop: list[str] | None,
) -> Sampling:
    fields: dict[str, Any] = {"max_tokens": max_tokens, "temperature": temperature, "top_p": top_p, "top_k": top_k}
    return parse_sampling({**fields, "repetition_penalty": repetition_penalty, "seed": seed, "stop": stop})


async def _plainly(core: Core, turn: ChatTurn, owner: str) -> AsyncGenerator[Look]:
    async with contextlib.aclosing(_said(core, turn, owner)) as steps:
        async for said in steps:
            yield said.plain
