"""Model names in paths and bodies. A name may hold slashes, raw or as %2F."""

import re
from typing import Annotated

from fastapi import Depends, Path

from core.errors import ModelNotFound

_MAX = 200  # characters
_PART = r"\w[\w.@:+-]*"
_NEW = re.compile(rf"{_PART}(/{_PART})*")
_SUFFIXES = ("predict", "events", "cancel", "unload", "tasks", "load")  # what follows a name in a path


def check_new_name(name: str) -> str:
    """`name`, if a model can be called so. Raises ValueError."""
    if len(name) > _MAX or not _NEW.fullmatch(name):
        raise ValueError(f"must be letters, digits and . _ - @ : + in parts joined by /, at most {_MAX} characters")
    if name.rsplit("/", 1)[-1] in _SUFFIXES:
        raise ValueError(f"must not end in {', '.join(_SUFFIXES)}: these are calls on a model")
    return name


async def _known(name: Annotated[str, Path(description="The model's name; slashes raw or as %2F.")]) -> str:
    """The name in a path. One that no model can have is a model that is not there."""
    if len(name) > _MAX or not name.isprintable():
        raise ModelNotFound("No model can have this name. See GET /models for those that are here.")
    return name


Name = Annotated[str, Depends(_known)]
