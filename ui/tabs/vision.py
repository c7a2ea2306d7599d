"""Vision: pictures, and a conversation about them beside."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import gradio as gr
from gradio.events import api

from core.chat.types import ChatTurn
from core.core import Core
from core.images.encoded import data_uri
from core.types import Sampling, Task
from ui import talk
from ui.conversations import server_functions
from ui.guard import guarded, owner_of
from ui.pace import Paced
from ui.panel import panel
from ui.sampling import sampling_fields
from ui.streaming import StreamingSection
from ui.talk import DEFAULT_SAMPLING, asks_sampling, plain_answer

EXAMPLES = {  # picture of the starter's samples, question
    "en": [
        ("three-shapes", "Describe the picture."),
        ("six", "What is at the top right?"),
        ("hearts", "What colour are they?"),
    ],
    "ko": [
        ("three-shapes", "사진에 어떤 도형이 있어?"),
        ("six", "오른쪽 위에 뭐가 있어?"),
        ("hearts", "무슨 색이야?"),
    ],
}


def build(page: gr.Blocks, core: Core, feed: gr.HTML) -> None:
    section = StreamingSection(page, core, feed, "vision", (Task.IMAGE_TEXT_TO_TEXT,))
    with section.tab(), gr.Column(elem_classes="side-chat"):
        place = panel(
            "vision",
            options={"examples": _examples(core), "max_body": core.settings.max_body_bytes},
            events=("send", "stop"),
            server_functions=server_functions(core),
            elem_id="result-vision",
        )
        with section.options():
            options = sampling_fields(several=False, max_tokens=512, top_k=0, penalty=1.0)
        panel("code", options={"section": "vision"}, elem_id="code-vision")
    talk.wire(section, core, Task.IMAGE_TEXT_TO_TEXT, place, options)


def _examples(core: Core) -> dict[str, list[dict[str, str]]]:
    """Those whose pictures came along."""
    samples = core.settings.starter_dir / "vision" / "samples"
    found: dict[str, list[dict[str, str]]] = {}
    for language, examples in EXAMPLES.items():
        paths = [(samples / f"{name}.png", text) for name, text in examples]
        found[language] = [
            {"text": text, "picture": data_uri(path.read_bytes())} for path, text in paths if path.is_file()
        ]
    return found


def publish(core: Core) -> None:
    """The endpoint for programs."""

    @guarded
    @asks_sampling
    async def vision(
        message: str,
        images: list[str],
        request: gr.Request,
        model: str | None = None,
        system: str | None = None,
        conversation_id: str | None = None,
        keep: bool = False,
        sampling: Sampling = DEFAULT_SAMPLING,
    ) -> AsyncIterator[dict[str, Any]]:
        """The answer to `message` about `images`, pictures in base64 or as data: URIs. Streams.

        With `keep`, the turn begins a conversation, whose `conversation_id` is told; the next message, sent with it,
        needs no picture. Each step holds `result`, the answer as far as it is written, with tokens and milliseconds.
        """
        turn = ChatTurn(
            message=message,
            model=model,
            sampling=sampling,
            system=system,
            is_kept=keep or conversation_id is not None,
            conversation_id=conversation_id,
            task=Task.IMAGE_TEXT_TO_TEXT,
        )
        async with contextlib.aclosing(Paced(plain_answer(core, turn, owner_of(request), images)).follow()) as shown:
            async for each in shown:
                yield each

    api(vision, api_name="vision")
