"""Generate: a text that goes on, or another made of it: a summary, a translation."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from functools import partial
from typing import Any

import gradio as gr
from gradio.events import api

from core.core import Core
from core.sampling import parse_sampling
from core.types import GENERATION_TASKS, Prompt, Sampling, Task
from ui.guard import guarded
from ui.pace import Look, Paced
from ui.sampling import sampling_fields, sampling_of
from ui.section import Example
from ui.streaming import StreamingSection
from ui.words import w
from ui.written import Written

ALTERNATIVES = 5  # shown for a token

EXAMPLES: dict[str, list[Example]] = {
    "en": [
        {"fields": ["The lighthouse keeper opened the door and"]},
        {"fields": ["Three things to check before a long journey:\n1."]},
        {
            "name": "A text to summarise",
            "fields": [
                "The town library will stay open until ten in the evening from next month. A survey had shown that "
                "most readers can only come after work. The longer hours cost little, since students will look after "
                "the reading rooms, and the council has promised to pay for the heating."
            ],
        },
    ],
    "ko": [
        {"fields": ["등대지기는 천천히 문을 열고"]},
        {"fields": ["긴 여행을 떠나기 전에 확인할 세 가지:\n1."]},
        {
            "name": "요약할 글",
            "fields": [
                "시립 도서관이 다음 달부터 밤 열 시까지 문을 연다. 설문에서 이용자 대부분이 퇴근 뒤에나 올 수 있다고 "
                "답했기 때문이다. 열람실은 대학생들이 돌아가며 맡기로 해 비용은 거의 늘지 않고, 난방비는 시의회가 "
                "지원하기로 했다."
            ],
        },
    ],
}


def build(page: gr.Blocks, core: Core, feed: gr.HTML) -> None:
    section = StreamingSection(page, core, feed, "generate", GENERATION_TASKS)

    async def answer(model: str, prompt: str, alternatives: bool, **options: Any) -> AsyncGenerator[Look]:
        if not prompt.strip():
            return
        sampling = sampling_of(**options, logprobs=ALTERNATIVES if alternatives else None)
        async with contextlib.aclosing(_written(core, prompt, sampling, model)) as steps:
            async for written in steps:
                yield partial(_shown, written)

    with section.tab():
        with section.inputs():
            prompt = gr.Textbox(label=w("prompt"), placeholder=w("generate_placeholder"), lines=7, max_lines=14)
            section.buttons()
            section.examples(EXAMPLES)
            with section.options():
                options = sampling_fields(several=True)
                alternatives = gr.Checkbox(False, label=w("alternatives"), info=w("alternatives_hint"))
        section.wire(answer, {"prompt": prompt, **options, "alternatives": alternatives})


async def _written(core: Core, prompt: str, sampling: Sampling, model: str | None) -> AsyncGenerator[Written]:
    """The same object after each step of the model."""
    written = Written(sampling.n)
    items = core.generate(Prompt(text=prompt), sampling, model or None, task_of(core, model))
    async with contextlib.aclosing(items):
        async for item in items:
            written.take(item)
            yield written


def _shown(written: Written) -> dict[str, Any]:
    if not written.is_done:
        return {"stage": "writing", "reply": written.plain()}
    return {"stage": "done", "reply": {**written.plain(), "scores": written.scores()}}


def task_of(core: Core, model: str | None) -> Task:
    """What `model` was made to write; continuing a text, when that is not known yet."""
    record = core.registry.find(model) if model else None
    entry = core.catalog.get(model) if model else None
    tasks = core.model(record.name).tasks if record else (entry.task,) if entry else ()
    return next((task for task in tasks if task.generates), Task.TEXT_GENERATION)


def publish(core: Core) -> None:
    """The endpoint for programs."""

    @guarded
    async def generate(
        prompt: str,
        model: str | None = None,
        max_tokens: int = 256,
        temperature: float = 0.7,
        top_p: float = 0.9,
        top_k: int = 50,
        min_p: float = 0.0,
        repetition_penalty: float = 1.1,
        seed: int | None = None,
        stop: list[str] | None = None,
        n: int = 1,
    ) -> AsyncIterator[dict[str, Any]]:
        """What the model makes of `prompt`: a continuation, a summary, a translation. Streams.

        Each step holds `result`, the `n` texts as far as they are written, with tokens, the reasons why each ended,
        and milliseconds; the last step holds all of it.
        """
        fields: dict[str, Any] = {"max_tokens": max_tokens, "temperature": temperature, "top_p": top_p, "top_k": top_k}
        fields |= {"min_p": min_p, "repetition_penalty": repetition_penalty, "seed": seed, "stop": stop, "n": n}
        steps = _written(core, prompt, parse_sampling(fields), model)
        async with contextlib.aclosing(Paced(_plainly(steps)).follow()) as shown:
            async for each in shown:
                yield each

    api(generate, api_name="generate")


async def _plainly(steps: AsyncGenerator[Written]) -> AsyncGenerator[Look]:
    async with contextlib.aclosing(steps):
        async for written in steps:
            yield written.plain
