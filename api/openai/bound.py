"""The dialect's calls under /models/{model}/v1, where the address says which model is meant."""

from typing import Any

from starlette.types import Scope

from api.names import known_name
from api.routing import JsonRequest, Route

PREFIX = "/models/{model:path}"


async def check_bound(model: str) -> None:
    """Raises ModelNotFound where no model can be called so."""
    await known_name(model)


def bound_model(scope: Scope) -> str | None:
    """The model that the address names."""
    name: str | None = scope["path_params"].get("model")
    return name


class _BoundRequest(JsonRequest):
    """The address wins over the body: huggingface_hub, given a model's address, writes that its model is "dummy"."""

    async def json(self) -> Any:
        body, name = await super().json(), bound_model(self.scope)
        return body if name is None or not isinstance(body, dict) else {**body, "model": name}


class BoundRoute(Route):
    request_class = _BoundRequest
