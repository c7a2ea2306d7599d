"""How an error looks under /v1, where OpenAI's clients read it; everywhere else it looks as `api/errors.py` says."""

import re
from typing import Any

from starlette.types import Scope

# the last for one model; its name may end in /v1 too, so that not all that lies under that is of the dialect
_PATHS = re.compile(r"/v1(/.*)?|/models/.*/v1/(chat/completions|completions|embeddings|models(/.*)?)", re.DOTALL)
_FAMILIES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


def is_openai(scope: Scope) -> bool:
    """Whether the answer is read by OpenAI's clients. Decides the form of an error, and nothing else."""
    return _PATHS.fullmatch(scope.get("path", "")) is not None


def openai_status(status: int) -> int:
    """A field that is wrong is a 400 there."""
    return 400 if status == 422 else status


def openai_error(kind: str, message: str, status: int, param: str | None = None) -> dict[str, Any]:
    """`status` as it is elsewhere; the most particular name of the error is its `code`."""
    family = _FAMILIES.get(status, "invalid_request_error" if status < 500 else "server_error")
    return {"error": {"message": message, "type": family, "param": param, "code": kind}}
