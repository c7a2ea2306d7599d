"""GGUF models by llama.cpp: several sequences in one batch, their keys and values in one cache."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import llama_cpp
import numpy as np

from core.errors import CorruptModel, InsufficientMemory, LoadFailed
from core.types import ModelInfo, Runtime, Task
from core.worker.generation.base import Chunk
from core.worker.runtimes import llama_log
from core.worker.runtimes.base import ContextLost, LoadRequest, Progress
from core.worker.runtimes.llama_batch import TokenBatch
from core.worker.runtimes.llama_codec import LlamaCodec
from core.worker.runtimes.llama_errors import load_error

if TYPE_CHECKING:
    from core.worker.runtimes.llama_sight import LlamaSight

# Tokens of one sequence when the load does not say. Keys and values are reserved when the model is loaded: those of
# the 131,072 tokens that many models state would take gigabytes before the first answer.
DEFAULT_CONTEXT = 4096
# Of the cache beyond one context, when the load does not say how many tokens it shall hold.
CACHE_BYTES = 256 * 1024 * 1024
# Tokens of a prompt in one step. On a CPU more of them are hardly faster for each, and running answers wait for them.
PREFILL_TOKENS = {"cpu": 128, "cuda": 512}
MICRO_BATCH = 512  # tokens that are computed at once within a step
_NO_SLOT, _INVALID, _ALLOCATION = 1, -1, -2  # of llama_decode; below zero: -1 - ggml_status, but for _INVALID


class LlamaCpp:
    """A loaded GGUF model. `max_sequences` slots share `max_cached_tokens` cells of one cache."""

    is_encoder_decoder = False
    vision: LlamaSight | None = None

    def __init__(self, request: LoadRequest, model: llama_cpp.llama_model_p, device: str) -> None:
        self.name = request.name
        self.codec = LlamaCodec(model, request.name)
        trained = int(llama_cpp.llama_model_n_ctx_train(model)) or DEFAULT_CONTEXT
        context_length = min(trained, request.context_length or DEFAULT_CONTEXT)
        self.max_sequences = min(request.max_sequences, int(llama_cpp.llama_max_parallel_sequences()))
        cells = request.max_cached_tokens or _cache_tokens(model, context_length, self.max_sequences)
        self.max_cached_tokens = max(cells, context_length)
        self.prefill_tokens = PREFILL_TOKENS[device.partition(":")[0]]
        self.info = ModelInfo(
            tasks=(Task.TEXT_GENERATION,),
            runtime=Runtime.LLAMA_CPP,
            device=device,
            dtype=_file_type(model),
            model_type=_metadata(model, "general.architecture"),
            context_length=context_length,
            parameters=int(llama_cpp.llama_model_n_params(model)),
            has_chat_template=self.codec.has_template,
            max_sequences=self.max_sequences,
        )
        self._model = model
        self._context = _open_context(request, model, self.max_cached_tokens, self.max_sequences, device)
        memory = llama_cpp.llama_get_memory(self._context)
        assert memory is not None
        self._memory = memory
        self._batch = TokenBatch(int(llama_cpp.llama_n_batch(self._context)), self.max_sequences)
        self._held = [0] * self.max_sequences  # tokens by slot
        self._row = ctypes.c_float * self.codec.size

    def begin(self, slot: int, prompt: Sequence[int]) -> list[int]:
        return list(prompt)

    def step(self, chunks: Sequence[Chunk]) -> list[np.ndarray | None]:
        self._check(chunks)
        ends = self._batch.fill(chunks)
        self._decode(self._batch.raw, chunks)
        for chunk in chunks:
            self._held[chunk.slot] += len(chunk.tokens)
        return [self._logits(end) if chunk.wants_logits else None for chunk, end in zip(chunks, ends, strict=True)]

    def trim(self, slot: int, length: int) -> int:
        if length >= self._held[slot]:
            return self._held[slot]
        if not self._forget(slot, length):
            self._forget(slot, -1)
            length = 0
        self._held[slot] = length
        return length

    def warm(self) -> None:
        """One token through the model. Raises CorruptModel when what comes out is not numbers."""
        [logits] = self.step([Chunk(0, [self.codec.first_token], 0, True)])
        self.trim(0, 0)
        assert logits is not None
        if np.isnan(logits).any():
            raise CorruptModel(
                f"{self.name} computes NaN: its weights are damaged. Fetch the file again, or choose another one."
            )

    def close(self) -> None:
        """Gives its memory back. Nothing of it may be used any more."""
        llama_cpp.llama_free(self._context)
        llama_cpp.llama_model_free(self._model)

    def _check(self, chunks: Sequence[Chunk]) -> None:
        """Raises ValueError for chunks that do not go on where their slots end, InsufficientMemory for too many."""
        for chunk in chunks:
            if chunk.start != self._held[chunk.slot]:
                raise ValueError(f"slot {chunk.slot} holds {self._held[chunk.slot]} tokens, not {chunk.start}")
        if sum(len(chunk.tokens) for chunk in chunks) > self._batch.size:
            raise self._full()

    def _decode(self, batch: llama_cpp.llama_batch, chunks: Sequence[Chunk]) -> None:
        """Runs `batch`, which is made of `chunks`."""
        status = llama_cpp.llama_decode(self._context, batch)
        if status != 0:
            self._undo(chunks, status)

    def _forget(self, slot: int, place: int) -> bool:
        """Takes away all from `place` on, -1: all. False: the state of a recurrent model has no parts to take away."""
        return bool(llama_cpp.llama_memory_seq_rm(self._memory, slot, place, -1))

    def _logits(self, index: int) -> np.ndarray:
        found = llama_cpp.llama_get_logits_ith(self._context, index)
        # a copy: the next step writes over it
        return np.array(self._row.from_address(ctypes.addressof(found.contents)), np.float32)

    def _undo(self, chunks: Sequence[Chunk], status: int) -> None:
        """Raises what `status` means; of a step that was given up half-way nothing stays."""
        if status == _INVALID:
            raise ValueError("llama.cpp takes this batch for invalid")
        if status not in (_NO_SLOT, _ALLOCATION):
            raise ContextLost(f"llama_decode failed with status {status}: {llama_log.complaint()}")
        if status == _ALLOCATION:
            for chunk in chunks:
                if not self._forget(chunk.slot, chunk.start):
                    raise ContextLost("llama_decode ran out of memory in the middle of a step")
        raise self._full()

    def _full(self) -> InsufficientMemory:
        return InsufficientMemory(
            f"The cache of {self.name} is full: it holds {self.max_cached_tokens:,} tokens of all answers together. "
            "Send less at once, or try again when others are done."
        )


LlamaKind = TypeVar("LlamaKind", bound=LlamaCpp)


def load(request: LoadRequest, on_progress: Progress) -> LlamaCpp:
    """The GGUF model at `request.file` of `request.path`, warmed.

    Raises CorruptModel, LoadFailed or InsufficientMemory.
    """
    return open_model(request, on_progress, LlamaCpp)


def open_model(request: LoadRequest, on_progress: Progress, kind: type[LlamaKind]) -> LlamaKind:
    """See `load`; run as `kind`."""
    on_progress("loading", {})
    llama_log.capture()
    llama_log.forget()
    llama_cpp.llama_backend_init()
    path = _check_file(request)
    device, params = _placement(request)
    report = _reporter(on_progress)
    params.progress_callback = report
    params.check_tensors = True  # numbers that are none are found here, not in an answer
    model = llama_cpp.llama_model_load_from_file(os.fsencode(path), params)
    if not model:
        raise load_error(request, path)
    if not llama_cpp.llama_model_has_decoder(model) or llama_cpp.llama_model_has_encoder(model):
        raise LoadFailed(f"{request.name} is no decoder, so it cannot write text here. Choose another model.")
    runtime = kind(request, model, device)
    on_progress("warming", {})
    runtime.warm()
    return runtime


def _check_file(request: LoadRequest) -> Path:
    """The first bytes are all that is looked at here: the front process has read the header of every part."""
    root = Path(request.path)
    path = root / (request.file or "")
    if not path.is_file():
        raise LoadFailed(f"{request.name} has no file {request.file!r} any more. Load it again.")
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise CorruptModel(f"{request.file} of {request.name} is no GGUF file whatever its name says.")
    return path


def _placement(request: LoadRequest) -> tuple[str, llama_cpp.llama_model_params]:
    """The device, and the parameters of loading that put the layers on it. Raises LoadFailed."""
    kind, _, index = request.device.partition(":")
    if kind not in ("auto", "cpu", "cuda") or (index and not index.isdecimal()):
        raise LoadFailed(f"There is no device `{request.device}`. Use auto, cpu, cuda or cuda:N.")
    has_gpu = kind != "cpu" and llama_cpp.llama_supports_gpu_offload()
    if kind == "cuda" and not has_gpu:
        raise LoadFailed(
            f"The device `{request.device}` is not there for GGUF models: llama-cpp-python was built without CUDA, or "
            "there is no GPU. Load with device `auto` or `cpu`."
        )
    on_gpu = has_gpu and request.gpu_layers != 0
    params = llama_cpp.llama_model_default_params()
    params.n_gpu_layers = (-1 if request.gpu_layers is None else request.gpu_layers) if on_gpu else 0
    params.split_mode = llama_cpp.LLAMA_SPLIT_MODE_NONE
    params.main_gpu = int(index or 0) if on_gpu else -1
    return (f"cuda:{int(index or 0)}" if on_gpu else "cpu"), params


def _reporter(on_progress: Progress) -> Any:
    """A callback of llama.cpp that tells how much is loaded, in percent and by fives."""
    told = -5

    def report(share: float, _: Any) -> bool:
        nonlocal told
        percent = int(share * 100)
        if percent >= told + 5:
            told = percent
            on_progress("loading", {"done": percent, "total": 100})
        return True

    callback: Callable[..., Any] = llama_cpp.llama_progress_callback(report)
    return callback


def _open_context(
    request: LoadRequest, model: llama_cpp.llama_model_p, cells: int, sequences: int, device: str
) -> llama_cpp.llama_context_p:
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = cells
    params.n_batch = cells  # a step is one call, whatever it holds
    params.n_ubatch = min(MICRO_BATCH, cells)
    params.n_seq_max = sequences
    params.n_outputs_max = sequences
    params.kv_unified = True  # a sequence may take what others leave
    threads = request.threads or len(os.sched_getaffinity(0))
    params.n_threads = params.n_threads_batch = threads
    params.offload_kqv = params.op_offload = device != "cpu"
    context = llama_cpp.llama_init_from_model(model, params)
    if not context:
        raise InsufficientMemory(
            f"There is no memory for the cache of {request.name}, {cells:,} tokens: {llama_log.complaint()} "
            "Load it with a smaller `context_length`, or unload another model."
        )
    return context


def _cache_tokens(model: llama_cpp.llama_model_p, context_length: int, sequences: int) -> int:
    """As many contexts as there are sequences, as far as CACHE_BYTES go."""
    layers, heads = int(llama_cpp.llama_model_n_layer(model)), int(llama_cpp.llama_model_n_head(model)) or 1
    of_head = int(llama_cpp.llama_model_n_embd(model)) // heads
    token_bytes = 2 * 2 * layers * (int(llama_cpp.llama_model_n_head_kv(model)) or heads) * of_head  # K and V, float16
    return min(context_length * sequences, max(context_length, CACHE_BYTES // max(token_bytes, 1)))


def _metadata(model: llama_cpp.llama_model_p, key: str) -> str:
    buffer = ctypes.create_string_buffer(128)
    length = llama_cpp.llama_model_meta_val_str(model, key.encode(), buffer, len(buffer))
    return buffer.value.decode("utf-8", errors="replace") if length > 0 else ""


def _file_type(model: llama_cpp.llama_model_p) -> str:
    """How it is quantised, in the words of file names: llama.cpp says "Q4_K - Medium" and "all F32"."""
    name = (llama_cpp.llama_ftype_name(llama_cpp.llama_model_ftype(model)) or b"").decode()
    kind, _, size = name.removeprefix("(guessed) ").removeprefix("all ").partition(" - ")
    return f"{kind}_{size[:1]}" if size else kind or "unknown"
