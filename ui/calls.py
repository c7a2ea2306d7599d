"""What the page and its clients can ask of models: plain values in, plain values out, `core` in between."""

from __future__ import annotations

from typing import Any

from core.core import Core
from core.types import Reply, Task


def as_plain(reply: Reply) -> dict[str, Any]:
    """A reply as JSON can carry it. `result` has one element for each input; times are in milliseconds."""
    outputs = reply.outputs
    return {
        "model": reply.model,
        "revision": reply.revision,
        "task": str(reply.task),
        "result": outputs.tolist() if hasattr(outputs, "tolist") else outputs,
        "tokens": reply.tokens,
        "input_tokens": list(reply.input_tokens),
        "windows": list(reply.windows),
        "truncated": list(reply.truncated),
        "context_length": reply.context_length,
        "queue_ms": round(reply.timing.queue_ms, 3),
        "model_ms": round(reply.timing.model_ms, 3),
        "total_ms": round(reply.timing.total_ms, 3),
    }


async def ask(core: Core, task: Task, items: list[Any], fields: dict[str, Any], model: str | None) -> dict[str, Any]:
    """`task` on `items`. Raises BerthError."""
    return as_plain(await core.run(task, items, fields, model or None))


async def ask_for(core: Core, task: Task, given: Any, fields: dict[str, Any], model: str | None) -> dict[str, Any]:
    """As `ask`, for one item or a list of them; one item is answered with one result, not a list of one."""
    if isinstance(given, list):
        return await ask(core, task, given, fields, model)
    reply = await ask(core, task, [given], fields, model)
    return {**reply, "result": reply["result"][0]}


def split_labels(typed: str) -> list[str]:
    """Candidate labels as people type them: separated by commas or new lines."""
    return [label for part in typed.replace("\n", ",").split(",") if (label := part.strip())]


def split_lines(typed: str) -> list[str]:
    """The lines that hold something, each a text of its own."""
    return [text for line in typed.splitlines() if (text := line.strip())]
