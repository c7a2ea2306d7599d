"""The dialect of OpenAI's clients, under /v1 and, for one model, under /models/{model}/v1.

Errors have OpenAI's form there: `api/dialect.py`.
"""

from fastapi import APIRouter, Depends

from api.openai import chat, completions, embeddings, models
from api.openai.bound import PREFIX, check_bound
from core.core import Core

__all__ = ["router"]


def router(core: Core) -> APIRouter:
    """Every route of the dialect."""
    routes = APIRouter()
    for each in (chat, completions, embeddings, models):
        routes.include_router(each.router(core))
        routes.include_router(  # not in the schema, which would say everything twice
            each.router(core), prefix=PREFIX, dependencies=[Depends(check_bound)], include_in_schema=False
        )
    return routes
