"""The frame that every task's tab shares: model line, what goes in, what comes out, the call as code."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import Any

import gradio as gr

from core.core import Core
from core.types import Task
from ui.guard import check_admin, failure, is_admin, told
from ui.loading import make_ready
from ui.panel import folded, panel
from ui.words import w


def quiet(name: str) -> dict[str, Any]:
    """How the page's own handlers are hung up: not for programs, which have endpoints of their own."""
    return {
        "api_name": f"page_{name}",
        "api_visibility": "private",
        "show_progress": "hidden",
        "concurrency_limit": None,  # `core` admits; a second queue in front of it would only hide its answer
    }


Example = Mapping[str, Any]  # {"fields": [value of each field], "name": shown instead of the first}
Answer = Callable[..., Any]  # gives a dictionary, or None when nothing was typed; a kind of section may want another


class Section:
    """One tab for one kind of question to a model. Its name is the tab's, and the prefix of its words."""

    def __init__(self, page: gr.Blocks, core: Core, feed: gr.HTML, name: str, tasks: tuple[Task, ...]) -> None:
        self._page, self._core, self._feed = page, core, feed
        self.name = name
        self._tasks = [str(task) for task in tasks]
        self.line: gr.HTML
        self.run: gr.Button
        self.stop: gr.Button
        self._examples: gr.HTML | None = None
        self._lines: list[gr.HTML] = []
        self._filled = 0  # fields that an example fills

    @contextlib.contextmanager
    def tab(self) -> Iterator[None]:
        """The tab itself, with the model line at its top."""
        with gr.Tab(w(f"tab_{self.name}"), id=self.name, elem_id=f"tab-{self.name}") as tab:
            self.line = self.model_line()
            with gr.Row(elem_classes="sides", equal_height=False):
                yield
        tab.select(
            None, js=f"() => {{ berth.atTab({json.dumps(self.name)}); return []; }}", **quiet(f"{self.name}_tab")
        )

    def model_line(self, **options: Any) -> gr.HTML:
        """A choice of model; choosing one that is not in memory loads it, in sight."""
        fixed = {"section": self.name, "tab": self.name, "tasks": self._tasks, **options}
        line = panel("line", "", options=fixed, events=("choose", "cancel"))
        self._lines.append(line)
        line.choose(self._chosen, [line], [self._feed], trigger_mode="multiple", **quiet(f"{self.name}_choose"))
        line.cancel(self._cancelled, [line], [self._feed], **quiet(f"{self.name}_cancel"))
        return line

    async def _chosen(self, model: str, request: gr.Request) -> AsyncIterator[dict[str, Any]]:
        yield {"failure": {"name": model, "error": None}}
        try:
            steps = make_ready(self._core, model, admin=is_admin(request))
            async with contextlib.aclosing(steps):
                async for step in steps:
                    yield {"model": step}
        except Exception as error:
            yield failure(model, error)

    async def _cancelled(self, model: str, request: gr.Request) -> dict[str, Any]:
        try:
            check_admin(request)
            await self._core.cancel(model)
        except Exception as error:
            return failure(model, error)
        return {"look": True}

    @contextlib.contextmanager
    def inputs(self) -> Iterator[None]:
        """The left side."""
        with gr.Column(scale=5, min_width=320, elem_classes="side-in"):
            yield

    def buttons(self) -> None:
        with gr.Row(elem_classes="buttons"):
            self.run = gr.Button(w(f"{self.name}_run"), variant="primary", elem_id=f"run-{self.name}", scale=0)
            self.stop = gr.Button(w("stop"), elem_id=f"stop-{self.name}", elem_classes="stop", scale=0)

    def examples(self, examples: Mapping[str, Sequence[Example]]) -> None:
        """`examples` by language; a click fills the first fields given to `wire` and runs."""
        self._examples = panel("examples", options={"examples": examples}, events=("pick",))
        self._filled = len(examples["en"][0]["fields"])

    @contextlib.contextmanager
    def options(self) -> Iterator[None]:
        """What few change, closed, with its values in the heading."""
        with folded(self.name):
            yield

    def results(self) -> gr.HTML:
        """The right side."""
        with gr.Column(scale=7, min_width=320, elem_classes="side-out"):
            result = panel(self.name, elem_id=f"result-{self.name}")
            panel("code", options={"section": self.name}, elem_id=f"code-{self.name}")
        return result

    def wire(self, answer: Answer, fields: dict[str, Any]) -> None:
        """`answer(model, **fields)` on Run and on an example; `fields` are components by parameter name."""
        result = self.results()
        handler = self._handler(answer, fields)
        inputs = [self.line, *fields.values()]
        events: list[Any] = [self.run.click(handler, inputs, [result], **quiet(self.name))]
        if self._examples is not None:
            filled = list(fields.values())[: self._filled]
            js = "(picked) => picked.fields" if len(filled) > 1 else "(picked) => picked.fields[0]"
            picked = self._examples.pick(None, [self._examples], filled, js=js, **quiet(f"{self.name}_example"))
            events.append(picked.then(handler, inputs, [result], **quiet(self.name)))
        self._wire_stop(events)
        self.tell_browser(fields)

    def _wire_stop(self, events: list[Any]) -> None:
        stopped = f"() => {{ berth.stopped[{json.dumps(self.name)}](); return []; }}"
        self.stop.click(None, cancels=events, js=stopped, **quiet(f"{self.name}_stop"))

    def tell_browser(self, fields: dict[str, Any]) -> None:
        """The code and the heading of the options follow what is on the screen, with no call to the server."""
        typed = {name: field for name, field in fields.items() if field not in self._lines}  # lines tell it themselves
        js = f"(...values) => {{ berth.seen({json.dumps(self.name)}, {json.dumps(list(typed))}, values); return []; }}"
        triggers = [*(field.change for field in typed.values()), self._page.load]
        gr.on(triggers, None, list(typed.values()), None, js=js, **quiet(f"{self.name}_seen"))

    def _handler(self, answer: Answer, fields: dict[str, Any]) -> Callable[..., Any]:
        names = list(fields)
        other_lines = [name for name, field in fields.items() if field in self._lines]

        async def run(request: gr.Request, model: str, *values: Any) -> AsyncIterator[dict[str, Any]]:
            given = dict(zip(names, values, strict=True))
            yield {"stage": "running"}
            try:
                for name in [model, *(given[line] for line in other_lines)]:
                    async with contextlib.aclosing(self.load(name, request)) as steps:
                        async for step in steps:
                            yield step
                done = await answer(model, **given)
                yield {"stage": "done", **done} if done else {"stage": "empty"}
            except Exception as error:
                yield {"stage": "error", "model": model, "error": told(error)}

        return run

    async def load(self, name: str, request: gr.Request) -> AsyncGenerator[dict[str, Any], None]:
        if name:
            async with contextlib.aclosing(make_ready(self._core, name, admin=is_admin(request))) as steps:
                async for model in steps:
                    yield {"stage": "loading", "model": model}
