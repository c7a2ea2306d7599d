"""What a load takes of each device: headers and settings in, bytes out. No process, no clock, no device is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from core.memory.keyvalues import cache_of, context_of
from core.memory.overhead import activation_bytes, context_bytes, kept_image_bytes, pixel_bytes, process_bytes
from core.memory.projector import with_projector
from core.memory.weights import item_bytes, weight_bytes
from core.settings import Settings
from core.types import Inspection, Need, Runtime

_SHORT_CONTEXT = 512  # tokens, of an encoder that does not say how many it reads


def devices_of(inspection: Inspection, settings: Settings, gpus: Sequence[str]) -> tuple[str, ...]:
    """Where the load may go, best first: "cpu", or GPUs."""
    asked = settings.chosen_device if inspection.spec.device == "auto" else inspection.spec.device
    is_on_host = inspection.runtime is Runtime.LLAMA_CPP and layers_of(inspection, settings) == 0
    if asked == "cpu" or not gpus or is_on_host:
        return ("cpu",)
    return tuple(gpus) if asked in ("auto", "cuda") else (asked,)


def needs_of(inspection: Inspection, settings: Settings, device: str) -> tuple[Need, ...]:
    """The bytes that loading `inspection` on `device` ("cpu", "cuda:0") takes, device by device."""
    number, quantization = item_bytes(inspection, device), inspection.spec.quantization
    sequences = settings.max_sequences
    context = context_of(inspection) if inspection.tasks[0].generates else inspection.context_length or _SHORT_CONTEXT
    process = process_bytes(inspection, quantization, device)
    cache = cache_of(inspection, number, sequences, settings.max_cached_tokens)
    kept = kept_image_bytes(inspection, number, cache.tokens)
    is_kept_on_host = inspection.runtime is Runtime.ONNXRUNTIME and device != "cpu"
    host = Need(
        "cpu",
        cache=kept if is_kept_on_host else 0,
        overhead=process + pixel_bytes(inspection, sequences, context),
    )
    need = Need(
        device=device,
        weights=weight_bytes(inspection, quantization, number),
        cache=cache.total + (0 if is_kept_on_host else kept),
        activations=activation_bytes(inspection, device, number, sequences, context),
        overhead=host.overhead if device == "cpu" else context_bytes(inspection),
    )
    if inspection.runtime is Runtime.LLAMA_CPP:
        is_split = device != "cpu"
        needs = _split(inspection, layers_of(inspection, settings), need, host) if is_split else (need,)
        return with_projector(inspection, needs, context, sequences)
    return (need,) if device == "cpu" else (need, host)


def cached_tokens(inspection: Inspection, settings: Settings, device: str) -> int:
    """Tokens of all answers together that `needs_of` reckons with."""
    number = item_bytes(inspection, device)
    return cache_of(inspection, number, settings.max_sequences, settings.max_cached_tokens).tokens


def layers_of(inspection: Inspection, settings: Settings) -> int:
    """Of a GGUF model, on the GPU; one more than it has layers: its head too."""
    spec = inspection.spec
    asked = spec.gpu_layers if spec.gpu_layers is not None else settings.gpu_layers
    most = inspection.anatomy.layers + 1
    return most if asked is None or asked < 0 else min(asked, most)


def _split(inspection: Inspection, layers: int, gpu: Need, host: Need) -> tuple[Need, ...]:
    """Layers on the GPU with their keys and values; the others, and the table of the vocabulary, on the host."""
    anatomy = inspection.anatomy
    rest = anatomy.tensor_bytes - anatomy.layer_bytes
    share = min(layers, anatomy.layers) / max(anatomy.layers, 1)
    there = int(anatomy.layer_bytes * share)
    head = rest if layers > anatomy.layers else 0
    return (
        replace(gpu, weights=there + head, cache=int(gpu.cache * share)),
        replace(
            host,
            weights=rest + anatomy.layer_bytes - there,
            cache=gpu.cache - int(gpu.cache * share),
            activations=gpu.activations,
        ),
    )


def promised_bytes(inspection: Inspection, settings: Settings, device: str = "cpu") -> int:
    """All that a load is promised, on all devices together."""
    return sum(need.total for need in needs_of(inspection, settings, device))
