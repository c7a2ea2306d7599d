"""The Blocks, and their place in the server."""

from __future__ import annotations

from typing import TypeVar

import gradio as gr

from core.core import Core

App = TypeVar("App")  # a FastAPI application; this room does not import FastAPI


def build(core: Core) -> gr.Blocks:
    """The whole page. Needs no model and no event loop."""
    with gr.Blocks(title="Berth", analytics_enabled=False) as page:
        gr.Markdown("# Berth")
    return page.queue(max_size=core.settings.max_queue, api_open=False)


def mount(app: App, core: Core) -> App:
    """`app` with the page at "/". To be called after every route is added: what comes later is never reached."""
    return gr.mount_gradio_app(  # type: ignore[return-value, type-var]
        app,  # type: ignore[arg-type]
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
    )
