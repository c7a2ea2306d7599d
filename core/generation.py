"""A generation as the front process sees it: one call to a worker, read as a stream."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from dataclasses import asdict
from typing import Any

from core.errors import DeadlineExceeded
from core.fleet.record import Record
from core.types import Begun, Completion, Delta, Generated, Prompt, Sampling, TokenScore, Usage

Item = Begun | Delta | Generated


async def stream(record: Record, prompt: Prompt, sampling: Sampling, patience_s: float) -> AsyncGenerator[Item]:
    """`Begun`, the deltas, then `Generated`, from a model that is leased. Closing it withdraws the request.

    Raises what the worker raises, WorkerCrashed, and DeadlineExceeded when nothing comes for `patience_s` seconds.
    """
    worker = record.worker
    assert worker is not None
    said: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
    call = asyncio.create_task(
        worker.call(
            "generate", deadline_s=None, on_event=said.put_nowait, prompt=asdict(prompt), sampling=asdict(sampling)
        )
    )
    call.add_done_callback(lambda _: said.put_nowait(None))
    try:
        while (event := await _next(said, record.name, patience_s)) is not None:
            yield _begun(record, event["begun"]) if "begun" in event else _delta(event["delta"])
        yield _generated(await call)
    finally:
        call.cancel()
        await asyncio.wait([call])
        if not call.cancelled():
            call.exception()  # raised above already, or nobody is left to hear it


async def _next(said: asyncio.Queue[dict[str, Any] | None], name: str, patience_s: float) -> dict[str, Any] | None:
    if not said.empty():
        return said.get_nowait()
    try:
        async with asyncio.timeout(patience_s):
            return await said.get()
    except TimeoutError:
        raise DeadlineExceeded(
            f"{name} gave no token for {patience_s:g} s. Try when it is less busy, or raise BERTH_REQUEST_TIMEOUT."
        ) from None


async def join(items: AsyncGenerator[Item], answers: int) -> Completion:
    """A stream read to its end."""
    begun: Begun | None = None
    generated: Generated | None = None
    texts: list[list[str]] = [[] for _ in range(answers)]
    logprobs: list[list[TokenScore]] = [[] for _ in range(answers)]
    async with contextlib.aclosing(items):
        async for item in items:
            if isinstance(item, Delta):
                texts[item.index].append(item.text)
                logprobs[item.index].extend(item.logprobs)
            elif isinstance(item, Begun):
                begun = item
            else:
                generated = item
    assert begun is not None
    assert generated is not None
    return Completion(begun, tuple(map("".join, texts)), tuple(map(tuple, logprobs)), generated)


def _begun(record: Record, raw: dict[str, Any]) -> Begun:
    assert record.inspection is not None
    assert record.info is not None
    return Begun(
        model=record.name,
        revision=record.inspection.revision,
        context_length=record.info.context_length or 0,
        **{**raw, "image_tokens": tuple(raw["image_tokens"])},
    )


def _delta(raw: dict[str, Any]) -> Delta:
    return Delta(**{**raw, "logprobs": tuple(raw["logprobs"])})


def _generated(raw: dict[str, Any]) -> Generated:
    return Generated(**{**raw, "usage": Usage(**raw["usage"]), "finish_reasons": tuple(raw["finish_reasons"])})
