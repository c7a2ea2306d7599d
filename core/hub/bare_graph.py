"""A model that is an ONNX graph and nothing else: taken for a classifier of pictures, the one kind that runs so."""

from __future__ import annotations

from dataclasses import replace

from core.hub.anatomy import of_graphs
from core.hub.files import Files
from core.hub.graph import read_graph_tensors
from core.hub.weights import SMALL_GRAPH, choose_weights
from core.types import Inspection, ModelSpec, RepoFile, Runtime, Task

_DOCUMENTS = ("config.json", "onnx/config.json", "modules.json")


def is_bare_graph(files: Files, spec: ModelSpec) -> bool:
    """Whether nothing but a graph says what the model is."""
    return (
        spec.task in (None, Task.IMAGE_CLASSIFICATION)
        and spec.runtime in (None, Runtime.ONNXRUNTIME)
        and not any(path in files.sizes for path in _DOCUMENTS)
        and any(path.endswith(".onnx") for path in files.sizes)
    )


def identify_bare_graph(files: Files, spec: ModelSpec) -> Inspection:
    """Raises InvalidRequest where there are several graphs and none is chosen, CorruptModel."""
    weights = choose_weights(files, replace(spec, runtime=Runtime.ONNXRUNTIME), ("",), pickle_allowed=False)
    graphs = [path for path in weights.paths if path.endswith(".onnx")]
    total = sum(files.sizes[path] for path in weights.paths)
    is_near = files.directory is not None or total <= SMALL_GRAPH
    found = [read_graph_tensors(files, path) for path in graphs] if is_near else []
    processors = [path for path in files.sizes if path == "preprocessor_config.json"]
    warnings = ["It has no config.json; taken for a classifier of pictures, and its labels are numbers."]
    if not processors:
        warnings.append("It has no preprocessor_config.json; pictures are made ready as for ImageNet.")
    return Inspection(
        spec=replace(spec, file=weights.file),
        revision=files.revision,
        local=str(files.directory) if files.directory else None,
        files=tuple(RepoFile(path, files.sizes[path]) for path in (*processors, *weights.paths)),
        runtime=Runtime.ONNXRUNTIME,
        tasks=(Task.IMAGE_CLASSIFICATION,),
        model_type="onnx",
        architecture="",
        labels=(),
        context_length=None,
        parameters=None,
        weight_bytes=total,
        dtype=None,
        license=files.card.license,
        warnings=tuple(warnings),
        anatomy=of_graphs({}, found, total, two_parts=False),
    )
