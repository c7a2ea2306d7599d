"""Classifiers of pictures as ONNX graphs, with the files of an export beside them or alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pillow
from transformers import AutoConfig

from core.errors import CorruptModel, LoadFailed
from core.types import Image, ModelInfo
from core.types import Runtime as RuntimeName
from core.worker.devices import guarded, pick_device
from core.worker.runtimes.base import LoadRequest, Progress
from core.worker.runtimes.configuration import labels_of
from core.worker.runtimes.loading import quiet
from core.worker.runtimes.onnxruntime_session import graph_file, open_session
from core.worker.runtimes.pixels import PixelRow, noise, open_image, pixel_row
from core.worker.runtimes.repository import loading_errors, refuse_code
from core.worker.runtimes.transformers_images import MAX_BATCH_PATCHES, load_processor, processed

_DEFAULT_FILES = ("onnx/model.onnx", "model.onnx", "onnx/model_quantized.onnx", "model_quantized.onnx")
_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
_SIDE = 224  # pixels, of a graph that takes any
# What models trained on ImageNet are shown where nothing is said: torchvision's published recipe.
_RESIZED = 256 / 224  # the shorter side, against what is cut out of the middle
_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)

Pixels = Callable[[Image], np.ndarray]


class OnnxImages:
    """A graph from one array of pictures to one of scores. One thread at a time, `pixels` on another."""

    pads = False
    passes = 1
    overhead_tokens = 0
    embedding = None
    problem_type: str | None = None

    def __init__(self, request: LoadRequest, session: Any, pixels: Pixels, config: Any, device: str) -> None:
        [taken] = session.get_inputs()
        self.name = request.name
        self.max_batch_tokens = request.max_batch_tokens or MAX_BATCH_PATCHES[device.partition(":")[0]]
        self.pixels = pixels  # see `ImageRuntime`
        self._session = session
        self._input, self._dtype = taken.name, _TYPES[taken.type]
        self._is_channels_last = _is_channels_last(taken.shape)
        self._rows = taken.shape[0] if isinstance(taken.shape[0], int) else None
        self._output = _output(session)
        self._device = device
        [scores] = self.forward([pixel_row(pixels(noise()))])
        if config is not None:
            self.problem_type = getattr(config, "problem_type", None)
        if self.problem_type is None and _are_shares(scores):
            self.problem_type = "regression"  # the graph ends with a softmax of its own: nothing is to be done to them
        labels = labels_of(config) if config is not None else tuple(f"LABEL_{each}" for each in range(len(scores)))
        if len(labels) != len(scores):
            raise CorruptModel(
                f"The graph of {request.name} gives {len(scores)} scores and its configuration names {len(labels)} "
                "labels: the files do not belong together."
            )
        self.info = ModelInfo(
            tasks=request.tasks,
            runtime=RuntimeName.ONNXRUNTIME,
            device=device,
            dtype=np.dtype(self._dtype).name,
            model_type=config.model_type if config is not None else "onnx",
            labels=labels,
        )

    def forward(self, rows: list[PixelRow]) -> list[np.ndarray]:
        """See the protocol `Runtime`: the scores (labels,) of each picture."""
        doing = f"{self.name} was looking at {len(rows)} pictures"
        return guarded(lambda: self._forward(rows), self._device, doing)

    def _forward(self, rows: list[PixelRow]) -> list[np.ndarray]:
        pixels = np.stack([row.pixels for row in rows]).astype(self._dtype, copy=False)
        if self._is_channels_last:
            pixels = np.ascontiguousarray(pixels.transpose(0, 2, 3, 1))
        size = self._rows or len(rows)
        scores = [self._run(pixels[at : at + size]) for at in range(0, len(rows), size)]
        return list(np.concatenate(scores)[: len(rows)])

    def _run(self, pixels: np.ndarray) -> np.ndarray:
        if self._rows is not None and len(pixels) < self._rows:
            pixels = np.concatenate([pixels, np.zeros((self._rows - len(pixels), *pixels.shape[1:]), self._dtype)])
        [scores] = self._session.run([self._output], {self._input: pixels})
        return np.asarray(scores, np.float32).reshape(len(pixels), -1)


def load(request: LoadRequest, on_progress: Progress) -> OnnxImages:
    """Opens the graph, and shows it a picture of noise."""
    quiet()
    on_progress("loading", {})
    refuse_code(request)
    device = pick_device(request.device)
    root = Path(request.path)
    with loading_errors(request):
        graph = graph_file(request, _DEFAULT_FILES)
        session = guarded(lambda: open_session(request, graph, device), device, f"loading {request.name}")
        shape = _check_graph(request, session)
        config = None
        if (root / "config.json").is_file():
            config = AutoConfig.from_pretrained(root, local_files_only=True, trust_remote_code=False)
        on_progress("warming", {})
        return OnnxImages(request, session, _pixels(request, root, shape), config, device)


def _check_graph(request: LoadRequest, session: Any) -> list[Any]:
    """The shape of what the graph takes. Raises LoadFailed for one that takes no pictures."""
    inputs = session.get_inputs()
    if len(inputs) == 1 and len(inputs[0].shape) == 4 and inputs[0].type in _TYPES:
        channels = inputs[0].shape[-1 if _is_channels_last(inputs[0].shape) else 1]
        if channels == 3 or not isinstance(channels, int):
            return list(inputs[0].shape)
    taken = ", ".join(f"{each.name} {each.type}{list(each.shape)}" for each in inputs)
    raise LoadFailed(
        f"The graph of {request.name} takes {taken[:300]}; a classifier of pictures takes one array of numbers, "
        "(pictures, 3, height, width). A model of text needs its config.json and its tokenizer beside the graph."
    )


def _is_channels_last(shape: list[Any]) -> bool:
    return shape[-1] == 3 and shape[1] != 3


def _output(session: Any) -> str:
    names = [each.name for each in session.get_outputs()]
    return "logits" if "logits" in names else names[0]


def _pixels(request: LoadRequest, root: Path, shape: list[Any]) -> Pixels:
    """As the processor beside the graph says; without one as ImageNet's, in the size that the graph takes."""
    if (root / "preprocessor_config.json").is_file():
        processor = load_processor(request)
        return lambda image: processed(processor, image, request.name)
    sides = shape[1:3] if _is_channels_last(shape) else shape[2:4]
    height, width = (each if isinstance(each, int) else _SIDE for each in sides)
    return lambda image: plainly_processed(open_image(image), height, width)


def plainly_processed(image: Pillow.Image, height: int, width: int) -> np.ndarray:
    """The middle of a picture, normalised as for ImageNet: float32 (3, height, width)."""
    scale = _RESIZED * max(height / image.height, width / image.width)
    size = max(width, round(image.width * scale)), max(height, round(image.height * scale))
    sized = image.resize(size, Pillow.Resampling.BILINEAR)
    left, top = (sized.width - width) // 2, (sized.height - height) // 2
    cut = np.asarray(sized.crop((left, top, left + width, top + height)), np.float32) / 255
    return ((cut - _MEAN) / _DEVIATION).transpose(2, 0, 1)


def _are_shares(scores: np.ndarray) -> bool:
    return bool(len(scores) > 1 and scores.min() >= 0 and abs(float(scores.sum()) - 1) < 1e-3)
