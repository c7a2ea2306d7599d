"""GET /v1/models, and one of them."""

from typing import Literal

from fastapi import APIRouter, Request, Response

from api.models import Listed, listed
from api.names import Name
from api.openai.bound import bound_model
from api.openai.names import model_meant
from api.openai.wire import routes_of_dialect
from api.responses import JSON
from api.wire import Wire
from core.core import Core
from core.views import ModelView


class ModelList(Wire):
    object: Literal["list"]
    data: list[Listed]


def router(core: Core) -> APIRouter:
    routes = routes_of_dialect()

    @routes.get("/models", response_model=ModelList)
    async def models(request: Request) -> Response:
        """Models that a request may name: those that are loaded, loading or have failed, then those that it loads."""
        name = bound_model(request.scope)
        views = core.offered() if name is None else [_meant(core, name)]
        return JSON({"object": "list", "data": [listed(view, core.settings.max_queue) for view in views]})

    @routes.get("/models/{name:path}", response_model=Listed)
    async def model(name: Name) -> Response:
        """One of them."""
        return JSON(listed(_meant(core, name), core.settings.max_queue))

    return routes


def _meant(core: Core, name: str) -> ModelView:
    """Raises ModelNotFound."""
    return core.offer(model_meant(core, name) or name)
