"""The frame of a tab whose answer is shown while it is written."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from functools import partial
from typing import Any

import gradio as gr

from ui.guard import told
from ui.pace import Look, Paced, Stops
from ui.section import Section, quiet

Writer = Callable[..., AsyncGenerator[Look]]  # nothing at all: nothing was typed


class StreamingSection(Section):
    """A `Section` whose `answer` yields looks at what is written. Stop keeps what is there."""

    stops: Stops

    def _handler(self, answer: Writer, fields: dict[str, Any]) -> Callable[..., Any]:
        names = list(fields)

        async def run(request: gr.Request, model: str, *values: Any) -> AsyncIterator[dict[str, Any]]:
            given = dict(zip(names, values, strict=True))
            async with contextlib.aclosing(self.followed(request, model, partial(answer, model, **given))) as shown:
                async for each in shown:
                    yield each

        return run

    async def followed(
        self, request: gr.Request, model: str, answer: Callable[[], AsyncGenerator[Look]]
    ) -> AsyncGenerator[dict[str, Any]]:
        """What the page shows of `answer`, `model` being loaded first when it has to be."""
        yield {"stage": "running"}
        paced = Paced(self._looks(request, model, answer))
        with self.stops.running(request.session_hash or "", paced):
            try:
                async with contextlib.aclosing(paced.follow()) as shown:
                    async for each in shown:
                        yield each
            except Exception as error:
                yield {**paced.newest, "stage": "error", "model": model, "error": told(error)}
                return
        if paced.is_stopped:
            yield {**paced.newest, "stage": "stopped"}
        elif not paced.newest or paced.newest["stage"] == "loading":
            yield {"stage": "empty"}

    async def _looks(
        self, request: gr.Request, model: str, answer: Callable[[], AsyncGenerator[Look]]
    ) -> AsyncGenerator[Look]:
        async with contextlib.aclosing(self.load(model, request)) as steps:
            async for step in steps:
                yield partial(dict, step)
        async with contextlib.aclosing(answer()) as looks:
            async for look in looks:
                yield look

    def _wire_stop(self, events: list[Any]) -> None:
        self.wire_stop(self.stop.click)

    def wire_stop(self, clicked: Callable[..., Any]) -> None:
        self.stops = Stops()

        async def stop(request: gr.Request) -> None:
            self.stops.stop(request.session_hash or "")

        clicked(stop, None, None, queue=False, **quiet(f"{self.name}_stop"))
