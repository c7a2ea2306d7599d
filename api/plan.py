"""What a load would take, and whether there is room for it, before anything is downloaded."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import ConfigDict, Field, field_validator

from api.auth import role_of
from api.loads import LoadRequest
from api.planned import PlanAnswer, planned
from api.responses import JSON
from api.routing import Route
from core.access import Role
from core.core import Core
from core.names import check_new_name


class PlanRequest(LoadRequest):
    """As for a load; `model_name` is what the answer calls it."""

    model_config = ConfigDict(strict=False)  # all that a query holds is text

    model_name: str = Field("", description="The name that it would be used by here.")

    @field_validator("model_name")
    @classmethod
    def _is_a_name(cls, value: str) -> str:
        return check_new_name(value) if value else value


def router(core: Core) -> APIRouter:
    routes = APIRouter(route_class=Route, tags=["models"])

    @routes.get("/models/plan", response_model=PlanAnswer)
    async def plan(request: Request, query: Annotated[PlanRequest, Query()]) -> Response:
        """What a load would take and whether it fits now, read from headers; nothing is downloaded or loaded."""
        if not query.model_name:
            query = query.model_copy(update={"model_name": query.model_path})
        return JSON(planned(await core.plan(query.spec(), admin=role_of(request) is Role.ADMIN)))

    return routes
