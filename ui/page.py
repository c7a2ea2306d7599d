"""The Blocks, and their place in the server."""

from __future__ import annotations

from typing import TypeVar

import gradio as gr

from core.core import Core
from ui.panel import panel
from ui.section import quiet
from ui.snapshot import Watch
from ui.tabs import ask, chat, classify, embed, fill, generate, models, ner, vision
from ui.theme import head, theme
from ui.words import i18n

App = TypeVar("App")  # a FastAPI application; this room does not import FastAPI
_TABS = (classify, ner, embed, generate, chat, vision, ask, fill, models)
# Gradio asks its queue for work a thousand times a second, which takes 5 % of a core that models could have.
_POLL_S = 0.02  # what an event of the page waits at most before it begins
_PROGRESS_POLL_S = 1.0  # of Gradio's own progress bars, of which there are none here
_MAX_QUEUE = 512  # events of the page waiting; what a model may have waiting is the business of `core`


def build(core: Core) -> gr.Blocks:
    """The whole page. Needs no model and no event loop."""
    page = gr.Blocks(title="Berth", analytics_enabled=False)
    with page:
        panel("brand")
        feed = Watch(core).feed()
        with gr.Tabs():
            for tab in _TABS:
                tab.build(page, core, feed)
        for tab in _TABS:
            tab.publish(core)
        page.load(None, js="() => { berth.start(); return []; }", **quiet("start"))
    page.queue(max_size=_MAX_QUEUE, api_open=False, default_concurrency_limit=None)
    page._queue.sleep_when_free = _POLL_S
    page._queue.progress_update_sleep_when_free = _PROGRESS_POLL_S
    return page


def mount(app: App, core: Core) -> App:
    """`app` with the page at "/". To be called after every route is added: what comes later is never reached."""
    return gr.mount_gradio_app(  # type: ignore[no-any-return]
        app,
        build(core),
        path="/",
        show_error=False,
        allowed_paths=[],
        max_file_size=core.settings.max_body_bytes,
        ssr_mode=False,
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        mcp_server=False,
        pwa=False,
        i18n=i18n,
        theme=theme(),
        head=head(),
    )
