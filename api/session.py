"""Signing a browser in and out: a key for a cookie. Programs send their key with each request instead."""

from typing import Literal

from fastapi import APIRouter, Request, Response
from pydantic import Field

from api.auth import COOKIE, Sessions, role_of, token_of
from api.negotiation import prefers_html
from api.responses import JSON
from api.routing import Route
from api.signin import sign_in_page
from api.wire import Body, Wire
from core.access import Access, Role, owner_of
from core.errors import NotAuthenticated

_MAX_AGE_S = 7 * 24 * 3600


class Key(Body):
    key: str = Field(min_length=1, max_length=1000, description="A key of this server.")


class Session(Wire):
    role: Literal["admin", "user", "nobody"]


def router(access: Access, sessions: Sessions) -> APIRouter:
    routes = APIRouter(route_class=Route, tags=["access"])

    @routes.get("/session", response_model=Session)
    async def session(request: Request) -> Response:
        """What this client may do: `admin` all, `user` use models, `nobody` nothing. A browser gets a sign-in page."""
        if prefers_html(request.headers.get("accept", "")):
            return sign_in_page(request.headers)
        return JSON({"role": role_of(request).name.lower()}, headers={"Vary": "Accept, Cookie"})

    @routes.post("/session", response_model=Session)
    async def sign_in(request: Request, body: Key) -> Response:
        """Checks a key and answers a cookie that stands for it."""
        role = access.role_of(body.key)
        if role <= access.anonymous and access.anonymous is not Role.ADMIN:  # worth no more than no key
            raise NotAuthenticated("That key does not fit. Check it and try again.")
        response = JSON({"role": role.name.lower()})
        sessions.close(token_of(request.headers))
        # a Space shows the page in a frame of another site, where only a partitioned cookie lives
        is_https = "https" in (request.url.scheme, request.headers.get("x-forwarded-proto"))
        response.set_cookie(
            COOKIE,
            sessions.open(role, owner_of(body.key)),
            max_age=_MAX_AGE_S,
            httponly=True,
            secure=is_https,
            samesite="none" if is_https else "lax",
        )
        if is_https:
            name, value = response.raw_headers[-1]
            response.raw_headers[-1] = (name, value + b"; Partitioned")
        return response

    @routes.delete("/session", response_model=Session)
    async def sign_out(request: Request) -> Response:
        """Forgets the cookie."""
        sessions.close(token_of(request.headers))
        response = JSON({"role": access.anonymous.name.lower()})
        response.delete_cookie(COOKIE)
        return response

    return routes
