"""Encoders of the transformers library, in torch."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    BitsAndBytesConfig,
)
from transformers.conversion_mapping import get_checkpoint_conversion_mapping

from core.errors import CorruptModel, LoadFailed, TaskNotSupported
from core.types import ModelInfo, Quantization, Task
from core.types import Runtime as RuntimeName
from core.worker.devices import guarded, pick_device, pick_dtype
from core.worker.runtimes.base import Embedding, LoadRequest, Progress, Row, padded
from core.worker.runtimes.compaction import compact
from core.worker.runtimes.configuration import LABELLED, context_length, labels_of, pad_id_of, served_tasks
from core.worker.runtimes.devicemap import device_map
from core.worker.runtimes.loading import (
    MAX_BATCH_TOKENS,
    check_tasks,
    check_vocabulary,
    load_tokenizer,
    quiet,
    warm_row,
)
from core.worker.runtimes.repository import loading_errors, read_json, refuse_code, refuse_pickle
from core.worker.runtimes.unpadding import unpadding_of
from core.worker.tokenizers import Tokenizer

# Builds a table of 900 patterns that every load reads: once, here, before the fork, and not in each worker.
get_checkpoint_conversion_mapping("bert")

_HEADS: dict[Task, Any] = {
    Task.TEXT_CLASSIFICATION: AutoModelForSequenceClassification,
    Task.ZERO_SHOT_CLASSIFICATION: AutoModelForSequenceClassification,
    Task.TOKEN_CLASSIFICATION: AutoModelForTokenClassification,
    Task.QUESTION_ANSWERING: AutoModelForQuestionAnswering,
    Task.FILL_MASK: AutoModelForMaskedLM,
    Task.FEATURE_EXTRACTION: AutoModel,
}

_HARMLESS = ("position_ids", "token_type_ids", "rotary_emb")  # buffers that are computed
# for the others it is no part of the answer
_READ_POOLER = (Task.TEXT_CLASSIFICATION, Task.ZERO_SHOT_CLASSIFICATION, Task.IMAGE_CLASSIFICATION)


# What a pass costs before its first token, in tokens: MiniLM on a CPU, 8 to 12 ms against 0.2 ms a token. The GPU's is
# an estimate: launching the kernels of a small encoder takes as long as computing some thousand tokens.
OVERHEAD_TOKENS = {"cpu": 64, "cuda": 2048}


class TransformersEncoder:
    """A model of transformers with the head of its first task. One thread at a time."""

    def __init__(self, request: LoadRequest, model: Any, tokenizer: Tokenizer, device: str) -> None:
        config = model.config
        kind = device.partition(":")[0]
        self.name = request.name
        self.tokenizer = tokenizer
        self.problem_type: str | None = getattr(config, "problem_type", None)
        self.embedding: Embedding | None = Embedding(config.hidden_size, "mean")
        self.max_batch_tokens = request.max_batch_tokens or MAX_BATCH_TOKENS[kind]
        self.passes = 1
        self.overhead_tokens = OVERHEAD_TOKENS[kind]
        self.info = ModelInfo(
            tasks=served_tasks(request, labels_of(config)),
            runtime=RuntimeName.TRANSFORMERS,
            device=device,
            dtype=str(model.dtype).removeprefix("torch."),
            model_type=config.model_type,
            labels=labels_of(config) if request.tasks[0] in LABELLED else (),
            context_length=context_length(config, tokenizer, request.context_length),
            dimension=config.hidden_size,
            pooling="mean",
            parameters=model.num_parameters(),
        )
        self._model = model
        self._device = device
        self._pad_id = pad_id_of(config, tokenizer)
        self._unpadding = unpadding_of(model, device)
        self.pads = self._unpadding is None
        self._task = request.tasks[0]

    def forward(self, rows: list[Row]) -> list[np.ndarray]:
        """See the protocol `Runtime`."""
        doing = f"{self.name} was reading {len(rows)} rows of up to {max(row.length for row in rows)} tokens"
        with self._unpadding.rows([row.length for row in rows]) if self._unpadding else nullcontext():
            return guarded(lambda: self._forward(rows), self._device, doing)

    def _forward(self, rows: list[Row]) -> list[np.ndarray]:
        inputs = {key: torch.from_numpy(value).to(self._device) for key, value in padded(rows, self._pad_id).items()}
        with torch.inference_mode():
            if rows[0].want == "embedding":
                return list(_numpy(self._mean(inputs)))
            if rows[0].positions is not None:
                return self._at_positions(rows, inputs)
            outputs = self._model(**inputs)
            if self._task is Task.QUESTION_ANSWERING:
                logits = _numpy(torch.stack([outputs.start_logits, outputs.end_logits], dim=-1))
            else:
                logits = _numpy(outputs.logits)
        if logits.ndim == 2:
            return list(logits)
        return [logits[index, : row.length] for index, row in enumerate(rows)]

    def _mean(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """Mean of the last hidden state over the attention mask: (rows, width)."""
        encoder = self._model.base_model
        if self._model.config.is_encoder_decoder:
            encoder = self._model.get_encoder()
        hidden = encoder(**inputs)[0].float()
        mask = inputs["attention_mask"].unsqueeze(-1).to(hidden.dtype)
        return (hidden * mask).sum(1) / mask.sum(1).clamp(min=1e-9)

    def _at_positions(self, rows: list[Row], inputs: dict[str, torch.Tensor]) -> list[np.ndarray]:
        """Logits over the vocabulary at each row's positions only.

        The last layer is handed nothing but those positions: logits of every token would be vocabulary times
        larger than all else the model holds.
        """
        longest = inputs["input_ids"].shape[1]
        wanted = [index * longest + at for index, row in enumerate(rows) for at in row.positions or ()]
        chosen = torch.tensor(wanted, device=self._device)
        layer = self._model.get_output_embeddings()
        hook = (
            layer.register_forward_pre_hook(
                lambda _, given: (given[0].reshape(-1, given[0].shape[-1])[chosen], *given[1:])
            )
            if isinstance(layer, torch.nn.Module)
            else None
        )
        try:
            logits = self._model(**inputs).logits
        finally:
            if hook is not None:
                hook.remove()
        if logits.ndim == 3:
            logits = logits.reshape(-1, logits.shape[-1])[chosen]
        counts = np.cumsum([len(row.positions or ()) for row in rows])[:-1]
        return np.split(_numpy(logits), counts)


def load(request: LoadRequest, on_progress: Progress) -> TransformersEncoder:
    """Reads the files, puts the model on its device, and runs it once."""
    if request.tasks[0] not in _HEADS:
        raise TaskNotSupported(f"transformers runs no {request.tasks[0]} for {request.name}.")
    quiet()
    if request.threads is not None:
        torch.set_num_threads(request.threads)
    on_progress("loading", {})
    refuse_code(request)
    device = pick_device(request.device)
    with loading_errors(request):
        tokenizer = load_tokenizer(request)
        model = guarded(lambda: _load_model(request, device), device, f"loading {request.name}")
        runtime = TransformersEncoder(request, model, tokenizer, device)
    check_tasks(request, runtime.info.tasks)
    rows = model.get_input_embeddings().weight.shape[0]
    check_vocabulary(request, tokenizer, rows)
    on_progress("warming", {})
    runtime.forward([warm_row(runtime)])
    return runtime


def _load_model(request: LoadRequest, device: str) -> Any:
    root = Path(request.path)
    config = AutoConfig.from_pretrained(root, local_files_only=True, trust_remote_code=False)
    safe = refuse_pickle(request, root)
    model, report = read_weights(request, config, device, safe, _HEADS[request.tasks[0]])
    guessed = _guessed_labels(request, config, report)
    if guessed is not None:  # the configuration names no labels, the weights say how many there are
        config.num_labels = guessed
        model, report = read_weights(request, config, device, safe, _HEADS[request.tasks[0]])
    check_report(request, report)
    _check_declared(request, config)
    return model.eval()


def check_report(request: LoadRequest, report: dict[str, Any]) -> None:
    """Raises CorruptModel for weights of another shape, LoadFailed for weights that would stay random."""
    if report["mismatched_keys"]:
        name, stored, expected = sorted(report["mismatched_keys"])[0]
        raise CorruptModel(
            f"`{name}` of {request.name} has the shape {tuple(stored)} in its weights and {tuple(expected)} by its "
            "configuration: the files do not belong together."
        )
    harmless = _HARMLESS if request.tasks[0] in _READ_POOLER else (*_HARMLESS, "pooler.")
    missing = sorted(key for key in report["missing_keys"] if not any(part in key for part in harmless))
    if missing:
        raise LoadFailed(
            f"Weights for `{', '.join(missing[:3])}` are missing: {request.name} has no trained head for "
            f"{request.tasks[0]}. Load it for the task it was made for."
        )


def _check_declared(request: LoadRequest, config: Any) -> None:
    """Raises LoadFailed where a head for texts would pass for one for tokens: both are called `classifier`."""
    declared = " ".join(config.architectures or ())
    if request.tasks[0] is Task.TOKEN_CLASSIFICATION and "ForSequenceClassification" in declared:
        raise LoadFailed(
            f"The head of {request.name} labels whole texts: it has no trained head for {request.tasks[0]}. "
            f"Load it for {Task.TEXT_CLASSIFICATION}."
        )


def read_weights(request: LoadRequest, config: Any, device: str, safe: bool, head: Any) -> tuple[Any, dict[str, Any]]:
    """The model of the class `head` on its device, and what its files lacked."""
    quantized = request.quantization is not None
    options: dict[str, Any] = {"device_map": device} if quantized or device != "cpu" else {}
    if request.layers:
        options["device_map"] = device_map(head, config, request.layers)
    if quantized:
        options["quantization_config"] = quantization_config(request, device)
    if variant := _variant(request.file):
        options["variant"] = variant
    supports_sdpa = getattr(head._model_mapping.get(type(config), None), "_supports_sdpa", False)
    model, report = head.from_pretrained(
        request.path,
        config=config,
        dtype=pick_dtype(request.dtype, device),
        attn_implementation="sdpa" if supports_sdpa else "eager",
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=safe,
        weights_only=True,
        ignore_mismatched_sizes=True,  # they are reported, and refused above
        output_loading_info=True,
        **options,
    )
    if quantized and device == "cpu":
        compact(model)
    return model, report


def quantization_config(request: LoadRequest, device: str) -> BitsAndBytesConfig:
    if request.quantization is Quantization.INT8:
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=pick_dtype(request.dtype, device),
    )


def _variant(file: str | None) -> str | None:
    """`model.fp16.safetensors` → fp16."""
    parts = Path(file).name.split(".") if file else []
    return parts[1] if len(parts) == 3 and parts[0] in ("model", "pytorch_model") else None


def _guessed_labels(request: LoadRequest, config: Any, report: dict[str, Any]) -> int | None:
    """The number of labels in the weights, when the configuration does not name any."""
    said = read_json(Path(request.path) / "config.json", request.name) or {}
    if request.tasks[0] not in LABELLED or "id2label" in said or "num_labels" in said:
        return None
    counts = {tuple(stored)[0] for _, stored, _ in report["mismatched_keys"]}
    return counts.pop() if len(counts) == 1 else None


def _numpy(tensor: torch.Tensor) -> np.ndarray:
    return tensor.float().cpu().numpy()
