"""Tiny repositories, written by hand: the right files and headers, with weights that only have the right shapes."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

Shapes = dict[str, tuple[int, ...]]

ENCODER: Shapes = {
    "bert.embeddings.word_embeddings.weight": (100, 16),
    "bert.encoder.layer.0.output.dense.weight": (16, 16),
}
CLASSIFIER: Shapes = {**ENCODER, "classifier.weight": (3, 16), "classifier.bias": (3,)}
TOKENIZER = {"tokenizer.json": {"version": "1.0"}, "tokenizer_config.json": {"model_max_length": 512}}


def bert_config(architecture: str | None = "BertForSequenceClassification", **fields: Any) -> dict[str, Any]:
    """A BERT's config.json; a field that is None is left out."""
    config: dict[str, Any] = {
        "architectures": None if architecture is None else [architecture],
        "model_type": "bert",
        "max_position_embeddings": 512,
        "id2label": {"0": "negative", "1": "neutral", "2": "positive"},
        **fields,
    }
    return {name: value for name, value in config.items() if value is not None}


def write_tensors(path: Path, shapes: Shapes, dtype: str = "float32") -> None:
    """A safetensors file of seeded random numbers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    save_file({name: random.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}, path)


def write_header(path: Path, header: Any, data: bytes = b"", length: int | None = None) -> None:
    """A safetensors file whose header may lie: as JSON, or as raw bytes."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(raw) if length is None else length) + raw + data)


def write_repository(
    folder: Path,
    config: dict[str, Any] | None = None,
    shapes: Shapes | None = None,
    files: dict[str, Any] | None = None,
) -> Path:
    """A model's directory. `files` adds others: bytes as they are, text as UTF-8, anything else as JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    if shapes is not None:
        write_tensors(folder / "model.safetensors", shapes)
    documents: dict[str, Any] = {} if config is None else {"config.json": config}
    for name, content in {**TOKENIZER, **documents, **(files or {})}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data = content if isinstance(content, bytes | str) else json.dumps(content)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return folder


def write_shards(folder: Path, shards: dict[str, Shapes]) -> None:
    """Shards and their index."""
    for name, shapes in shards.items():
        write_tensors(folder / name, shapes)
    weight_map = {tensor: name for name, shapes in shards.items() for tensor in shapes}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


SENTENCE_MODULES = [
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
]


def write_sentence_model(folder: Path, modules: Any = None, files: dict[str, Any] | None = None) -> Path:
    """A sentence-transformers model with mean pooling."""
    return write_repository(
        folder,
        bert_config("BertModel", id2label=None),
        ENCODER,
        {
            "modules.json": SENTENCE_MODULES if modules is None else modules,
            "1_Pooling/config.json": {"word_embedding_dimension": 16, "pooling_mode_mean_tokens": True},
            "sentence_bert_config.json": {"max_seq_length": 128},
            **(files or {}),
        },
    )
