"""Parts of the page that are drawn in the browser, from data that a handler gives them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr


def panel(
    kind: str,
    value: Any = None,
    *,
    options: dict[str, Any] | None = None,  # what stays the same while the page lives
    events: tuple[str, ...] = (),  # names of its own that listeners can be hung on
    server_functions: list[Callable[..., Any]] | None = None,
    elem_id: str | None = None,
) -> gr.HTML:
    """A region drawn by `berth.panels.<kind>` of `ui/static`. Its value is plain data, never HTML.

    What users and models wrote reaches the document as text nodes only, so there is nothing to escape.
    A subclass would say this better, but Gradio writes a stub file beside each one, at every start.
    """
    names = ", ".join(f"'{event}'" for event in events)  # Gradio looks for an event's name in this script
    call = f"berth.open({json.dumps(kind)}, {json.dumps(options or {})}, element, props, trigger, server, watch)"
    return gr.HTML(
        value,
        html_template='<div class="berth-panel"></div>',
        js_on_load=f"{call} /* {names} */",
        apply_default_css=False,
        server_functions=server_functions,
        elem_id=elem_id,
        elem_classes=[f"panel-{kind}"],
    )


@contextlib.contextmanager
def folded(section: str) -> Iterator[None]:
    """Options that open under their heading, `berth.panels.fold`.

    Not an accordion of Gradio: that one puts its children into the page when it is opened first, and a frame later
    gives them the values that they began with, over what was typed or chosen in between.
    """
    with gr.Column(elem_id=f"options-{section}", elem_classes="options"):
        panel("fold", options={"section": section})
        with gr.Column(elem_classes="folded"):
            yield
