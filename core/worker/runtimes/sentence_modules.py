"""The files of a sentence-transformers model: which modules, which pooling, which prompts. No library needed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from core.errors import CorruptModel, LoadFailed, RemoteCodeRefused
from core.worker.runtimes.repository import read_json

# in the order in which sentence-transformers joins them
_POOLINGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


@dataclass(frozen=True, slots=True)
class Step:
    """One module of modules.json."""

    kind: str  # Transformer, Pooling, Dense, Normalize, …
    folder: str  # inside the model's directory; "" for its root


@dataclass(frozen=True, slots=True)
class Prompts:
    texts: dict[str, str]
    default: str | None


def read_steps(root: Path, name: str) -> list[Step]:
    """The modules in order, [] when the directory is no sentence-transformers model.

    Raises RemoteCodeRefused for modules from elsewhere and for Python files beside the weights, which the
    library would run from a local directory; CorruptModel for folders that lead outside.
    """
    modules = read_json(root / "modules.json", name)
    if modules is None:
        return []
    if any(root.glob("*.py")) or any(root.glob("*/*.py")):
        raise RemoteCodeRefused(f"{name} brings Python code along. Code of a repository is never run here.")
    if not isinstance(modules, list) or not all(isinstance(module, dict) for module in modules):
        raise CorruptModel(f"`modules.json` of {name} is not a list of modules. Download the model again.")
    steps = []
    for module in modules:
        kind, folder = str(module.get("type")), str(module.get("path", ""))
        if not kind.startswith("sentence_transformers."):
            raise RemoteCodeRefused(
                f"`modules.json` of {name} names the module `{kind[:100]}`, which is not part of "
                "sentence-transformers. Code from elsewhere is never run here."
            )
        if PurePosixPath(folder).is_absolute() or ".." in PurePosixPath(folder).parts:
            raise CorruptModel(f"`modules.json` of {name} leads outside the model's directory.")
        steps.append(Step(kind.rpartition(".")[2], folder))
    return steps


def read_prompts(root: Path, name: str) -> Prompts:
    """Prompts by their names, those that say nothing left out."""
    said: Any = read_json(root / "config_sentence_transformers.json", name) or {}
    texts = {str(key): str(text) for key, text in (said.get("prompts") or {}).items() if text}
    default = said.get("default_prompt_name")
    return Prompts(texts, default if default in texts else None)


def read_pooling(folder: Path, name: str) -> tuple[tuple[str, ...], bool]:
    """The pooling modes of a Pooling module, and whether a prompt's tokens count."""
    said: Any = read_json(folder / "config.json", name) or {}
    modes = said.get("pooling_mode") or [mode for key, mode in _POOLINGS.items() if said.get(key)] or "mean"
    modes = (modes,) if isinstance(modes, str) else tuple(modes)
    if unknown := set(modes) - set(_POOLINGS.values()):
        raise LoadFailed(f"{name} pools its tokens by {', '.join(sorted(map(str, unknown)))}, which is not known here.")
    return modes, bool(said.get("include_prompt", True))


def read_transformer(folder: Path, name: str) -> tuple[int | None, bool]:
    """The maximum length in tokens that a Transformer module names, and whether it lowers its texts."""
    said: Any = read_json(folder / "sentence_bert_config.json", name) or {}
    longest = said.get("max_seq_length")
    return longest if isinstance(longest, int) and longest > 0 else None, bool(said.get("do_lower_case", False))
