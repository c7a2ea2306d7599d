"""Classify: labels for texts or a picture, by one model or two side by side, or among labels of your own."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import gradio as gr
from gradio.events import api

from core.core import Core
from core.errors import BerthError
from core.types import Task
from ui.calls import ask, ask_for, split_labels, split_lines
from ui.guard import guarded, told
from ui.panel import panel
from ui.section import Example, Section
from ui.words import w

TASKS = (Task.TEXT_CLASSIFICATION, Task.ZERO_SHOT_CLASSIFICATION, Task.IMAGE_CLASSIFICATION)
EXAMPLES: dict[str, list[Example]] = {  # a test holds that the starter reads them right
    "en": [
        {"fields": ["A wonderful film, I loved every minute of it."]},
        {"fields": ["It broke after two days and nobody answers my mail."]},
        {
            "name": "Three reviews at once",
            "fields": [
                "I am very happy with this purchase.\n"
                "The soup was cold and far too salty.\n"
                "Terrible service, I want my money back."
            ],
        },
    ],
    "ko": [
        {"fields": ["직원분들이 친절하고 방도 아주 깨끗했어요."]},
        {"fields": ["이틀 만에 고장 났는데 문의해도 답이 없네요."]},
        {
            "name": "후기 세 개 한 번에",
            "fields": [
                "가격도 저렴하고 품질이 좋아서 만족해요.\n"
                "배송도 늦고 제품도 불량이라 실망했어요.\n"
                "고민 없이 또 살 것 같아요."
            ],
        },
    ],
}


def build(page: gr.Blocks, core: Core, feed: gr.HTML) -> None:
    section = Section(page, core, feed, "classify", TASKS)

    async def answer(model: str, text: str, picture: str, **options: Any) -> dict[str, Any] | None:
        models = [name for name in (model, options.pop("compare")) if name]
        if Task.IMAGE_CLASSIFICATION in core.model(model).tasks:
            return await _compare_on_picture(core, models, picture, int(options["top_k"]))
        return await _compare(core, models, text, **options)

    with section.tab():
        with section.inputs():
            picture = panel("photo", "", options={"max_body": core.settings.max_body_bytes})
            text = gr.Textbox(
                label=w("text"),
                placeholder=w("classify_placeholder"),
                lines=5,
                max_lines=12,
                elem_classes="for-text",
            )
            labels = gr.Textbox(
                label=w("candidate_labels"),
                placeholder=w("candidate_labels_hint"),
                max_lines=1,
                elem_classes="zero-shot",
            )
            section.buttons()
            section.examples(EXAMPLES)
            with section.options():
                top_k = gr.Slider(1, 20, 5, step=1, label=w("top_k"))
                per_line = gr.Checkbox(True, label=w("per_line"), elem_classes="for-text")
                multi_label = gr.Checkbox(False, label=w("multi_label"), elem_classes="zero-shot")
                compare = section.model_line(role="compare", title="compare_with", optional=True)
        fields = {"text": text, "picture": picture, "labels": labels, "top_k": top_k, "per_line": per_line}
        section.wire(answer, {**fields, "multi_label": multi_label, "compare": compare})


async def _compare(
    core: Core, models: list[str], text: str, labels: str, top_k: int, per_line: bool, multi_label: bool
) -> dict[str, Any] | None:
    lines = split_lines(text) if per_line else [text] if text.strip() else []
    if not lines:
        return None
    replies = await asyncio.gather(
        *(_told(_answer(core, lines, name, split_labels(labels), int(top_k), multi_label), name) for name in models)
    )
    return {"replies": replies, "lines": lines}


async def _compare_on_picture(core: Core, models: list[str], picture: str, top_k: int) -> dict[str, Any] | None:
    if not picture:
        return None
    images = list(await core.images.read("image", [picture]))
    asked = (ask(core, Task.IMAGE_CLASSIFICATION, images, {"top_k": top_k}, name) for name in models)
    return {"replies": await asyncio.gather(*map(_told, asked, models)), "lines": [""]}


async def _answer(
    core: Core, lines: list[str], model: str, labels: list[str], top_k: int, multi_label: bool
) -> dict[str, Any]:
    able = core.model(model).tasks
    if Task.ZERO_SHOT_CLASSIFICATION in able and (labels or Task.TEXT_CLASSIFICATION not in able):
        fields = {"candidate_labels": labels or None, "multi_label": multi_label}
        return await ask(core, Task.ZERO_SHOT_CLASSIFICATION, lines, fields, model)
    return await ask(core, Task.TEXT_CLASSIFICATION, lines, {"top_k": top_k}, model)


async def _told(reply: Coroutine[Any, Any, dict[str, Any]], model: str) -> dict[str, Any]:
    """One model's reply; its error, where it has one, beside the other's answer."""
    try:
        return await reply
    except BerthError as error:
        return {"model": model, "error": told(error)}


def publish(core: Core) -> None:
    """The endpoints for programs."""

    @guarded
    async def classify(
        text: str | list[str],
        model: str | None = None,
        top_k: int = 5,
        labels: list[str] | None = None,
        multi_label: bool = False,
    ) -> dict[str, Any]:
        """The labels of a text, or of each of several, best first.

        With `labels`, a zero-shot model chooses among those. `result` holds {label, score}; beside it stand the
        model and revision that answered, tokens, and milliseconds.
        """
        if labels:
            fields = {"candidate_labels": labels, "multi_label": multi_label}
            return await ask_for(core, Task.ZERO_SHOT_CLASSIFICATION, text, fields, model)
        return await ask_for(core, Task.TEXT_CLASSIFICATION, text, {"top_k": top_k}, model)

    @guarded
    async def classify_image(image: str | list[str], model: str | None = None, top_k: int = 5) -> dict[str, Any]:
        """The labels of a picture, or of each of several, best first. `image` is in base64 or a data: URI.

        What is told is what `/classify` tells of texts.
        """
        given = image if isinstance(image, list) else [image]
        reply = await ask(
            core, Task.IMAGE_CLASSIFICATION, list(await core.images.read("image", given)), {"top_k": top_k}, model
        )
        return reply if isinstance(image, list) else {**reply, "result": reply["result"][0]}

    api(classify, api_name="classify")
    api(classify_image, api_name="classify_image")
