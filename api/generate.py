"""The text generation service: a prompt continued, an instruction answered, and the model that does it."""

import asyncio
import time
from collections.abc import AsyncGenerator
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field

from api.auth import Admin
from api.errors import error_body
from api.responses import JSON
from api.routing import Route
from api.sse import EVENT_STREAM, event, open_stream
from api.wire import Body, Wire
from core.core import Core
from core.errors import InvalidRequest, ModelNotFound
from core.generation import Item
from core.messages import parse_messages
from core.names import MAX_NAME
from core.params import valid_text
from core.sampling import FIELD_NAMES, parse_sampling
from core.startup import spec_of
from core.types import Delta, Generated, Prompt, Quantization, Sampling, State, Task

GIB = 1024**3
_STREAMED: dict[int | str, dict[str, Any]] = {
    200: {"content": {EVENT_STREAM: {}}, "description": "JSON, or with `stream` server-sent events."}
}


class _Request(Body):
    """What both calls take."""

    max_new_tokens: int = 256
    temperature: float = 0.7
    top_p: float = 0.9
    stop: str | list[str] | None = Field(None, description="The text ends before the first of these.")
    seed: int | None = None
    stream: bool = Field(False, description="Answer with server-sent events as the text is written.")
    model: str | None = Field(
        None, max_length=MAX_NAME, description="Unset: the default model, or the only one that writes."
    )

    def sampling(self) -> Sampling:
        """Raises InvalidRequest."""
        return parse_sampling({name: value for name, value in self if name in FIELD_NAMES})


class GenerateRequest(_Request):
    prompt: str = Field(examples=["Python이란 무엇인가요?"])
    top_k: int = 50
    repetition_penalty: float = 1.1
    do_sample: bool = Field(True, description="False: the likeliest token always.")
    num_return_sequences: int = 1


class ChatRequest(_Request):
    instruction: str = Field(examples=["다음 글을 한 문장으로 요약해 주세요."])
    input: str = Field("", description="What the instruction is about.")
    system: str | None = Field(None, description="How the model should behave.")

    def messages(self) -> list[dict[str, str]]:
        system = [{"role": "system", "content": self.system}] if self.system else []
        asked = f"{self.instruction}\n\n{self.input}" if self.input else self.instruction
        return [*system, {"role": "user", "content": asked}]


class Usage(Wire):
    prompt_tokens: int
    completion_tokens: int


class Generation(Wire):
    generated_text: list[str] = Field(description="Each with the prompt before it.")
    prompt: str
    model_name: str
    generation_time: float = Field(description="Seconds.")
    finish_reasons: list[str]
    usage: Usage


class ChatAnswer(Wire):
    response: str
    instruction: str
    model_name: str
    generation_time: float = Field(description="Seconds.")
    finish_reason: str
    usage: Usage


class ModelInfo(Wire):
    model_name: str
    model_path: str | None
    device: str | None
    gpu_memory_allocated: str = Field(description="What the model's process holds.")
    gpu_memory_reserved: str = Field(description="What is in use on its GPUs at all.")
    state: str
    context_length: int | None


class Loaded(Wire):
    message: str
    model_name: str
    model_path: str
    device: str | None


