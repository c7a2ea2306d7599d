"""Repositories of GGUF files: which of them to load, and what the model is by its header."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from core.errors import BerthError, CorruptModel, InvalidRequest, NoSupportedTask, TaskNotSupported
from core.hub.anatomy import of_gguf
from core.hub.files import Files, safe_path
from core.hub.gguf import GgufHeader, read_gguf
from core.hub.gguf_projector import find_sight
from core.hub.source import QUANTIZATION, split_variant
from core.types import Inspection, ModelSpec, RepoFile, Runtime, Task

MIN_CONTEXT = 8  # tokens
_FEW_PARTS = 2  # of a split model on the Hub, whose headers are read before they are here
_ENDING = ".gguf"
_SPLIT = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf")
_QUANTIZATION = re.compile(rf"(?:^|[-._/])({QUANTIZATION})(?=[-._/]|$)", re.IGNORECASE)
_NOT_MODELS = ("mmproj", "imatrix")  # parts of names: what sees for a model, and what it was quantised by
# What to take where nobody said: the usual balance of size and quality first.
_ORDER = ("Q4_K_M", "Q8_0", "Q5_K_M", "Q6_K", "Q4_K_S", "Q4_0", "IQ4_XS", "Q5_K_S", "Q3_K_M", "F16", "BF16", "F32")
# Architectures of llama.cpp that write no text by themselves.
_ENCODERS = frozenset((
    "bert", "eurobert", "gemma-embedding", "jina-bert-v2", "jina-bert-v3", "modern-bert", "neo-bert", "nomic-bert",
    "nomic-bert-moe", "t5encoder",
))  # fmt: skip
_OTHERS = {
    "t5": "an encoder-decoder",
    "clip": "an image encoder",
    "wavtokenizer-dec": "a speech decoder",
    **dict.fromkeys(("dream", "llada", "llada-moe", "rnd1"), "a diffusion model"),
}


def is_gguf(files: Files, spec: ModelSpec, *, pickle_allowed: bool) -> bool:
    """Whether `spec` means a GGUF file: it says so, or there is nothing else that could be loaded."""
    if spec.file is not None:
        return spec.file.endswith(_ENDING)
    if spec.runtime is not None or split_variant(spec.source)[1] is not None:
        return spec.runtime in (None, Runtime.LLAMA_CPP)
    others = (".safetensors", ".onnx", *(("pytorch_model.bin", ".bin.index.json") if pickle_allowed else ()))
    return bool(_models(files)) and not any(path.endswith(others) for path in files.sizes)


def identify_gguf(files: Files, spec: ModelSpec) -> Inspection:
    """What the GGUF file that `spec` means is.

    Raises CorruptModel, NoSupportedTask, TaskNotSupported or InvalidRequest.
    """
    warnings: list[str] = []
    path = _choose(files, spec, warnings)
    paths = _parts(files, path)
    is_near = files.directory is not None or len(paths) <= _FEW_PARTS  # far away each header is a request
    headers = [read_gguf(files, each) for each in (paths if is_near else paths[:1])]
    header = headers[0]
    _check_parts(files, path, headers, len(paths))
    _check_architecture(files, path, header)
    _check_options(files, spec)
    sight = None if spec.task is Task.TEXT_GENERATION else find_sight(files, paths[0], _models(files), warnings)
    if sight is None and spec.task is Task.IMAGE_TEXT_TO_TEXT:
        raise TaskNotSupported(
            f"{path} of {files.name} reads text alone: there is no mmproj file for it. Put one beside it, or load it "
            f"for {Task.TEXT_GENERATION}."
        )
    needed = [*paths, *((sight.path,) if sight else ())]
    if header.chat_template is None:
        warnings.append("It has no chat template; in a chat, its turns are written one under another in plain words.")
    return Inspection(
        spec=replace(spec, file=paths[0]),
        revision=files.revision,
        local=str(files.directory) if files.directory else None,
        files=tuple(RepoFile(each, files.sizes[each]) for each in needed),
        runtime=Runtime.LLAMA_CPP,
        tasks=(Task.IMAGE_TEXT_TO_TEXT, Task.TEXT_GENERATION) if sight else (Task.TEXT_GENERATION,),
        model_type=header.architecture,
        architecture=header.architecture,
        labels=(),
        context_length=_context_length(files, spec, header),
        parameters=sum(each.parameters for each in headers) or None if is_near else None,
        weight_bytes=sum(files.sizes[each] for each in needed),
        dtype=header.file_type,
        license=files.card.license or header.license,
        warnings=tuple(warnings),
        anatomy=of_gguf(headers, sum(files.sizes[each] for each in paths), sight.header if sight else None),
        projector=sight.path if sight else None,
    )


def _models(files: Files) -> list[str]:
    """The GGUF files that hold a model, of a split one the first part."""
    found = []
    for path in sorted(files.sizes):
        split = _SPLIT.fullmatch(path)
        name = path.rpartition("/")[2].lower()
        if (
            path.endswith(_ENDING)
            and not any(part in name for part in _NOT_MODELS)
            and (not split or int(split[2]) == 1)
        ):
            found.append(path)
    return found


def _quantization(path: str) -> str:
    """How the file is quantised by its name, or its folder's; empty when neither says."""
    found = _QUANTIZATION.findall(path.removesuffix(_ENDING))
    return _plain(found[-1]) if found else ""


