"""The dialect of OpenAI's clients, under /v1. Errors have OpenAI's form there: `api/dialect.py`."""

from fastapi import APIRouter

from api.openai import chat, completions, embeddings, models
from core.core import Core

__all__ = ["router"]


def router(core: Core) -> APIRouter:
    """Every route of the dialect."""
    routes = APIRouter()
    for each in (chat, completions, embeddings, models):
        routes.include_router(each.router(core))
    return routes