def router(core: Core) -> APIRouter:
    routes = APIRouter(route_class=Route, tags=["generate"])

    @routes.post("/generate", response_model=Generation, responses=_STREAMED)
    async def generate(request: Request, body: GenerateRequest) -> Response:
        """Continues a prompt, once or several times."""
        prompt, sampling = Prompt(text=valid_text("prompt", body.prompt)), body.sampling()
        if body.stream:
            return await _streamed(request, core.generate(prompt, sampling, body.model))
        started = time.monotonic()
        done = await core.complete(prompt, sampling, body.model)
        return JSON(
            {
                "generated_text": [body.prompt + text for text in done.texts],
                "prompt": body.prompt,
                "model_name": done.begun.model,
                "generation_time": _since(started),
                "finish_reasons": done.generated.finish_reasons,
                "usage": _usage(done.generated),
            }
        )

    @routes.post("/chat", response_model=ChatAnswer, responses=_STREAMED)
    async def chat(request: Request, body: ChatRequest) -> Response:
        """Answers an instruction, by the model's own chat template."""
        prompt, sampling = Prompt(messages=parse_messages(body.messages())), body.sampling()
        if body.stream:
            return await _streamed(request, core.generate(prompt, sampling, body.model))
        started = time.monotonic()
        done = await core.complete(prompt, sampling, body.model)
        return JSON(
            {
                "response": done.texts[0],
                "instruction": body.instruction,
                "model_name": done.begun.model,
                "generation_time": _since(started),
                "finish_reason": done.generated.finish_reasons[0],
                "usage": _usage(done.generated),
            }
        )

    @routes.get("/model_info", response_model=ModelInfo)
    async def model_info() -> Response:
        """The model that writes when a request names none; loads nothing."""
        return JSON(await _info(core))

    @routes.post("/load_model", response_model=Loaded)
    async def load_model(
        _: Admin,
        model_path: Annotated[str, Query(min_length=1, max_length=1024, description="A directory or a Hub id.")],
        load_in_8bit: Annotated[bool, Query()] = False,
        load_in_4bit: Annotated[bool, Query()] = False,
    ) -> Response:
        """Loads a model, waits until it is ready, and makes it the default for what it does."""
        if load_in_8bit and load_in_4bit:
            raise InvalidRequest("`load_in_8bit` and `load_in_4bit` are both true: choose one.")
        quantization = Quantization.NF4 if load_in_4bit else Quantization.INT8 if load_in_8bit else None
        name = await core.load_default(spec_of(model_path, core.settings, core.catalog, quantization))
        message, device = f"Model {name} loaded successfully", core.model(name).device
        return JSON({"message": message, "model_name": name, "model_path": model_path, "device": device})

    return routes


async def _streamed(request: Request, items: AsyncGenerator[Item]) -> Response:
    return await open_stream(_lines(items), lambda error: event(error_body(error, request.scope), "error"))


async def _lines(items: AsyncGenerator[Item]) -> AsyncGenerator[bytes, None]:
    started, model = time.monotonic(), ""
    try:
        async for item in items:
            if isinstance(item, Delta):
                if item.text:
                    yield event({"delta": item.text, "index": item.index})
            elif isinstance(item, Generated):
                yield event(
                    {
                        "done": True,
                        "finish_reason": item.finish_reasons[0],
                        "finish_reasons": item.finish_reasons,
                        "usage": _usage(item),
                        "model_name": model,
                        "generation_time": _since(started),
                    }
                )
            else:
                model = item.model
    finally:
        await items.aclose()


def _since(started: float) -> float:
    return round(time.monotonic() - started, 3)


def _usage(done: Generated) -> dict[str, int]:
    return {"prompt_tokens": done.usage.prompt_tokens, "completion_tokens": done.usage.completion_tokens}


async def _info(core: Core) -> dict[str, Any]:
    name = core.default_model(Task.TEXT_GENERATION)
    if name is None:
        raise ModelNotFound("No model that writes is loaded. Load one with POST /load_model.")
    record = core.registry.find(name)
    if record is None:  # known, and loaded by the first request
        entry = core.catalog.get(name)
        path, device, held, state, context = entry.source if entry else name, None, {}, State.ABSENT, None
    else:
        held, view = await core.registry.measure(record), core.model(name)
        path, device, state, context = view.source, view.device, view.state, view.context_length
    gpus = {gpu.device: gpu.used for gpu in await asyncio.to_thread(core.probe.gpus)}
    return {
        "model_name": name,
        "model_path": path,
        "device": device,
        "gpu_memory_allocated": _gigabytes(sum(held.get(gpu, 0) for gpu in gpus)),
        "gpu_memory_reserved": _gigabytes(sum(used for gpu, used in gpus.items() if held.get(gpu))),
        "state": state.shown,
        "context_length": context,
    }


def _gigabytes(count: float) -> str:
    return f"{count / GIB:.2f} GB"
