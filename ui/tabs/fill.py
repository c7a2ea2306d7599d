"""Fill: words for a gap in a text."""

from __future__ import annotations

from typing import Any

import gradio as gr
from gradio.events import api

from core.core import Core
from core.types import Task
from ui.calls import ask, ask_for
from ui.guard import guarded
from ui.section import Example, Section
from ui.words import w

EXAMPLES: dict[str, list[Example]] = {
    "en": [
        {"fields": ["The capital of France is [MASK]."]},
        {"fields": ["She poured the coffee into a [MASK]."]},
        {"fields": ["We missed the last [MASK] home."]},
    ],
    "ko": [
        {"fields": ["대한민국의 수도는 [MASK]이다."]},
        {"fields": ["커피를 [MASK]에 따랐다."]},
        {"fields": ["집에 가는 마지막 [MASK]를 놓쳤다."]},
    ],
}


def build(page: gr.Blocks, core: Core, feed: gr.HTML) -> None:
    section = Section(page, core, feed, "fill", (Task.FILL_MASK,))

    async def answer(model: str, text: str, top_k: float) -> dict[str, Any] | None:
        if not text.strip():
            return None
        return {"reply": await ask(core, Task.FILL_MASK, [text], {"top_k": int(top_k)}, model)}

    with section.tab():
        with section.inputs():
            text = gr.Textbox(label=w("text"), placeholder=w("fill_placeholder"), lines=4, max_lines=10)
            section.buttons()
            section.examples(EXAMPLES)
            with section.options():
                top_k = gr.Slider(1, 20, 5, step=1, label=w("words_shown"))
        section.wire(answer, {"text": text, "top_k": top_k})


def publish(core: Core) -> None:
    """The endpoint for programs."""

    @guarded
    async def fill_mask(text: str | list[str], model: str | None = None, top_k: int = 5) -> dict[str, Any]:
        """Words for the mask token of a text, best first: {score, token, token_str, sequence}."""
        return await ask_for(core, Task.FILL_MASK, text, {"top_k": top_k}, model)

    api(fill_mask, api_name="fill_mask")
