"""Pictures, and tiny classifiers of pictures of the real architectures, made in the run with a seed."""

from __future__ import annotations

import hashlib
import warnings
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
import transformers
from onnx import TensorProto, helper, numpy_helper
from PIL import Image as Pillow

from core.types import Image

SIDE = 32  # pixels that the models are shown
LABELS = ("고양이", "개", "새", "말", "소")


def picture(seed: int = 0, width: int = 48, height: int = 40) -> Image:
    """A picture of soft colours."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), np.uint8)
    made = BytesIO()
    Pillow.fromarray(coarse).resize((width, height), Pillow.Resampling.BICUBIC).save(made, "PNG")
    return {"data": made.getvalue(), "key": hashlib.sha256(made.getvalue()).hexdigest()}


def opened(image: Image) -> Pillow.Image:
    return Pillow.open(BytesIO(image["data"]))


def write_classifier(directory: Path, architecture: str, **config: Any) -> Path:
    """A `vit` or `resnet` of transformers with its processor."""
    names = {"id2label": dict(enumerate(LABELS)), "label2id": {name: index for index, name in enumerate(LABELS)}}
    torch.manual_seed(7)
    if architecture == "vit":
        sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
        made = transformers.ViTConfig(image_size=SIDE, patch_size=8, initializer_range=0.3, **sizes, **names, **config)
    else:
        sizes = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}
        made = transformers.ResNetConfig(**sizes, **names, **config)
    transformers.AutoModelForImageClassification.from_config(made).eval().save_pretrained(directory)
    write_processor(directory)
    return directory


def write_processor(directory: Path) -> None:
    transformers.ViTImageProcessorPil(size={"height": SIDE, "width": SIDE}).save_pretrained(directory)


def write_export(directory: Path) -> None:
    """The graph of the classifier in `directory` beside it, as exporters name its inputs and outputs."""
    model = transformers.AutoModelForImageClassification.from_pretrained(directory, attn_implementation="eager").eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model, (torch.zeros(1, 3, SIDE, SIDE),), str(directory / "model.onnx"), input_names=["pixel_values"],
            output_names=["logits"], dynamic_axes={"pixel_values": {0: "n"}, "logits": {0: "n"}}, opset_version=17,
            dynamo=False,
        )  # fmt: skip


def write_graph(
    path: Path, *, channels_last: bool = False, ends_with_softmax: bool = False, rows: int | str = "n"
) -> Any:
    """A graph that gives each picture a score for each of three linear maps of its mean colour. Returns the maps."""
    path.parent.mkdir(parents=True, exist_ok=True)
    maps = np.random.default_rng(5).normal(size=(3, 3)).astype(np.float32)
    shape = [rows, SIDE, SIDE, 3] if channels_last else [rows, 3, SIDE, SIDE]
    axes = numpy_helper.from_array(np.array([1, 2] if channels_last else [2, 3], np.int64), "axes")
    nodes = [
        helper.make_node("ReduceMean", ["pixels", "axes"], ["mean"], keepdims=0),
        helper.make_node("MatMul", ["mean", "maps"], ["scores"]),
    ]
    if ends_with_softmax:
        nodes.append(helper.make_node("Softmax", ["scores"], ["shares"]))
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("shares" if ends_with_softmax else "scores", TensorProto.FLOAT, [rows, 3])],
        [axes, numpy_helper.from_array(maps, "maps")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, path)
    return maps
