"""What models were seen to take, kept on disk: it corrects what is reckoned the next time.

Kept is the most that a model with its settings took since it was ready, over all its lives. Not what it took last: one
that was loaded and never used has its cache still to fill, and pages of its weights still to be touched.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from core.memory.keyvalues import context_of
from core.memory.need import cached_tokens, layers_of
from core.settings import MIB, Settings
from core.types import Inspection, Need, Runtime

log = logging.getLogger(__name__)

KEPT = 500  # models and settings
MAX_FILE = 2 * MIB  # bytes that are read
TIMES = 8  # a figure so many times what is reckoned, or the share, is a leak or a lie, and no property of the model
_MOST_TEXT = 4096  # characters of a field
_KINDS = ("cpu", "cuda")

Fields = dict[str, str | int | None]


@dataclass(frozen=True, slots=True)
class Seen:
    """What a model with its settings was seen to take."""

    most: Mapping[str, int]  # bytes by kind of device
    was_used: bool = False  # for at least one answer

    def on(self, device: str) -> int | None:
        return self.most.get(kind_of(device))

    def joined(self, other: Seen) -> Seen:
        most = {kind: max(self.most.get(kind, 0), other.most.get(kind, 0)) for kind in {**self.most, **other.most}}
        return Seen(most, self.was_used or other.was_used)


def kind_of(device: str) -> str:
    return device.partition(":")[0]


def corrected(device: str, reckoned: int, growth: int, seen: Seen | None) -> int:
    """Bytes to promise on `device`; `growth` are those of the `reckoned` that only use takes: cache and activations.

    Never less than was seen. Never less than reckoned on the host either: a process shows itself without the pages that
    it shares with others, such as a file that two models map, and has them all once those have gone. A GPU's memory is
    nobody else's, so there a model that was used has shown what rests; it may still grow by its whole cache and pass.
    """
    most = seen.on(device) if seen else None
    if seen is None or most is None or not reckoned <= most * TIMES <= reckoned * TIMES * TIMES:
        return reckoned
    if kind_of(device) == "cpu" or not seen.was_used:
        return max(reckoned, most)
    return max(most, min(reckoned, most + growth))


def correct(needs: Sequence[Need], seen: Seen | None) -> tuple[Need, ...]:
    """`needs` with what was seen beside what is reckoned."""
    return tuple(
        replace(
            need,
            correction=corrected(need.device, need.reckoned, need.cache + need.activations, seen) - need.reckoned,
        )
        for need in needs
    )


class Calibration:
    """What was seen of the last `KEPT` models, in a JSON file; without a `path` as long as this object lives.

    `version`: of this program; what another one wrote does not count.
    """

    def __init__(self, path: Path | None = None, version: str = "") -> None:
        self._path, self._version = path, version
        self._seen: dict[str, Seen] = {}  # by fields as JSON, the newest last
        self._is_changed = False
        self._saving = asyncio.Lock()

    def read(self) -> None:
        """Takes what the file holds. What cannot be true of it is left out, with a line in the log."""
        if self._path is None:
            return
        try:
            entries = _entries(self._path, self._version)
        except FileNotFoundError:
            return
        except (OSError, ValueError, RecursionError) as error:
            log.warning("%s cannot be read and is begun anew: %s", self._path, error)
            return
        sound = [found for entry in entries if (found := _parse(entry)) is not None]
        if len(sound) < len(entries):
            log.warning("%s: %d entries cannot be true and are left out", self._path, len(entries) - len(sound))
        self._seen = dict(sound[-KEPT:])

    def seen(self, inspection: Inspection, settings: Settings, device: str) -> Seen | None:
        """What `inspection` was seen to take when its model ran on a `device` of this kind with these settings."""
        return self._seen.get(_key(fields_of(inspection, settings, device)))

    def note(
        self, inspection: Inspection, settings: Settings, device: str, most: Mapping[str, int], *, was_used: bool
    ) -> None:
        """`most`: bytes by device that the model has taken since it was ready."""
        kinds: dict[str, int] = {}
        for each, size in most.items():
            kinds[kind_of(each)] = kinds.get(kind_of(each), 0) + size
        # in steps, so that the file is not written for every page
        now = Seen({kind: -(-size // MIB) * MIB for kind, size in kinds.items() if size > 0}, was_used)
        key = _key(fields_of(inspection, settings, device))
        before = self._seen.pop(key, Seen({}))
        self._seen[key] = joined = before.joined(now)
        self._is_changed |= joined != before
        while len(self._seen) > KEPT:
            del self._seen[next(iter(self._seen))]

    async def save(self) -> None:
        """Writes the file where there is news. A disk that is full costs the news and nothing else."""
        async with self._saving:
            if self._path is None or not self._is_changed:
                return
            self._is_changed = False
            try:
                await asyncio.to_thread(_save, self._path, self._version, dict(self._seen))
            except OSError as error:
                log.warning("%s cannot be written: %s", self._path, error)


def fields_of(inspection: Inspection, settings: Settings, device: str) -> Fields:
    """All that the bytes of a model hang on."""
    spec, kind = inspection.spec, kind_of(device)
    is_local = inspection.revision == "local"
    is_llama = inspection.runtime is Runtime.LLAMA_CPP
    return {
        "source": inspection.local if is_local else spec.source.partition("@")[0],
        "revision": inspection.revision,
        "files": sum(file.size for file in inspection.files) if is_local else None,  # they may have changed
        "file": spec.file,
        "runtime": inspection.runtime,
        "task": inspection.tasks[0],
        "quantization": spec.quantization,
        "dtype": spec.dtype,
        "device": kind,
        "devices": device.count("+") + 1,  # each has a context and a pass of its own
        "gpu_layers": layers_of(inspection, settings) if is_llama and kind != "cpu" else None,
        "context_length": context_of(inspection) if inspection.tasks[0].generates else inspection.context_length,
        "max_batch_tokens": spec.max_batch_tokens,
        "max_sequences": settings.max_sequences,
        "cached_tokens": cached_tokens(inspection, settings, kind),
        "threads": settings.threads,
        "passes": settings.passes,
    }


def _key(fields: Fields) -> str:
    return json.dumps(fields, sort_keys=True)


def _entries(path: Path, version: str) -> list[Any]:
    """Raises OSError and ValueError."""
    with path.open("rb") as file:
        data = file.read(MAX_FILE + 1)
    if len(data) > MAX_FILE:
        raise ValueError(f"it has more than {MAX_FILE:,} bytes")
    document = json.loads(data)
    if not isinstance(document, dict) or not isinstance(document.get("models"), list):
        raise ValueError("it is of another form")
    return document["models"] if document.get("version") == version else []


def _parse(entry: Any) -> tuple[str, Seen] | None:
    """None when it cannot be true."""
    if not isinstance(entry, dict):
        return None
    fields, most, was_used = entry.get("model"), entry.get("most"), entry.get("was_used")
    if not isinstance(fields, dict) or not isinstance(most, dict) or not isinstance(was_used, bool):
        return None
    is_plain = all(isinstance(value, str | int | None) and len(str(value)) < _MOST_TEXT for value in fields.values())
    is_sound = most.keys() <= set(_KINDS) and all(type(size) is int and 0 < size < 1 << 50 for size in most.values())
    return (_key(fields), Seen(most, was_used)) if is_plain and is_sound else None


def _save(path: Path, version: str, seen: Mapping[str, Seen]) -> None:
    models = [
        {"model": json.loads(key), "most": dict(each.most), "was_used": each.was_used} for key, each in seen.items()
    ]
    _write(path, json.dumps({"version": version, "models": models}, indent=1))


def _write(path: Path, text: str) -> None:
    """All of it, or nothing: a server that is killed meanwhile leaves what was there."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(text)
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise
