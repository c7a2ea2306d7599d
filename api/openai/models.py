"""GET /v1/models, and one of them."""

from typing import Literal

from fastapi import APIRouter, Response

from api.models import Listed, listed
from api.names import Name
from api.openai.names import model_meant
from api.openai.wire import routes_of_dialect
from api.responses import JSON
from api.wire import Wire
from core.core import Core


class ModelList(Wire):
    object: Literal["list"]
    data: list[Listed]


def router(core: Core) -> APIRouter:
    routes = routes_of_dialect()

    @routes.get("/models", response_model=ModelList)
    async def models() -> Response:
        """Every model that is loaded, loading or has failed."""
        return JSON({"object": "list", "data": [listed(view, core.settings.max_queue) for view in core.models()]})

    @routes.get("/models/{name:path}", response_model=Listed)
    async def model(name: Name) -> Response:
        """One of them."""
        return JSON(listed(core.model(model_meant(core, name) or name), core.settings.max_queue))

    return routes
