"""Encoders as ONNX graphs, run by onnxruntime."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from transformers import AutoConfig

from core.errors import CorruptModel, InsufficientMemory, LoadFailed
from core.types import ModelInfo, Task
from core.types import Runtime as RuntimeName
from core.worker.devices import guarded, pick_device
from core.worker.runtimes.base import Embedding, LoadRequest, Progress, Row, padded
from core.worker.runtimes.configuration import LABELLED, context_length, labels_of, pad_id_of, served_tasks
from core.worker.runtimes.loading import (
    MAX_BATCH_TOKENS,
    check_tasks,
    check_vocabulary,
    load_tokenizer,
    quiet,
    warm_row,
)
from core.worker.runtimes.onnxruntime_session import graph_file, open_session, shrink
from core.worker.runtimes.pooling import pool
from core.worker.runtimes.repository import loading_errors, refuse_code
from core.worker.runtimes.sentence_modules import read_pooling, read_prompts, read_steps, read_transformer
from core.worker.tokenizers import Tokenizer

OVERHEAD_TOKENS = {"cpu": 8, "cuda": 2048}  # MiniLM on a CPU: 8 is up to 3 % faster than 24; the GPU's estimated
MAX_LOGITS = 64 * 1024 * 1024  # numbers in one pass of a fill-mask graph, which gives those of every token

_DTYPES = {"tensor(int64)": np.int64, "tensor(int32)": np.int32}
_DEFAULT_FILES = ("onnx/model.onnx", "model.onnx", "onnx/model_quantized.onnx", "model_quantized.onnx")


@dataclass(frozen=True, slots=True)
class Recipe:
    """What the sentence-transformers files beside a graph say of its embeddings."""

    modes: tuple[str, ...] = ("mean",)
    pools_prompt: bool = True
    normalizes: bool = False
    lowers: bool = False
    max_length: int | None = None  # tokens


class OnnxEncoder:
    """An ONNX graph with the inputs and outputs of a transformers export."""

    def __init__(
        self, request: LoadRequest, session: Any, config: Any, tokenizer: Tokenizer, recipe: Recipe, device: str
    ) -> None:
        kind = device.partition(":")[0]
        self.name = request.name
        self.tokenizer = tokenizer
        self.problem_type: str | None = getattr(config, "problem_type", None)
        self._session = session
        self._inputs = {each.name: _DTYPES.get(each.type, np.int64) for each in session.get_inputs()}
        self._outputs = [each.name for each in session.get_outputs()]
        self._length = _fixed(session, 1)  # tokens of every row, for graphs exported with one length
        self._rows = _fixed(session, 0)
        self._device = device
        self._pad_id = pad_id_of(config, tokenizer)
        self.pads = True
        self._task = request.tasks[0]
        self._recipe = recipe
        prompts = read_prompts(Path(request.path), request.name)
        self.passes = request.passes if device == "cpu" else 1
        self.overhead_tokens = OVERHEAD_TOKENS[kind]
        self.max_batch_tokens = request.max_batch_tokens or MAX_BATCH_TOKENS[kind]
        if self._task is Task.FILL_MASK:
            self.max_batch_tokens = min(self.max_batch_tokens, MAX_LOGITS // config.vocab_size)
        limits = [limit for limit in (request.context_length, recipe.max_length, self._length) if limit]
        dimension = self._embed([warm_row(self, Task.FEATURE_EXTRACTION)])[0].shape[-1] if self._can_embed() else None
        self.embedding = None
        if dimension is not None:
            self.embedding = Embedding(
                dimension=dimension,
                pooling="+".join(recipe.modes),
                normalizes=recipe.normalizes,
                prompts=prompts.texts,
                default_prompt=prompts.default,
                pools_prompt=recipe.pools_prompt,
                lowers=recipe.lowers,
            )
        labels = labels_of(config) if self._task in LABELLED else ()
        self.info = ModelInfo(
            tasks=tuple(
                task
                for task in served_tasks(request, labels)
                if task is not Task.FEATURE_EXTRACTION or dimension is not None
            ),
            runtime=RuntimeName.ONNXRUNTIME,
            device=device,
            dtype=_dtype(session),
            model_type=config.model_type,
            labels=labels,
            context_length=context_length(config, tokenizer, min(limits, default=None)),
            dimension=dimension,
            pooling="+".join(recipe.modes) if dimension is not None else None,
            prompts=tuple(prompts.texts),
        )

    def forward(self, rows: list[Row]) -> list[np.ndarray]:
        """See the protocol `Runtime`."""
        doing = f"{self.name} was reading {len(rows)} rows of up to {max(row.length for row in rows)} tokens"
        try:
            return guarded(lambda: self._forward(rows), self._device, doing)
        except InsufficientMemory:
            shrink(self._session, self._feed([warm_row(self)]), self._device)
            raise

    def _forward(self, rows: list[Row]) -> list[np.ndarray]:
        if self._rows is not None and len(rows) > self._rows:
            return [
                array for at in range(0, len(rows), self._rows) for array in self._forward(rows[at : at + self._rows])
            ]
        if rows[0].want == "embedding":
            return self._embed(rows)
        if self._task is Task.QUESTION_ANSWERING:
            logits = np.stack(self._run(rows, ["start_logits", "end_logits"]), axis=-1)
        else:
            (logits,) = self._run(rows, ["logits" if "logits" in self._outputs else self._outputs[0]])
        if logits.ndim == 2:
            return list(logits[: len(rows)])
        return [
            logits[index, : row.length] if row.positions is None else logits[index, row.positions]
            for index, row in enumerate(rows)
        ]

    def _run(self, rows: list[Row], outputs: list[str]) -> list[np.ndarray]:
        """The named outputs, float32, for `rows` padded together."""
        return [np.asarray(each, np.float32) for each in self._session.run(outputs, self._feed(rows))]

    def _feed(self, rows: list[Row]) -> dict[str, np.ndarray]:
        batch = padded(rows, self._pad_id)
        if self._length is not None or self._rows is not None:
            batch = _filled(batch, self._rows or len(rows), self._length, self._pad_id)
        ids = batch["input_ids"]
        batch.setdefault("token_type_ids", np.zeros_like(ids))
        batch["position_ids"] = np.broadcast_to(np.arange(ids.shape[1]), ids.shape)
        return {name: batch[name].astype(dtype, copy=False) for name, dtype in self._inputs.items()}

    def _can_embed(self) -> bool:
        return bool({"sentence_embedding", "last_hidden_state", "token_embeddings"} & set(self._outputs)) or (
            self._task is Task.FEATURE_EXTRACTION
        )

    def _embed(self, rows: list[Row]) -> list[np.ndarray]:
        if "sentence_embedding" in self._outputs:
            return list(self._run(rows, ["sentence_embedding"])[0][: len(rows)])
        names = [name for name in ("last_hidden_state", "token_embeddings") if name in self._outputs]
        (hidden,) = self._run(rows, names[:1] or self._outputs[:1])
        if hidden.ndim == 2:
            return list(hidden[: len(rows)])
        lengths = np.array([row.length for row in rows])
        mask = (np.arange(hidden.shape[1]) < lengths[:, None]).astype(np.int64)
        return list(pool(hidden[: len(rows)], mask, self._recipe.modes, np.array([row.unpooled for row in rows])))


def load(request: LoadRequest, on_progress: Progress) -> OnnxEncoder:
    """Reads the files, opens the graph, and runs it once."""
    quiet()
    on_progress("loading", {})
    refuse_code(request)
    root = Path(request.path)
    device = pick_device(request.device)
    with loading_errors(request):
        tokenizer = load_tokenizer(request)
        config = AutoConfig.from_pretrained(root, local_files_only=True, trust_remote_code=False)
        check_vocabulary(request, tokenizer, getattr(config, "vocab_size", tokenizer.size))
        graph = graph_file(request, _DEFAULT_FILES)
        session = guarded(lambda: open_session(request, graph, device), device, f"loading {request.name}")
        _check_graph(request, session)
        runtime = OnnxEncoder(request, session, config, tokenizer, _recipe(request, session), device)
    check_tasks(request, runtime.info.tasks)
    on_progress("warming", {})
    with loading_errors(request):
        _check_labels(request, runtime, runtime.forward([warm_row(runtime)])[0])
    return runtime


def _check_graph(request: LoadRequest, session: Any) -> None:
    """Raises LoadFailed for a graph that is no text encoder's."""
    known = {"input_ids", "attention_mask", "token_type_ids", "position_ids"}
    names = {each.name for each in session.get_inputs()}
    if "input_ids" not in names or not names <= known:
        raise LoadFailed(
            f"The graph of {request.name} takes {', '.join(sorted(names))[:300]}; a text encoder takes input_ids and "
            "maybe attention_mask, token_type_ids and position_ids."
        )
    outputs = {each.name for each in session.get_outputs()}
    if request.tasks[0] is Task.QUESTION_ANSWERING and not {"start_logits", "end_logits"} <= outputs:
        raise LoadFailed(
            f"The graph of {request.name} gives no start_logits and end_logits, so it answers no questions."
        )
    if request.tasks[0] is not Task.FEATURE_EXTRACTION and outputs <= {"last_hidden_state", "pooler_output"}:
        raise LoadFailed(f"The graph of {request.name} gives no logits: it has no head for {request.tasks[0]}.")