def _plain(quantization: str) -> str:
    upper = quantization.upper()
    return f"F{upper[2:]}" if upper.startswith("FP") else upper


def _choose(files: Files, spec: ModelSpec, warnings: list[str]) -> str:
    if spec.file is not None:
        return _named(files, spec.file)
    found = _models(files)
    if not found:
        raise InvalidRequest(f"{files.name} has no GGUF file, so llama.cpp cannot run it. Give its name alone.")
    wanted = split_variant(spec.source)[1]
    if wanted is not None:
        chosen = next((path for path in found if _quantization(path) == _plain(wanted)), None)
        if chosen is None:
            have = dict.fromkeys(filter(None, map(_quantization, found)))
            raise InvalidRequest(f"{files.name} has no file quantised to {wanted}. {_offer(have or found)}")
        return chosen
    if len(found) == 1:
        return found[0]
    by_kind = {_quantization(path): path for path in reversed(found)}
    chosen = next((by_kind[kind] for kind in _ORDER if kind in by_kind), found[0])
    others = [path for path in found if path != chosen]
    more = f" and {len(others) - 8} more" if len(others) > 8 else ""
    warnings.append(f"It has {len(found)} GGUF files; {chosen} is used. By `file`: {', '.join(others[:8])}{more}.")
    return chosen


def _named(files: Files, file: str) -> str:
    try:
        path = safe_path(file, files.name)
    except CorruptModel:
        raise InvalidRequest(f"`file` must be the path of a file inside {files.name}.") from None
    if path not in files.sizes:
        raise InvalidRequest(f"{files.name} has no file {path[:120]!r}. {_offer(_models(files))}")
    return path


def _offer(names: Iterable[str]) -> str:
    shown = ", ".join(list(names)[:12])
    return f"Choose one of: {shown}." if shown else "Leave `file` out."


def _parts(files: Files, path: str) -> list[str]:
    """All parts of the split model that `path` is one of, in order, or `path` alone. Raises CorruptModel."""
    split = _SPLIT.fullmatch(path)
    if split is None:
        return [path]
    parts = [f"{split[1]}-{number:05}-of-{split[3]}{_ENDING}" for number in range(1, int(split[3]) + 1)]
    missing = next((part for part in parts if part not in files.sizes), None)
    if missing is not None or path not in parts:
        raise CorruptModel(
            f"{files.name} lacks {missing or 'a first part'}, one of {len(parts)} parts. Fetch it again."
        )
    return parts


def _check_parts(files: Files, path: str, headers: list[GgufHeader], parts: int) -> None:
    said = [(header.part, header.parts) for header in headers]
    if said != [(index, parts) for index in range(len(headers))]:
        raise CorruptModel(f"{path} of {files.name} and the parts beside it are not of one model. Fetch them again.")


def _check_architecture(files: Files, path: str, header: GgufHeader) -> None:
    """Raises NoSupportedTask for what writes no text."""
    if header.kind != "model" or not header.architecture:
        what = f"is of type {header.kind[:40]!r}" if header.architecture else "names no architecture"
        raise NoSupportedTask(f"{path} of {files.name} {what}, so it is no model that can be run. Choose another file.")
    if header.architecture in _ENCODERS:
        raise NoSupportedTask(
            f"{path} of {files.name} is an encoder ({header.architecture}), and GGUF files are run here to write text. "
            "Load the model from its safetensors or ONNX files."
        )
    if header.architecture in _OTHERS:
        raise NoSupportedTask(
            f"{path} of {files.name} is {_OTHERS[header.architecture]} ({header.architecture}), which cannot be run "
            "from GGUF here. Choose a model that writes text."
        )
    if not header.tensors or header.vocabulary is None:
        raise CorruptModel(f"{path} of {files.name} holds no weights or no vocabulary, so it is no whole model.")


def _check_options(files: Files, spec: ModelSpec) -> None:
    """Raises what is wrong with `spec`, for a GGUF file."""
    error: BerthError | None = None
    if spec.runtime not in (None, Runtime.LLAMA_CPP):
        error = InvalidRequest(f"GGUF files of {files.name} run on llama.cpp, not on {spec.runtime}.")
    elif spec.task not in (None, Task.TEXT_GENERATION, Task.IMAGE_TEXT_TO_TEXT):
        error = TaskNotSupported(f"{files.name} cannot do {spec.task}: GGUF files are for {Task.TEXT_GENERATION}.")
    elif spec.quantization is not None:
        error = InvalidRequest(
            "`quantization` is for safetensors. A GGUF file is quantised as it is: choose one by `file`."
        )
    if error is not None:
        raise error


def _context_length(files: Files, spec: ModelSpec, header: GgufHeader) -> int | None:
    """Tokens. Raises InvalidRequest when `spec` asks for more than the model has."""
    longest = header.context_length
    if spec.context_length is None:
        return longest
    if spec.context_length < MIN_CONTEXT or (longest is not None and spec.context_length > longest):
        up_to = f"{MIN_CONTEXT} to {longest:,}" if longest else f"at least {MIN_CONTEXT}"
        raise InvalidRequest(
            f"`context_length` of {files.name} can be {up_to} tokens; {spec.context_length:,} were asked for."
        )
    return spec.context_length
