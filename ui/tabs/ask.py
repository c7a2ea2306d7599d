"""Ask: the answer to a question, looked for in a text."""

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
        {
            "fields": [
                "When does the library close?",
                "The library opens at nine. It closes at eight in the evening, and at five on Saturdays.",
            ]
        },
        {
            "fields": [
                "Who repaired the bridge?",
                "The old bridge was damaged by a flood in 2018. Engineers of the county repaired it within a year.",
            ]
        },
        {
            "fields": [
                "How long is the guarantee?",
                "Every lamp comes with a guarantee of five years. Bulbs are not part of it.",
            ]
        },
    ],
    "ko": [
        {
            "fields": [
                "도서관은 몇 시에 닫나요?",
                "도서관은 아침 아홉 시에 열고 저녁 여덟 시에 닫습니다. 토요일에는 다섯 시까지만 운영합니다.",
            ]
        },
        {
            "fields": [
                "다리는 누가 고쳤나요?",
                "오래된 다리는 2018년 홍수로 무너졌다. 군청 기술자들이 일 년 만에 다시 고쳤다.",
            ]
        },
        {"fields": ["보증 기간은 얼마인가요?", "모든 조명의 보증 기간은 오 년입니다. 전구는 포함되지 않습니다."]},
    ],
}


def build(page: gr.Blocks, core: Core, feed: gr.HTML) -> None:
    section = Section(page, core, feed, "ask", (Task.QUESTION_ANSWERING,))

    async def answer(model: str, question: str, context: str, top_k: float) -> dict[str, Any] | None:
        if not question.strip() or not context.strip():
            return None
        items = [{"question": question, "context": context}]
        reply = await ask(core, Task.QUESTION_ANSWERING, items, {"top_k": int(top_k)}, model)
        return {"reply": reply, "context": context}

    with section.tab():
        with section.inputs():
            question = gr.Textbox(label=w("question"), placeholder=w("question_placeholder"), max_lines=1)
            context = gr.Textbox(label=w("context"), placeholder=w("context_placeholder"), lines=7, max_lines=14)
            section.buttons()
            section.examples(EXAMPLES)
            with section.options():
                top_k = gr.Slider(1, 10, 1, step=1, label=w("answers_shown"))
        section.wire(answer, {"question": question, "context": context, "top_k": top_k})


def publish(core: Core) -> None:
    """The endpoint for programs."""

    @guarded
    async def answer(question: str, context: str, model: str | None = None, top_k: int = 1) -> dict[str, Any]:
        """The answer to `question` in `context`: {answer, score, start, end}; with `top_k` above 1, the best few."""
        item = {"question": question, "context": context}
        return await ask_for(core, Task.QUESTION_ANSWERING, item, {"top_k": top_k}, model)

    api(answer, api_name="answer")
