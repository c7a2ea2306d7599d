"""What a model's tower of images takes, out of its configuration and that of its processor; which graphs can look."""

from __future__ import annotations

from typing import Any

from core.errors import NoSupportedTask
from core.graphs import seeing_graphs_of
from core.hub.architectures import SEEING_GRAPH_TYPES
from core.hub.files import Files
from core.types import Task

_MOST = 1 << 26  # a size beyond it is a mistake
MOST_PATCHES = 4096  # of an image that a graph sees as a whole, as `onnxruntime_vision` has it
# Where a configuration leaves a size to its class.
_HIDDEN, _PATCH, _SIDE, _PIXELS, _IDEFICS = 1152, 14, 384, 28 * 28 * 1280, 4  # tiles a side at most


def check_graphs(files: Files, graph: str, model_type: str, tasks: tuple[Task, ...]) -> None:
    """Raises NoSupportedTask where what the graphs are and what the model does are not of one kind."""
    is_whole, is_wanted = seeing_graphs_of(graph, files.sizes) is not None, Task.IMAGE_TEXT_TO_TEXT in tasks
    if is_wanted and model_type not in SEEING_GRAPH_TYPES:
        raise NoSupportedTask(
            f"{files.name} looks at images, and {graph} is an ONNX file. As such {model_type[:64]} does not run here; "
            f"{', '.join(sorted(SEEING_GRAPH_TYPES))} do. Choose a repository with safetensors, or a GGUF file "
            "with its mmproj."
        )
    if is_wanted and not is_whole:
        raise NoSupportedTask(
            f"{files.name} looks at images, and {graph} is one ONNX file. It takes vision_encoder.onnx, "
            "embed_tokens.onnx and decoder_model_merged.onnx in one folder; of a decoder that has none of its own "
            "precision beside it, full ones, or those of _fp16 or _quantized. Choose a file that has them, or a "
            "repository with safetensors."
        )
    if is_whole and not is_wanted:
        raise NoSupportedTask(
            f"{graph} of {files.name} is a part of a model that looks at images, which its config.json does not say it "
            f"is: it runs models for {tasks[0]}. Choose a repository with safetensors."
        )


def sight_of(config: dict[str, Any], processing: dict[str, Any], *, as_graph: bool = False) -> dict[str, Any]:
    """The fields of Anatomy that say what an image takes, cut as `processing` (settings of its processor) says.

    Empty for a model without a tower. `as_graph`: it is one of ONNX.
    """
    tower = config.get("vision_config")
    if not isinstance(tower, dict):
        return {}
    hidden = _number(tower, "embed_dim", "hidden_size") or _HIDDEN
    patch = _number(tower, "patch_size", "spatial_patch_size") or _PATCH
    merge = _number(tower, "spatial_merge_size")
    if merge:  # Qwen2-VL and its like: an image keeps its shape
        patches = (_number(processing, "max_pixels") or _longest(processing, "size") or _PIXELS) // patch**2
        tile = patches = min(patches, MOST_PATCHES) if as_graph else patches
    else:
        tile = ((_number(tower, "image_size") or _SIDE) // patch) ** 2
        patches = tile * _tiles(config, tower, processing)
    return {
        "image_hidden": hidden,
        "image_intermediate": _number(tower, "intermediate_size") or hidden * (_number(tower, "mlp_ratio") or 4),
        "image_patches": patches,
        "image_tile": tile,
        "image_merge": (merge or _number(config, "scale_factor") or 1) ** 2,
    }


def _tiles(config: dict[str, Any], tower: dict[str, Any], processing: dict[str, Any]) -> int:
    """Of an image at most, which is seen as a whole too where it is split."""
    side = _number(tower, "image_size") or _SIDE
    if "scale_factor" in config:  # Idefics3 and SmolVLM: cut as the processor says
        if processing.get("do_image_splitting") is False:
            return 1
        tile = _longest(processing, "max_image_size") or side
        return 1 + (-(-(_longest(processing, "size") or _IDEFICS * tile) // tile)) ** 2
    points = config.get("image_grid_pinpoints") or config.get("possible_resolutions")
    areas = [_area(point) // side**2 for point in points] if isinstance(points, list) else []
    return 1 + max((*areas, _number(config, "max_num_grids")), default=0)


def _longest(processing: dict[str, Any], name: str) -> int:
    size = processing.get(name)
    return _number(size, "longest_edge") if isinstance(size, dict) else 0


def _area(point: Any) -> int:
    is_pair = isinstance(point, list) and len(point) == 2 and all(type(each) is int and each > 0 for each in point)
    return min(point[0] * point[1], _MOST) if is_pair else 0


def _number(config: dict[str, Any], *names: str) -> int:
    return next((config[name] for name in names if type(config.get(name)) is int and 0 < config[name] < _MOST), 0)