def _check_labels(request: LoadRequest, runtime: OnnxEncoder, array: np.ndarray) -> None:
    if request.tasks[0] in LABELLED and array.shape[-1] != len(runtime.info.labels):
        raise CorruptModel(
            f"The graph of {request.name} gives {array.shape[-1]} scores and its configuration names "
            f"{len(runtime.info.labels)} labels: the files do not belong together."
        )


def _recipe(request: LoadRequest, session: Any) -> Recipe:
    """From modules.json and the folders it names; plain mean pooling without them."""
    root = Path(request.path)
    steps = read_steps(root, request.name)
    if not steps or "sentence_embedding" in {each.name for each in session.get_outputs()}:
        return Recipe()
    kinds = [step.kind for step in steps]
    if unknown := set(kinds) - {"Transformer", "Pooling", "Normalize"}:
        raise LoadFailed(
            f"{request.name} has modules that its ONNX graph does not hold: {', '.join(sorted(unknown))}. Load it with "
            "the runtime sentence-transformers."
        )
    max_length, lowers = read_transformer(root / steps[0].folder, request.name)
    modes: tuple[str, ...] = ("mean",)
    pools_prompt = True
    for step in steps:
        if step.kind == "Pooling":
            modes, pools_prompt = read_pooling(root / step.folder, request.name)
    return Recipe(modes, pools_prompt, kinds[-1] == "Normalize", lowers, max_length)


def _fixed(session: Any, axis: int) -> int | None:
    """The size of an axis of input_ids when the graph was exported with one size only."""
    shape = next(each.shape for each in session.get_inputs() if each.name == "input_ids")
    return shape[axis] if len(shape) == 2 and isinstance(shape[axis], int) else None


def _filled(batch: dict[str, np.ndarray], rows: int, length: int | None, pad_id: int) -> dict[str, np.ndarray]:
    """`batch` enlarged to the size that the graph was exported with."""
    filled = {}
    for key, array in batch.items():
        larger = np.full((rows, length or array.shape[1]), pad_id if key == "input_ids" else 0, np.int64)
        larger[: array.shape[0], : array.shape[1]] = array
        filled[key] = larger
    return filled


def _dtype(session: Any) -> str:
    """Of the outputs; weights may be stored smaller."""
    kind = session.get_outputs()[0].type
    return {"tensor(float16)": "float16", "tensor(bfloat16)": "bfloat16"}.get(kind, "float32")
