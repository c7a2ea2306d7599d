"""Models: what is in memory, loading by id, the machine's memory, the catalogue."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import gradio as gr
from gradio.events import api

from core.core import Core
from core.types import ModelSpec, Quantization, Runtime, Task
from ui.fit import checks, takes
from ui.guard import check_admin, failure, guarded, is_admin
from ui.loading import follow, make_ready
from ui.panel import folded, panel
from ui.plans import plain_plan
from ui.section import quiet
from ui.snapshot import plain_model
from ui.spec import DTYPES, default_name, model_spec
from ui.words import w


def build(page: gr.Blocks, core: Core, feed: gr.HTML) -> None:
    with gr.Tab(w("tab_models"), id="models", elem_id="tab-models") as tab:
        table = panel("models", events=("begin", "halt", "unload"), elem_id="models")
        with gr.Row(elem_classes="sides", equal_height=False):
            with gr.Column(scale=5, min_width=320, elem_classes="side-in"):
                panel("signin")
                _form(core, feed)
                with gr.Column(elem_classes="machine"):
                    gr.HTML(w("memory_title"), elem_classes="title", apply_default_css=False)
                    panel("memory", elem_id="memory")
                    with gr.Row(elem_classes="buttons admin-only"):
                        cleanup = gr.Button(w("cleanup"), elem_id="cleanup", scale=0)
                        gr.HTML(w("cleanup_hint"), elem_classes="aside", apply_default_css=False)
            with gr.Column(scale=7, min_width=320, elem_classes="side-out"):
                gr.HTML(w("catalogue_title"), elem_classes="title", apply_default_css=False)
                panel("catalogue", elem_id="catalogue")
    tab.select(None, js="() => { berth.atTab('models'); return []; }", **quiet("models_tab"))
    _wire(core, feed, table)
    cleanup.click(_cleans(core), None, [feed], **quiet("cleanup"))


def _form(core: Core, feed: gr.HTML) -> None:
    """The form that loads by id, and says before whether that fits."""
    as_is: Any = (w("as_files_say"), "")
    devices: list[Any] = [(w("automatic"), "auto"), "cpu", *(each.device for each in core.probe.gpus())]
    with gr.Column(elem_classes="admin-only load-form"):
        gr.HTML(w("load_title"), elem_classes="title", apply_default_css=False)
        source = gr.Textbox(label=w("load_id"), placeholder=w("load_id_placeholder"), max_lines=1, elem_id="load-id")
        with gr.Row(elem_classes="buttons"):
            load = gr.Button(w("models_run"), variant="primary", elem_id="run-models", scale=0)
            check = gr.Button(w("check_fit"), elem_id="check-fit", scale=0)
        plan = panel("plan", events=("take",), elem_id="plan")
        with folded("models"):
            with gr.Row():
                name = gr.Textbox(label=w("load_name"), max_lines=1)
                revision = gr.Textbox(label=w("load_revision"), placeholder="main", max_lines=1)
            with gr.Row():
                task = gr.Dropdown([as_is, *((w(f"task_{t}"), str(t)) for t in Task)], value="", label=w("load_task"))
                runtime = gr.Dropdown([as_is, *map(str, Runtime)], value="", label=w("load_runtime"))
            with gr.Row():
                bits = gr.Dropdown([(w("none"), ""), *map(str, Quantization)], value="", label=w("load_quantization"))
                dtype = gr.Dropdown([as_is, *DTYPES], value="", label=w("load_dtype"))
            with gr.Row():
                device = gr.Dropdown(devices, value="auto", label=w("load_device"))
                context = gr.Textbox(label=w("load_context"), placeholder="512", max_lines=1)
            file = gr.Textbox(label=w("load_file"), placeholder="onnx/model.onnx", max_lines=1)
    fields = {"source": source, "name": name, "revision": revision, "task": task, "runtime": runtime}
    more = {"quantization": bits, "dtype": dtype, "device": device, "context_length": context, "file": file}
    names = [*fields, *more]
    values = [*fields.values(), *more.values()]
    load.click(_loads(core, names), values, [feed], trigger_mode="multiple", **quiet("load"))
    check.click(checks(core, names), values, [plan], trigger_mode="once", **quiet("check"))
    plan.take(takes(core, partial(_steps, core)), None, [feed], trigger_mode="multiple", **quiet("take"))


def _loads(core: Core, names: list[str]) -> Callable[..., AsyncIterator[dict[str, Any]]]:
    async def load(request: gr.Request, source: str, *values: Any) -> AsyncIterator[dict[str, Any]]:
        name = default_name(source.strip()) or "?"
        try:
            check_admin(request)
            spec = model_spec(source, **dict(zip(names[1:], values, strict=True)))
            name = spec.name
            async for step in _steps(core, spec):
                yield step
        except Exception as error:
            yield failure(name, error)

    return load


async def _steps(core: Core, spec: ModelSpec, *, force: bool = False) -> AsyncIterator[dict[str, Any]]:
    """A load as news for the page."""
    yield {"failure": {"name": spec.name, "error": None}}
    async with contextlib.aclosing(follow(core, core.start_load(spec, admin=True, force=force))) as steps:
        async for model in steps:
            yield {"model": model}


def _wire(core: Core, feed: gr.HTML, table: gr.HTML) -> None:
    """The buttons in the table and in the catalogue."""

    async def begin(request: gr.Request, event: gr.EventData) -> AsyncIterator[dict[str, Any]]:
        name = _named(event)
        try:
            async with contextlib.aclosing(make_ready(core, name, admin=is_admin(request))) as steps:
                async for model in steps:
                    yield {"model": model}
        except Exception as error:
            yield failure(name, error)

    async def halt(request: gr.Request, event: gr.EventData) -> dict[str, Any]:
        return await _acted(request, _named(event), lambda name: core.cancel(name))

    async def unload(request: gr.Request, event: gr.EventData) -> dict[str, Any]:
        return await _acted(request, _named(event), lambda name: core.unload(name), say="unloaded")

    table.begin(begin, None, [feed], trigger_mode="multiple", **quiet("begin"))
    table.halt(halt, None, [feed], trigger_mode="multiple", **quiet("halt"))
    table.unload(unload, None, [feed], trigger_mode="multiple", **quiet("unload"))


def _named(event: gr.EventData) -> str:
    return str((event._data or {}).get("model", ""))


async def _acted(
    request: gr.Request, name: str, act: Callable[[str], Awaitable[dict[str, int] | None]], say: str | None = None
) -> dict[str, Any]:
    try:
        check_admin(request)
        freed = await act(name) or {}
    except Exception as error:
        return failure(name, error)
    if say is None:
        return {"look": True}
    return {"said": {"key": say, "values": {"model": name, "bytes": sum(freed.values())}}}


def _cleans(core: Core) -> Callable[..., Awaitable[dict[str, Any]]]:
    async def cleanup(request: gr.Request) -> dict[str, Any]:
        return await _acted(request, "", lambda _: core.cleanup(), say="cleaned")

    return cleanup


def publish(core: Core) -> None:
    """The endpoints for programs."""

    @guarded
    async def models() -> list[dict[str, Any]]:
        """Every model that is in memory or on its way: state, task, runtime, device, memory in bytes, queue."""
        return [plain_model(model) for model in core.models()]

    @guarded
    async def load(
        model_path: str,
        request: gr.Request,
        name: str | None = None,
        revision: str | None = None,
        file: str | None = None,
        runtime: str | None = None,
        task: str | None = None,
        quantization: str | None = None,
        device: str | None = None,
        dtype: str | None = None,
        context_length: int | None = None,
    ) -> AsyncIterator[dict[str, Any]]:
        """Loads a model by its Hub id, or the name of one in the models directory; tells each step of it."""
        check_admin(request)
        options = {"revision": revision, "file": file, "runtime": runtime, "task": task, "dtype": dtype}
        spec = model_spec(
            model_path, name=name, device=device, quantization=quantization, context_length=context_length, **options
        )
        async with contextlib.aclosing(follow(core, core.start_load(spec, admin=True))) as steps:
            async for step in steps:
                yield step
        yield plain_model(core.model(spec.name))

    @guarded
    async def plan(
        model_path: str,
        request: gr.Request,
        revision: str | None = None,
        file: str | None = None,
        runtime: str | None = None,
        quantization: str | None = None,
        device: str | None = None,
        context_length: int | None = None,
    ) -> dict[str, Any]:
        """What loading a model would take and whether it fits now, from its headers; nothing is downloaded.

        Sizes are bytes. `verdict` is fits, fits_after_unloading, fits_as, fits_with_gpu_layers or never.
        """
        options = {"revision": revision, "file": file, "runtime": runtime, "quantization": quantization}
        spec = model_spec(model_path, device=device, context_length=context_length, **options)
        return plain_plan(await core.plan(spec, admin=is_admin(request)))

    @guarded
    async def cancel(model: str, request: gr.Request) -> str:
        """Stops the load of a model; nothing half-loaded stays."""
        check_admin(request)
        await core.cancel(model)
        return f"Loading {model} was cancelled."

    @guarded
    async def unload(model: str, request: gr.Request) -> dict[str, int]:
        """Ends a model's process once its requests are answered. Bytes given back, by device."""
        check_admin(request)
        return await core.unload(model)

    @guarded
    async def cleanup(request: gr.Request) -> dict[str, int]:
        """Forgets models that failed and gives back caches of idle ones. Bytes given back, by device."""
        check_admin(request)
        return await core.cleanup()

    for function in (models, load, plan, cancel, unload, cleanup):
        api(function, api_name=function.__name__)
