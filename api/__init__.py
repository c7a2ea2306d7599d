"""The HTTP edge: translates requests into calls on `Core`, and its answers and errors back."""

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.types import Lifespan

from api import (
    chat,
    conversations,
    docs,
    embed,
    generate,
    inference,
    loads,
    metrics,
    models,
    openai,
    plan,
    predict,
    session,
    system,
    templates,
    vision,
)
from api.auth import Auth, Sessions
from api.edge import Edge
from api.errors import on_berth_error, on_http_error, on_validation_error
from api.wire import ERRORS
from core.access import Access
from core.core import VERSION, Core
from core.errors import BerthError

__all__ = ["create_api"]

_DESCRIPTION = "Many models, each in a process of its own. Errors have one form; `error.type` says which it is."


def create_api(core: Core, access: Access, lifespan: Lifespan[FastAPI] | None = None) -> FastAPI:
    """Every route of ours. The page is mounted at "/" afterwards: what a route does not take goes there."""
    settings, sessions, figures = core.settings, Sessions(), metrics.Metrics(core)
    app = FastAPI(
        title="Berth",
        version=VERSION,
        description=_DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
        responses=ERRORS,
        exception_handlers={
            BerthError: on_berth_error,
            HTTPException: on_http_error,
            RequestValidationError: on_validation_error,
        },
        middleware=[  # the first is the outermost
            Middleware(Edge, max_body_bytes=settings.max_body_bytes, on_finish=figures.on_finish),
            # there even when nothing is allowed: without it the mounted page allows any origin
            Middleware(CORSMiddleware, allow_origins=settings.cors_origins, allow_methods=["*"], allow_headers=["*"]),
            Middleware(Auth, access=access, sessions=sessions, origins=settings.cors_origins),
        ],
    )
    app.state.waiting_for = None  # what is still to come before the server is whole, while there is something
    app.router.routes.append(system.root_route(core))
    docs.add_docs(app)
    # what acts on a model comes before `GET /models/{name}`, whose name may hold slashes
    for router in (
        system.router(core),
        metrics.router(figures),
        session.router(access, sessions),
        loads.router(core),
        predict.router(core),
        openai.router(core),
        plan.router(core),
        models.router(core),
        inference.router(core),  # after all that begins as it does
        embed.router(core),
        chat.router(core),
        templates.router(core),
        conversations.router(core),
        vision.router(core),
        generate.router(core),
    ):
        app.include_router(router)
    return app
