"""Which GGUF file sees for a model, where its repository has one: an `mmproj` file beside it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from core.hub.files import Files
from core.hub.gguf import GgufHeader, read_gguf
from core.hub.source import QUANTIZATION

_MARK = "mmproj"
_ENDING = ".gguf"
# What to take of several: a tower is small beside its model, and loses more by quantisation.
_ORDER = ("f16", "fp16", "bf16", "q8_0", "f32", "fp32")
_QUANTIZATION = re.compile(rf"(?:^|[-._])({QUANTIZATION})(?=[-._]|$)", re.IGNORECASE)
_PART = re.compile(r"-\d{5}-of-\d{5}$")
_WORDS = re.compile(r"[-._]+")
# Ways whose layout of an image depends on what stands before it, which the runtime does not give to them.
_UNSUPPORTED = frozenset(("hunyuanvl", "deepseek4v"))


@dataclass(frozen=True, slots=True)
class Sight:
    """The file that sees for a model."""

    path: str
    header: GgufHeader


def find_sight(files: Files, model: str, models: Iterable[str], warnings: list[str]) -> Sight | None:
    """What sees for the GGUF file `model`, `models` being all that hold models; what is left aside is said.

    Raises CorruptModel for a damaged file.
    """
    path = choose_projector(files.sizes, model, models)
    if path is None:
        return None
    header = read_gguf(files, path)
    why = None
    if header.projector is None or not header.tensors:
        why = "is no image encoder"
    elif not header.projector.sees:
        why = "sees no images"
    elif header.projector.kind in _UNSUPPORTED:
        why = f"is a {header.projector.kind}, which cannot be run here"
    if why is not None:
        warnings.append(f"{path} {why} and is left aside: the model reads text alone.")
        return None
    return Sight(path, header)


def choose_projector(paths: Iterable[str], model: str, models: Iterable[str]) -> str | None:
    """The mmproj file among `paths` that goes with `model`.

    One that bears the model's name, else one that bears none, where all `models` beside it are one model; those in the
    folder of the model before those above it, and then by precision.
    """
    folder = _folder(model)
    folders = [folder, *(("",) if folder else ())]
    name = _base(model)
    found = [path for path in paths if _is_projector(path) and _folder(path) in folders]
    is_alone = len({_base(each) for each in models if _folder(each) in folders}) <= 1
    fitting = [path for path in found if _names(_base(path), name) or is_alone]

    def order(path: str) -> tuple[bool, int, int, str]:
        return not _names(_base(path), name), folders.index(_folder(path)), _rank(path), path

    return min(fitting, key=order, default=None)


def _is_projector(path: str) -> bool:
    return path.endswith(_ENDING) and _MARK in path.rpartition("/")[2].lower()


def _folder(path: str) -> str:
    return path.rpartition("/")[0]


def _names(words: frozenset[str], model: frozenset[str]) -> bool:
    """Whether a projector whose name has `words` is named after the model."""
    return bool(words) and (words <= model or model <= words)


def _base(path: str) -> frozenset[str]:
    """The words of a file's name, but for those that say how it is quantised and what it is."""
    name = _PART.sub("", path.rpartition("/")[2].lower().removesuffix(_ENDING))
    return frozenset(_WORDS.split(_QUANTIZATION.sub("-", name))) - {"", _MARK, "model"}


def _rank(path: str) -> int:
    words = [each.lower() for each in _QUANTIZATION.findall(path.rpartition("/")[2].removesuffix(_ENDING))]
    return next((_ORDER.index(word) for word in reversed(words) if word in _ORDER), len(_ORDER))
