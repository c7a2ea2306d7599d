"""The catalogue: models offered by name, read from `core/catalog.toml`."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

from core.types import ModelSpec, Runtime, Task

CATALOG_FILE = Path(__file__).resolve().parent.parent / "catalog.toml"


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    name: str
    source: str  # as a load takes it
    task: Task
    description_en: str
    description_ko: str
    starter: bool = False  # comes with the project
    file: str | None = None
    runtime: Runtime | None = None
    size_bytes: int | None = None  # of the weights

    @property
    def spec(self) -> ModelSpec:
        """What loads it. The task is left to the model's own files."""
        return ModelSpec(self.name, self.source, file=self.file, runtime=self.runtime)

    def description(self, language: str) -> str:
        """One line in `language`, "ko" or anything else for English."""
        return self.description_ko if language == "ko" else self.description_en


class Catalog:
    """The entries in the order of the file, starters first."""

    def __init__(self, path: Path = CATALOG_FILE) -> None:
        rows = tomllib.loads(path.read_text(encoding="utf-8"))["model"]
        self.entries: tuple[CatalogEntry, ...] = tuple(map(_entry, rows))
        self._by_name = {entry.name: entry for entry in self.entries}

    def get(self, name: str) -> CatalogEntry | None:
        """The entry of that name, or of that source on the Hub."""
        return self._by_name.get(name) or next((each for each in self.entries if each.source == name), None)

    def for_task(self, task: Task) -> list[CatalogEntry]:
        """Entries made for `task`, in order."""
        return [entry for entry in self.entries if entry.task is task]


def _entry(row: dict[str, object]) -> CatalogEntry:
    values = dict(row)
    values["task"] = Task(str(row["task"]))
    if "runtime" in row:
        values["runtime"] = Runtime(str(row["runtime"]))
    return CatalogEntry(**values)  # type: ignore[arg-type]
