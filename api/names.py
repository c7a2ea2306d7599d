"""Model names in paths. A name may hold slashes, raw or as %2F."""

from typing import Annotated

from fastapi import Depends, Path

from core.errors import ModelNotFound
from core.names import MAX_NAME


async def known_name(name: Annotated[str, Path(description="The model's name; slashes raw or as %2F.")]) -> str:
    """The name in a path. One that no model can have is a model that is not there."""
    if len(name) > MAX_NAME or not name.isprintable():
        raise ModelNotFound("No model can have this name. See GET /models for those that are here.")
    return name


Name = Annotated[str, Depends(known_name)]
