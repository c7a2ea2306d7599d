"""Classifiers of pictures of the transformers library, in torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoImageProcessor, AutoModelForImageClassification

from core.errors import InsufficientMemory, InvalidImage
from core.types import Image, ModelInfo
from core.types import Runtime as RuntimeName
from core.worker.devices import guarded, pick_device
from core.worker.runtimes.base import LoadRequest, Progress
from core.worker.runtimes.configuration import labels_of
from core.worker.runtimes.loading import quiet
from core.worker.runtimes.pixels import PixelRow, noise, open_image, pixel_row
from core.worker.runtimes.repository import loading_errors, refuse_code, refuse_pickle
from core.worker.runtimes.transformers_encoder import check_report, read_weights

# Patches of one pass. On a CPU four pictures of the usual size: more together are no quicker there.
MAX_BATCH_PATCHES = {"cpu": 784, "cuda": 32768}


class TransformersImages:
    """A classifier with the processor of its repository. One thread at a time, `pixels` on another."""

    pads = False
    passes = 1
    overhead_tokens = 0
    embedding = None

    def __init__(self, request: LoadRequest, model: Any, processor: Any, device: str) -> None:
        config = model.config
        self.name = request.name
        self.problem_type: str | None = getattr(config, "problem_type", None)
        self.max_batch_tokens = request.max_batch_tokens or MAX_BATCH_PATCHES[device.partition(":")[0]]
        self.info = ModelInfo(
            tasks=request.tasks,
            runtime=RuntimeName.TRANSFORMERS,
            device=device,
            dtype=str(model.dtype).removeprefix("torch."),
            model_type=config.model_type,
            labels=labels_of(config),
            parameters=model.num_parameters(),
        )
        self._model = model
        self._processor = processor
        self._device = device

    def pixels(self, image: Image) -> np.ndarray:
        """See `ImageRuntime`."""
        return processed(self._processor, image, self.name)

    def forward(self, rows: list[PixelRow]) -> list[np.ndarray]:
        """See the protocol `Runtime`: the logits (labels,) of each picture."""
        doing = f"{self.name} was looking at {len(rows)} pictures"
        return guarded(lambda: self._forward(rows), self._device, doing)

    def _forward(self, rows: list[PixelRow]) -> list[np.ndarray]:
        pixels = torch.from_numpy(np.stack([row.pixels for row in rows]))
        with torch.inference_mode():
            logits = self._model(pixel_values=pixels.to(self._device, self._model.dtype)).logits
        return list(logits.float().cpu().numpy())


def processed(processor: Any, image: Image, name: str) -> np.ndarray:
    """The picture as a processor of transformers makes it ready: float32 (channels, height, width)."""
    opened = open_image(image)
    try:
        made = processor(images=opened, return_tensors="np")["pixel_values"][0]
    except MemoryError:
        raise InsufficientMemory(f"Out of memory while a picture was made ready for {name}.") from None
    except Exception as error:
        raise InvalidImage(
            f"{name} cannot look at a picture of {opened.width} × {opened.height} pixels: {str(error)[:200]} "
            "Send it in another size."
        ) from error
    return np.asarray(made, np.float32)


def load(request: LoadRequest, on_progress: Progress) -> TransformersImages:
    """Reads the files, puts the model on its device, and shows it a picture of noise."""
    quiet()
    if request.threads is not None:
        torch.set_num_threads(request.threads)
    on_progress("loading", {})
    refuse_code(request)
    device = pick_device(request.device)
    with loading_errors(request):
        processor = load_processor(request)
        model = guarded(lambda: _load_model(request, device), device, f"loading {request.name}")
        runtime = TransformersImages(request, model, processor, device)
        on_progress("warming", {})
        runtime.forward([pixel_row(runtime.pixels(noise()))])
    return runtime


def load_processor(request: LoadRequest) -> Any:
    """The image processor of a model's directory, without torchvision."""
    return AutoImageProcessor.from_pretrained(
        request.path, local_files_only=True, trust_remote_code=False, backend="pil"
    )


def _load_model(request: LoadRequest, device: str) -> Any:
    config = AutoConfig.from_pretrained(request.path, local_files_only=True, trust_remote_code=False)
    safe = refuse_pickle(request, Path(request.path))
    model, report = read_weights(request, config, device, safe, AutoModelForImageClassification)
    check_report(request, report)
    return model.eval()
