"""What a model's tower of images takes, out of its configuration and that of its processor; which graphs can look."""

from __future__ import annotations

from typing import Any

from core.errors import NoSupportedTask
from core.graphs import seeing_graphs_of
from core.hub.architectures import SEEING_GRAPH_TYPES
from core.hub.files import Files
from core.types import Task

_MOST = 1 << 26  # a size beyond it is a mistake
TILES = 4  # of an image that is split, through the tower at once at most, as `transformers_vision` has it
MOST_PATCHES = 4096  # of an image that a graph sees as a whole, as `onnxruntime_vision` has it
# Where a configuration leaves a size to its class.
_HIDDEN, _PATCH, _SIDE, _PIXELS = 1152, 14, 384, 28 * 28 * 1280


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
            "embed_tokens.onnx and decoder_model_merged.onnx of the same precision in one folder. Choose a file that "
            "has them, or a repository with safetensors."
        )
    if is_whole and not is_wanted:
        raise NoSupportedTask(
            f"{graph} of {files.name} is a part of a model that looks at images, which its config.json does not say it "
            f"is: it runs models for {tasks[0]}. Choose a repository with safetensors."
        )


def sight_of(config: dict[str, Any], processing: dict[str, Any], *, as_graph: bool = False) -> dict[str, Any]:
    """The fields of Anatomy that say what an image takes, cut as `processing` (preprocessor_config.json) says.

    Empty for a model without a tower. `as_graph`: it is one of ONNX, which sees one tile at a time.
    """
    tower = config.get("vision_config")
    if not isinstance(tower, dict):
        return {}
    hidden = _number(tower, "embed_dim", "hidden_size") or _HIDDEN
    patch = _number(tower, "patch_size", "spatial_patch_size") or _PATCH
    merge = _number(tower, "spatial_merge_size")
    if merge:  # Qwen2-VL and its like: an image keeps its shape
        size = processing.get("size")
        pixels = _number(processing, "max_pixels") or (_number(size, "longest_edge") if isinstance(size, dict) else 0)
        patches = (pixels or _PIXELS) // patch**2
        patches = min(patches, MOST_PATCHES) if as_graph else patches
    else:
        patches = ((_number(tower, "image_size") or _SIDE) // patch) ** 2
        patches *= 1 if as_graph else _tiles(config, tower)
    return {
        "image_hidden": hidden,
        "image_intermediate": _number(tower, "intermediate_size") or hidden * (_number(tower, "mlp_ratio") or 4),
        "image_patches": patches,
        "image_merge": (merge or _number(config, "scale_factor") or 1) ** 2,
    }


def _tiles(config: dict[str, Any], tower: dict[str, Any]) -> int:
    """Tiles of one image that go through the tower together."""
    if "scale_factor" in config:
        return TILES
    side = _number(tower, "image_size") or _SIDE
    points = config.get("image_grid_pinpoints") or config.get("possible_resolutions")
    areas = [_area(point) // side**2 for point in points] if isinstance(points, list) else []
    return 1 + max((*areas, _number(config, "max_num_grids")), default=0)


def _area(point: Any) -> int:
    is_pair = isinstance(point, list) and len(point) == 2 and all(type(each) is int and each > 0 for each in point)
    return min(point[0] * point[1], _MOST) if is_pair else 0


def _number(config: dict[str, Any], *names: str) -> int:
    return next((config[name] for name in names if type(config.get(name)) is int and 0 < config[name] < _MOST), 0)
