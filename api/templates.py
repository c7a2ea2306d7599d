"""Prompt templates: those that come along, and each caller's own."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field

from api.auth import owner_of
from api.responses import JSON
from api.routing import Route
from api.wire import Body, Deleted, Wire
from core.chat.templates import Template, as_json
from core.core import Core


class VariableShown(Wire):
    description: str
    default: str | None


class TemplateShown(Wire):
    name: str
    title: str
    description: str
    system: str
    user: str
    variables: dict[str, VariableShown]
    language: str | None
    built_in: bool


class TemplateList(Wire):
    templates: list[TemplateShown]


class TemplateBody(Body):
    """What is not said is empty; `user` is then the message alone. A variable without a default must be given."""

    title: str | None = None
    description: str | None = None
    system: str | None = None
    user: str | None = Field(None, examples=["다음 글을 {tone} 고쳐 주세요.\n\n{message}"])
    variables: dict[str, dict[str, str | None]] | None = None


class NewTemplate(TemplateBody):
    name: str = Field(examples=["editor"])


class ChangedTemplate(TemplateBody):
    name: str | None = Field(None, description="If sent, the name in the path.")


_Language = Annotated[str | None, Query(description="Of the built-in ones: ko or en. Unset: ko.", max_length=10)]


def router(core: Core) -> APIRouter:
    routes = APIRouter(prefix="/api", route_class=Route, tags=["chat"])
    for version in ("v3", "v4"):
        _add_reads(routes, core, version)
    _add_writes(routes, core)
    return routes


def _add_reads(routes: APIRouter, core: Core, version: str) -> None:
    @routes.get(f"/{version}/prompt/templates", response_model=TemplateList, name=f"templates_{version}")
    async def templates(request: Request, language: _Language = None) -> Response:
        """The templates that come along, and your own."""
        found = await core.chat.templates.list(owner_of(request), language)
        return JSON({"templates": [_template(each) for each in found]})

    @routes.get(f"/{version}/prompt/templates/{{name}}", response_model=TemplateShown, name=f"template_{version}")
    async def template(request: Request, name: str, language: _Language = None) -> Response:
        """One template."""
        return JSON(_template(await core.chat.templates.get(owner_of(request), name, language)))


def _add_writes(routes: APIRouter, core: Core) -> None:
    templates = core.chat.templates

    @routes.post("/v4/prompt/templates", response_model=TemplateShown, status_code=201)
    async def create(request: Request, body: NewTemplate) -> Response:
        """A template of your own; `{name}` in its texts stands for a variable, `{message}` for the message."""
        return JSON(_template(await templates.create(owner_of(request), body.model_dump(exclude_none=True))), 201)

    @routes.put("/v4/prompt/templates/{name}", response_model=TemplateShown)
    async def replace(request: Request, name: str, body: ChangedTemplate) -> Response:
        """Another text for a template of your own."""
        return JSON(_template(await templates.replace(owner_of(request), name, body.model_dump(exclude_none=True))))

    @routes.delete("/v4/prompt/templates/{name}", response_model=Deleted)
    async def delete(request: Request, name: str) -> Response:
        """Forgets a template of your own."""
        await templates.delete(owner_of(request), name)
        return JSON({"message": f"Template {name} deleted"})


def _template(template: Template) -> dict[str, Any]:
    return {**as_json(template), "language": template.language, "built_in": template.is_built_in}
