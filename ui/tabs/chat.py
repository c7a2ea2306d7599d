"""Chat: conversations with a model, kept by the server, under templates and a system prompt of one's own."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import gradio as gr
from gradio.events import api

from core.chat.types import ChatTurn
from core.core import Core
from core.types import Sampling, Task
from ui import talk
from ui.conversations import server_functions
from ui.guard import guarded, owner_of
from ui.pace import Paced
from ui.panel import panel
from ui.sampling import sampling_fields
from ui.streaming import StreamingSection
from ui.talk import DEFAULT_SAMPLING, asks_sampling, plain_answer

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
        place = panel(
            "chat",
            options={"examples": _plain(EXAMPLES), "max_body": core.settings.max_body_bytes},
            events=("send", "stop"),
            server_functions=server_functions(core),
            elem_id="result-chat",
        )
        with section.options():
            panel("frame", elem_id="frame")
            options = sampling_fields(several=False, max_tokens=512, top_k=0, penalty=1.0)
        panel("code", options={"section": "chat"}, elem_id="code-chat")
    talk.wire(section, core, Task.TEXT_GENERATION, place, options)


def _plain(examples: dict[str, list[str]]) -> dict[str, list[dict[str, str]]]:
    return {language: [{"text": text} for text in texts] for language, texts in examples.items()}


def publish(core: Core) -> None:
    """The endpoint for programs."""

    @guarded
    @asks_sampling
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
        sampling: Sampling = DEFAULT_SAMPLING,
        images: list[str] | None = None,
    ) -> AsyncIterator[dict[str, Any]]:
        """The answer to `message`. Streams.

        With `keep`, the turn begins a conversation, whose `conversation_id` is told; sent with the next message, it
        goes on there. `images` are pictures in base64 or as data: URIs, for a model that sees. `template` is one of
        the prompt templates, with its `variables`. Each step holds `result`, the answer as far as it is written, with
        tokens and milliseconds; the last step holds all of it.
        """
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
        async with contextlib.aclosing(Paced(plain_answer(core, turn, owner_of(request), images)).follow()) as shown:
            async for each in shown:
                yield each

    api(chat, api_name="chat")
