"""Embedding models of the sentence-transformers library, run through the modules that their own files name."""

from __future__ import annotations

from collections import defaultdict
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import Dropout, LayerNorm, Pooling, WeightedLayerPooling

from core.errors import LoadFailed, TaskNotSupported
from core.types import ModelInfo, Task
from core.types import Runtime as RuntimeName
from core.worker.devices import guarded, pick_device, pick_dtype
from core.worker.runtimes.base import Embedding, LoadRequest, Progress, Row, padded
from core.worker.runtimes.compaction import compact
from core.worker.runtimes.configuration import context_length, pad_id_of
from core.worker.runtimes.loading import MAX_BATCH_TOKENS, check_vocabulary, quiet, warm_row
from core.worker.runtimes.repository import loading_errors, refuse_code, refuse_pickle
from core.worker.runtimes.sentence_modules import Step, read_pooling, read_prompts, read_steps
from core.worker.runtimes.transformers_encoder import OVERHEAD_TOKENS, check_report, quantization_config
from core.worker.runtimes.unpadding import unpadding_of
from core.worker.tokenizers import Tokenizer


class ReportingTransformer(Transformer):  # type: ignore[misc]
    """The library's own module; it keeps the report of what the weight files lacked."""

    def _load_model(self, *args: Any, **kwargs: Any) -> Any:
        loaded: Any = super()._load_model(*args, **kwargs, output_loading_info=True)
        model, self.report = loaded
        return model


_MODULES: dict[str, Any] = {
    "Transformer": ReportingTransformer,
    "Pooling": Pooling,
    "WeightedLayerPooling": WeightedLayerPooling,
    "Dense": Dense,
    "LayerNorm": LayerNorm,
    "Dropout": Dropout,
    "Normalize": Normalize,
}


class SentenceTransformerEncoder:
    """A sentence-transformers model. One thread at a time."""

    def __init__(self, request: LoadRequest, modules: list[torch.nn.Module], steps: list[Step], device: str) -> None:
        root = Path(request.path)
        transformer: Any = modules[0]
        kind = device.partition(":")[0]
        config = transformer.model.config
        prompts = read_prompts(root, request.name)
        pooling, pools_prompt = _pooling(root, steps, request.name)
        self.name = request.name
        self.tokenizer = Tokenizer(transformer.tokenizer, request.name)
        self.problem_type = None
        self.max_batch_tokens = request.max_batch_tokens or MAX_BATCH_TOKENS[kind]
        self.passes = 1
        self.overhead_tokens = OVERHEAD_TOKENS[kind]
        self._normalizes = steps[-1].kind == "Normalize"
        self._modules = modules[:-1] if self._normalizes else modules
        self._device = device
        self._pad_id = pad_id_of(config, self.tokenizer)
        self._unpadding = unpadding_of(transformer.model, device)
        self.pads = self._unpadding is None
        dimension = self._forward([warm_row(self, Task.FEATURE_EXTRACTION)])[0].shape[-1]
        self.embedding = Embedding(
            dimension=dimension,
            pooling=pooling,
            normalizes=self._normalizes,
            prompts=prompts.texts,
            default_prompt=prompts.default,
            pools_prompt=pools_prompt,
        )
        self.info = ModelInfo(
            tasks=(Task.FEATURE_EXTRACTION,),
            runtime=RuntimeName.SENTENCE_TRANSFORMERS,
            device=device,
            dtype=str(transformer.model.dtype).removeprefix("torch."),
            model_type=config.model_type,
            context_length=context_length(config, self.tokenizer, request.context_length),
            dimension=dimension,
            pooling=pooling,
            parameters=sum(parameter.numel() for module in modules for parameter in module.parameters()),
            prompts=tuple(prompts.texts),
        )

    def forward(self, rows: list[Row]) -> list[np.ndarray]:
        """See the protocol `Runtime`; only embeddings."""
        doing = f"{self.name} was reading {len(rows)} rows of up to {max(row.length for row in rows)} tokens"
        return guarded(lambda: self._forward(rows), self._device, doing)

    def _forward(self, rows: list[Row]) -> list[np.ndarray]:
        # the library's pooling knows one prompt length a pass
        groups: dict[int, list[int]] = defaultdict(list)
        for index, row in enumerate(rows):
            groups[row.unpooled].append(index)
        vectors: dict[int, np.ndarray] = {}
        for unpooled, indices in groups.items():
            group = [rows[index] for index in indices]
            with self._unpadding.rows([row.length for row in group]) if self._unpadding else nullcontext():
                found = self._embed(padded(group, self._pad_id), unpooled)
            vectors.update(zip(indices, found, strict=True))
        return [vectors[index] for index in range(len(rows))]

    def _embed(self, batch: dict[str, np.ndarray], unpooled: int) -> np.ndarray:
        features: dict[str, Any] = {key: torch.from_numpy(value).to(self._device) for key, value in batch.items()}
        if unpooled:
            features["prompt_length"] = unpooled
        with torch.inference_mode():
            for module in self._modules:
                features = module(features)
            vectors: np.ndarray = features["sentence_embedding"].float().cpu().numpy()
        return vectors


def load(request: LoadRequest, on_progress: Progress) -> SentenceTransformerEncoder:
    """Reads the files, puts the modules on their device, and runs them once."""
    if Task.FEATURE_EXTRACTION not in request.tasks:
        raise TaskNotSupported(
            f"sentence-transformers makes embeddings only; {request.name} cannot do {request.tasks[0]}."
        )
    quiet()
    if request.threads is not None:
        torch.set_num_threads(request.threads)
    on_progress("loading", {})
    refuse_code(request)
    steps = read_steps(Path(request.path), request.name)
    if not steps or steps[0].kind != "Transformer" or not {step.kind for step in steps} <= set(_MODULES):
        kinds = ", ".join(step.kind for step in steps) or "none"
        raise LoadFailed(f"{request.name} is made of the modules {kinds}; those run here are {', '.join(_MODULES)}.")
    device = pick_device(request.device)
    with loading_errors(request):
        modules = guarded(lambda: _load_modules(request, steps, device), device, f"loading {request.name}")
        check_report(request, modules[0].report)
        runtime = SentenceTransformerEncoder(request, modules, steps, device)
    check_vocabulary(request, runtime.tokenizer, modules[0].model.get_input_embeddings().weight.shape[0])
    on_progress("warming", {})
    runtime.forward([warm_row(runtime)])
    return runtime


def _load_modules(request: LoadRequest, steps: list[Step], device: str) -> list[Any]:
    options: dict[str, Any] = {
        "dtype": pick_dtype(request.dtype, device),
        "use_safetensors": refuse_pickle(request, Path(request.path) / steps[0].folder),
        "weights_only": True,
    }
    if request.quantization is not None:
        options |= {"quantization_config": quantization_config(request, device), "device_map": device}
    modules = [
        _MODULES[step.kind].load(
            request.path,
            subfolder=step.folder,
            local_files_only=True,
            trust_remote_code=False,
            model_kwargs=dict(options),
            processor_kwargs={},
            config_kwargs={},
        )
        for step in steps
    ]
    for index, module in enumerate(modules):
        if request.quantization is None or index:
            module.to(device)
        module.eval()
    if request.quantization is not None and device == "cpu":
        compact(modules[0])
    return modules


def _pooling(root: Path, steps: list[Step], name: str) -> tuple[str, bool]:
    for step in steps:
        if step.kind == "Pooling":
            modes, pools_prompt = read_pooling(root / step.folder, name)
            return "+".join(modes), pools_prompt
    return "none", True
