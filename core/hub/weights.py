"""Which files of a repository hold its weights, and which others loading needs: one format, nothing to spare."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any

from core.errors import CallerError, CorruptModel, InvalidRequest, NoSupportedTask, PickleRefused
from core.graphs import graphs_of, seeing_graphs_of
from core.halves import halves_of
from core.hub.files import Files, safe_path
from core.hub.graph import external_data
from core.hub.tensors import shards_of
from core.types import ModelSpec, Runtime

_ONNX_ORDER = tuple(
    f"{folder}{stem}.onnx"
    for stem in ("model", "decoder_model_merged", "model_quantized", "decoder_model_merged_quantized")
    for folder in ("onnx/", "")
)
_OTHER_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib")
_OTHER_FORMATS = {".h5": "TensorFlow", ".msgpack": "Flax", ".ot": "rust-bert"}
# Files of a tokenizer or a configuration, in a folder that holds a part of the model.
_SUPPORT = (
    "config.json", "tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*", "vocab", "merges.txt",
    "*.model", "*.spm", "bpe.codes", "bpe.vocab", "dict.txt", "entity_vocab.json", "modules.json",
    "config_sentence_transformers.json", "sentence_*config.json", "router_config.json", "word_shape.json",
    "word_pronunciation.json", "preprocessor_config.json", "generation_config.json", "chat_template.jinja",
    "processor_config.json", "chat_template.json",
)  # fmt: skip
_HALVES = ("encoder_", "decoder_")  # what the names of an encoder-decoder's graphs begin with
SMALL_GRAPH = 8 * 1024 * 1024  # bytes; a larger one on the Hub is not read before it is here: most of it are tensors
_MAX_SUPPORT = 256 * 1024 * 1024  # bytes of one such file; the largest tokenizers have 40 MB


class Format(StrEnum):
    SAFETENSORS = "safetensors"
    PICKLE = "pickle"
    ONNX = "onnx"


@dataclass(frozen=True, slots=True)
class Weights:
    format: Format
    paths: tuple[str, ...]  # the files with tensors
    index: str | None = None  # that names them, when there is more than one
    file: str | None = None  # the ONNX graph; where several run together, the decoder's


def choose_weights(files: Files, spec: ModelSpec, folders: tuple[str, ...], *, pickle_allowed: bool) -> Weights:
    """The weights to load from `folders` (module folders, "" is the root), safetensors before all else.

    Raises PickleRefused, CorruptModel, InvalidRequest or NoSupportedTask, each saying what there is instead.
    """
    if spec.file is not None:
        return _named(files, spec, folders, pickle_allowed=pickle_allowed)
    if spec.runtime is Runtime.ONNXRUNTIME:
        return _onnx(files, _choose_onnx(files, folders))
    chosen = _tensor_files(files, folders)
    if chosen and (chosen.format is Format.SAFETENSORS or pickle_allowed):
        return chosen
    if spec.runtime is None and any(path.endswith(".onnx") for path in files.sizes):
        return _onnx(files, _choose_onnx(files, folders))
    if chosen:
        raise pickle_refused(files.name)
    raise _no_weights(files)


def support_files(files: Files, folders: Iterable[str]) -> tuple[str, ...]:
    """Configuration and tokenizer files in `folders`; never code, never weights."""
    wanted = set(folders)
    found = []
    for path, size in files.sizes.items():
        folder, _, name = path.rpartition("/")
        if folder in wanted and size <= _MAX_SUPPORT and not name.endswith(_OTHER_PICKLES + (".py", ".onnx")):
            found.extend([path] if any(fnmatchcase(name, pattern) for pattern in _SUPPORT) else [])
    return tuple(found)


def pickle_refused(name: str) -> PickleRefused:
    return PickleRefused(
        f"{name} has only pickled weights (pytorch_model.bin). They are read as plain tensors, and only when an "
        "admin loads the model and ALLOW_PICKLE_WEIGHTS is not false. Or choose a revision with safetensors."
    )


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _tensor_files(files: Files, folders: tuple[str, ...]) -> Weights | None:
    """Weights of the first of `folders`, and of those behind it that have any. One pickle makes all of it PICKLE."""
    main = _folder_weights(files, folders[0])
    if main is None:
        return None
    rest = [each for folder in folders[1:] if (each := _folder_weights(files, folder))]
    kinds = {main.format, *(each.format for each in rest)}
    paths = (*main.paths, *(path for each in rest for path in each.paths))
    return Weights(Format.PICKLE if Format.PICKLE in kinds else Format.SAFETENSORS, paths, main.index)


def _folder_weights(files: Files, folder: str) -> Weights | None:
    for kind, name in ((Format.SAFETENSORS, "model.safetensors"), (Format.PICKLE, "pytorch_model.bin")):
        single, index = _join(folder, name), _join(folder, f"{name}.index.json")
        if single in files.sizes:
            return Weights(kind, (single,))
        if index in files.sizes:
            return Weights(kind, shards_of(files, index), index)
    return None


def _named(files: Files, spec: ModelSpec, folders: tuple[str, ...], *, pickle_allowed: bool) -> Weights:
    try:
        path = safe_path(str(spec.file), files.name)
    except CorruptModel:
        raise InvalidRequest(f"`file` must be the path of a file inside {files.name}.") from None
    if path not in files.sizes:
        raise InvalidRequest(f"{files.name} has no file {path[:120]!r}. {_offer(files)}")
    if path.endswith(".onnx"):
        return _onnx(files, path)
    if path.endswith(_OTHER_PICKLES) and not pickle_allowed:
        raise pickle_refused(files.name)
    chosen = _tensor_files(files, folders)
    if chosen and path in (*chosen.paths, chosen.index):
        return chosen
    raise InvalidRequest(f"{path} of {files.name} cannot be loaded by itself. {_offer(files)}")


def _offer(files: Files) -> str:
    graphs = [path for path in files.sizes if path.endswith(".onnx")]
    if not graphs:
        return "Leave `file` out to load its standard weights."
    return f"Leave `file` out, or choose one of: {', '.join(graphs[:12])}."


def _choose_onnx(files: Files, folders: tuple[str, ...]) -> str:
    graphs = [path for path in files.sizes if path.endswith(".onnx")]
    seeing = [found for path in graphs if (found := seeing_graphs_of(path, files.sizes))]
    if seeing:  # full precision has the shortest name
        return min(seeing, key=lambda found: (found.is_mixed, len(found.decoder))).decoder
    order = (*_ONNX_ORDER, *(_join(folder, each) for folder in folders for each in _ONNX_ORDER))
    chosen = next((path for path in order if path in files.sizes), None)
    if chosen is None:
        halves = [each for path in graphs if (each := halves_of(path, files.sizes))]
        # full precision has the shortest name; a merged decoder is one file
        best = min(halves, key=lambda each: (len(each.encoder), len(each.paths)), default=None)
        chosen = best.first if best else None
    if chosen is None and (len(graphs) == 1 or any(_is_half(files, path) for path in graphs)):
        chosen = graphs[0]
    if chosen is not None:
        return chosen
    if not graphs:
        raise InvalidRequest(f"{files.name} has no ONNX file, so onnxruntime cannot run it. Leave `runtime` out.")
    raise InvalidRequest(f"{files.name} has several ONNX files. Choose one by `file`: {', '.join(graphs[:12])}.")


def _onnx(files: Files, path: str) -> Weights:
    """The graph at `path` and the files its tensors lie in.

    A graph is read for them when it is here or small. A large one on the Hub is not, since that would fetch most of
    it: the files named after it are taken, and `Hub.fetch` reads it once it is here.
    """
    halves, seeing = halves_of(path, files.sizes), seeing_graphs_of(path, files.sizes)
    if halves is None and seeing is None and _is_half(files, path):
        raise NoSupportedTask(
            f"{path} of {files.name} is one half of an encoder-decoder. Beside encoder_model.onnx it takes "
            "decoder_model_merged.onnx, or decoder_model.onnx and decoder_with_past_model.onnx, of the same precision. "
            "Choose a file that has them, or a repository with safetensors."
        )
    tensors = (_with_data(files, each) for each in graphs_of(path, files.sizes))
    main = halves.first if halves else seeing.decoder if seeing else path
    return Weights(Format.ONNX, tuple(dict.fromkeys(each for every in tensors for each in every)), file=main)


def _with_data(files: Files, path: str) -> tuple[str, ...]:
    if files.directory is not None or files.sizes[path] <= SMALL_GRAPH:
        return (path, *external_data(files, path))
    beside = (f"{path}_data", f"{path}.data")
    return (path, *(each for each in files.sizes if each.startswith(beside)))


def _is_half(files: Files, path: str) -> bool:
    """Whether the graph at `path` is the encoder or the decoder of a model that has both."""
    folder, _, name = path.rpartition("/")
    graphs = [each for each in files.sizes if each.endswith(".onnx") and each.rpartition("/")[0] == folder]
    halves = {half for half in _HALVES for each in graphs if each.rpartition("/")[2].startswith(half)}
    return halves == set(_HALVES) and name.startswith(_HALVES)


def _no_weights(files: Files) -> CallerError:
    """Why there is nothing to load, as the most helpful of errors."""
    endings = {ending for ending in _OTHER_FORMATS if any(path.endswith(ending) for path in files.sizes)}
    if "adapter_config.json" in files.sizes:
        return NoSupportedTask(f"{files.name} is an adapter for another model. Load a merged model instead.")
    if any(path.endswith(_OTHER_PICKLES) for path in files.sizes):
        return PickleRefused(
            f"{files.name} keeps its weights in a pickle that is not pytorch_model.bin. Save the model with "
            "save_pretrained(…, safe_serialization=True) and load that."
        )
    if endings:
        kinds = ", ".join(sorted(_OTHER_FORMATS[ending] for ending in endings))
        return NoSupportedTask(f"{files.name} has weights for {kinds} only. Choose one with safetensors or ONNX files.")
    return CorruptModel(
        f"{files.name} has no weights (model.safetensors, its shards, pytorch_model.bin or *.onnx). Check the name."
    )


def module_folders(modules: Any, name: str) -> tuple[str, ...]:
    """Folders of a sentence-transformers model's modules, in order, "" for the root. Raises CorruptModel."""
    if not isinstance(modules, list) or not 0 < len(modules) <= 32:
        raise CorruptModel(f"modules.json of {name} must list the model's modules.")
    folders = []
    for entry in modules:
        path = entry.get("path") if isinstance(entry, dict) else None
        if not isinstance(path, str):
            raise CorruptModel(f"modules.json of {name} has a module without a path.")
        folders.append("" if path in ("", ".", "./") else safe_path(path.removeprefix("./").rstrip("/"), name))
    return tuple(dict.fromkeys(folders))
