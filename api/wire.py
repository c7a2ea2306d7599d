"""What all wire types share: nothing unknown is taken, nothing is guessed from another type."""

from typing import Any

from pydantic import BaseModel, ConfigDict


class Body(BaseModel):
    """A request: an unknown field is refused by name, `"1"` is no number, NaN is no number either."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Wire(BaseModel):
    """An answer, for the documentation; answers are written without going through it."""


class Deleted(Wire):
    message: str


class ErrorInfo(Wire):
    type: str
    message: str
    request_id: str
    retryable: bool


class Error(Wire):
    detail: str
    error: ErrorInfo


ERRORS: dict[int | str, dict[str, Any]] = {"4XX": {"model": Error}, "5XX": {"model": Error}}
