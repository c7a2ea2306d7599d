"""Embed: how near texts are to each other."""

from __future__ import annotations

from typing import Any

import gradio as gr
from gradio.events import api

from core.core import Core
from core.types import Task
from ui.calls import ask, ask_for, split_lines
from ui.guard import guarded
from ui.section import Example, Section
from ui.words import w

MAX_LINES = 20  # that the map shows

EXAMPLES: dict[str, list[Example]] = {  # a test holds that the starter finds the pairs
    "en": [
        {
            "name": "Same meaning, other words",
            "fields": [
                "The train leaves at nine.\nThe train departs at nine o'clock.\n"
                "He bought a new car.\nShe is cooking dinner."
            ],
        },
        {
            "name": "Two languages",
            "fields": [
                "I lost my password.\n비밀번호를 잊어버렸어요.\n"
                "When will my order arrive?\n주문한 상품은 언제 도착하나요?"
            ],
        },
        {
            "name": "Near, but not the same",
            "fields": ["The dog bit the man.\nThe man bit the dog.\nA man was bitten by a dog."],
        },
    ],
    "ko": [
        {
            "name": "같은 뜻, 다른 말",
            "fields": [
                "회의는 내일 오전 열 시에 시작해요.\n내일 회의는 오전 10시에 열려요.\n"
                "강아지가 공원에서 뛰어놀아요.\n개가 공원을 달리고 있어요."
            ],
        },
        {
            "name": "두 언어",
            "fields": [
                "비밀번호를 잊어버렸어요.\nI lost my password.\n"
                "주문한 상품은 언제 도착하나요?\nWhen will my order arrive?"
            ],
        },
        {
            "name": "비슷하지만 다른 뜻",
            "fields": ["개가 사람을 물었다.\n사람이 개를 물었다.\n사람이 개에게 물렸다."],
        },
    ],
}

_NORMALIZE = {"model": None, "yes": True, "no": False}


def build(page: gr.Blocks, core: Core, feed: gr.HTML) -> None:
    section = Section(page, core, feed, "embed", (Task.FEATURE_EXTRACTION,))

    async def answer(model: str, text: str, normalize: str) -> dict[str, Any] | None:
        given = split_lines(text)
        if not given:
            return None
        lines = given[:MAX_LINES]
        fields = {"normalize": _NORMALIZE.get(normalize)}
        reply = await ask(core, Task.FEATURE_EXTRACTION, lines, fields, model)
        return {"reply": reply, "lines": lines, "cut": len(given) > MAX_LINES}

    with section.tab():
        with section.inputs():
            text = gr.Textbox(label=w("embed_text"), placeholder=w("embed_placeholder"), lines=7, max_lines=20)
            section.buttons()
            section.examples(EXAMPLES)
            with section.options():
                choices = [(w(f"normalize_{key}"), key) for key in _NORMALIZE]
                normalize = gr.Radio(choices, value="model", label=w("normalize"))
        section.wire(answer, {"text": text, "normalize": normalize})


def publish(core: Core) -> None:
    """The endpoint for programs."""

    @guarded
    async def embed(
        text: str | list[str],
        model: str | None = None,
        normalize: bool | None = None,
        dimensions: int | None = None,
        prompt_name: str | None = None,
    ) -> dict[str, Any]:
        """The vector of a text, or of each of several, pooled and normalised as the model's own files say.

        `dimensions` cuts vectors of models made for that; `prompt_name` picks one of the model's own prompts.
        """
        fields = {"normalize": normalize, "dimensions": dimensions, "prompt_name": prompt_name}
        return await ask_for(core, Task.FEATURE_EXTRACTION, text, fields, model)

    api(embed, api_name="embed")
