"""NER: names of people, places and the like, marked in their text."""

from __future__ import annotations

from typing import Any

import gradio as gr
from gradio.events import api

from core.core import Core
from core.params import AGGREGATIONS
from core.types import Task
from ui.calls import ask, ask_for
from ui.guard import guarded
from ui.section import Example, Section
from ui.words import w

EXAMPLES: dict[str, list[Example]] = {  # a test holds that the starter reads them right
    "en": [
        {"fields": ["Kim Min-jun has worked for the Bank of Korea in Busan since March 2019."]},
        {"fields": ["Emma Wilson has lived in Paris since 12 April 2015."]},
        {"fields": ["David Brown visited Chicago on Monday."]},
    ],
    "ko": [
        {"fields": ["김민준 교수는 2021년 5월 3일 서울대학교에서 강연했다."]},
        {"fields": ["이서연 씨는 지난 금요일 부산에서 삼성전자 관계자를 만났다."]},
        {"fields": ["최지우 씨는 작년 여름 제주도에서 휴가를 보냈다."]},
    ],
}


def build(page: gr.Blocks, core: Core, feed: gr.HTML) -> None:
    section = Section(page, core, feed, "ner", (Task.TOKEN_CLASSIFICATION,))

    async def answer(model: str, text: str, aggregation: str) -> dict[str, Any] | None:
        if not text.strip():
            return None
        reply = await ask(core, Task.TOKEN_CLASSIFICATION, [text], {"aggregation_strategy": aggregation}, model)
        return {"reply": reply, "text": text}

    with section.tab():
        with section.inputs():
            text = gr.Textbox(label=w("text"), placeholder=w("ner_placeholder"), lines=6, max_lines=14)
            section.buttons()
            section.examples(EXAMPLES)
            with section.options():
                aggregation = gr.Radio(list(AGGREGATIONS), value="simple", label=w("aggregation"))
        section.wire(answer, {"text": text, "aggregation": aggregation})


def publish(core: Core) -> None:
    """The endpoint for programs."""

    @guarded
    async def ner(text: str | list[str], model: str | None = None, aggregation: str = "simple") -> dict[str, Any]:
        """The named entities of a text, or of each of several: {entity_group, score, word, start, end}.

        Offsets count characters. `aggregation` is none, simple, first, average or max; none gives one row a token.
        """
        return await ask_for(core, Task.TOKEN_CLASSIFICATION, text, {"aggregation_strategy": aggregation}, model)

    api(ner, api_name="ner")
