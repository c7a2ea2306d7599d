"""Who is calling. One check around the routes and the page alike, default deny; the keys are `core.access`'s.

The role lies in `scope["state"]["role"]` for routes and page handlers, whose conversations they may see in
`scope["state"]["owner"]`. Both come from `X-API-Key`, from
`Authorization: Bearer`, or from the cookie that `POST /session` sets for a browser.
"""

import secrets
from collections import OrderedDict
from typing import Annotated

from fastapi import Depends, Request
from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.types import ASGIApp, Receive, Scope, Send

from api.errors import error_response
from api.negotiation import prefers_html
from api.signin import sign_in_page
from core.access import ANONYMOUS, Access, Role
from core.access import owner_of as owner_of_key
from core.errors import NotAllowed, NotAuthenticated
from core.settings import LOOPBACK

COOKIE = "berth_session"
MAX_SESSIONS = 10_000

# what anybody may ask, exactly
_PUBLIC = frozenset(
    {(method, path) for method in ("GET", "HEAD") for path in ("/health", "/ready", "/session")}
    | {("HEAD", "/"), ("POST", "/session"), ("DELETE", "/session")}
)
_SAFE = ("GET", "HEAD", "OPTIONS")
_SIGN_IN_AT = ("/", "/docs", "/redoc")  # pages that a browser without a key is shown the sign-in page instead of


class Sessions:
    """Browsers that have shown a key: token → role and owner, in memory, so that a restart signs everybody out."""

    def __init__(self) -> None:
        self._roles: OrderedDict[str, tuple[Role, str]] = OrderedDict()

    def open(self, role: Role, owner: str = ANONYMOUS) -> str:
        """A new token."""
        token = secrets.token_urlsafe(32)
        self._roles[token] = (role, owner)
        if len(self._roles) > MAX_SESSIONS:
            self._roles.popitem(last=False)
        return token

    def close(self, token: str | None) -> None:
        self._roles.pop(token or "", None)

    def role_of(self, token: str | None) -> Role | None:
        return self._roles.get(token or "", (None, ""))[0]

    def owner_of(self, token: str | None) -> str:
        return self._roles.get(token or "", (None, ANONYMOUS))[1]


class Auth:
    def __init__(self, app: ASGIApp, access: Access, sessions: Sessions, origins: tuple[str, ...]) -> None:
        self._app = app
        self._access = access
        self._sessions = sessions
        self._origins = origins  # other sites whose pages may call

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        method = scope.get("method", "GET")
        key = given_key(headers)
        role = self._role(key, headers, scope)
        scope.setdefault("state", {})["role"] = role
        scope["state"]["owner"] = self._sessions.owner_of(token_of(headers)) if key is None else owner_of_key(key)
        if role is Role.NOBODY and not self._is_public(method, scope["path"], headers):
            await self._refuse(scope, receive, send, headers)
        elif key is None and method not in _SAFE and not self._is_own_page(headers):
            error = NotAllowed("This request comes from another site's page. Send a key with it, or call from here.")
            await error_response(error, scope)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _role(self, key: str | None, headers: Headers, scope: Scope) -> Role:
        session = self._sessions.role_of(token_of(headers)) if key is None else None
        role = self._access.role_of(key) if session is None else session
        if self._access.anonymous is Role.ADMIN and not _is_local(headers, scope):
            return min(role, Role.USER)  # with no keys everybody is admin, but only from this machine
        return role

    def _is_public(self, method: str, path: str, headers: Headers) -> bool:
        if (method, path) in _PUBLIC:
            return True
        return method == "GET" and path == "/" and not prefers_html(headers.get("accept", ""))

    def _is_own_page(self, headers: Headers) -> bool:
        """Whether a write without a key is not one that another site has a browser send."""
        origin = headers.get("origin")
        if origin is None:  # no browser, unless there is a cookie
            return self._sessions.role_of(token_of(headers)) is None
        own = (headers.get("host"), headers.get("x-forwarded-host"))
        return origin.partition("://")[2] in own or origin in self._origins

    async def _refuse(self, scope: Scope, receive: Receive, send: Send, headers: Headers) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        elif scope["path"] in _SIGN_IN_AT and prefers_html(headers.get("accept", "")):
            scope["state"]["is_typed"] = True
            await sign_in_page(headers, status=401)(scope, receive, send)
        else:
            error = NotAuthenticated("A key is needed: send it as `X-API-Key` or `Authorization: Bearer`.")
            await error_response(error, scope)(scope, receive, send)


def given_key(headers: Headers) -> str | None:
    """The key in a request's headers; None when there is none, "" or worse counts as a wrong one."""
    key = headers.get("x-api-key")
    if key is not None:
        return key or " "
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return (token.strip() or " ") if scheme.lower() == "bearer" else None


def token_of(headers: Headers) -> str | None:
    return cookie_parser(headers.get("cookie", "")).get(COOKIE)


def _is_local(headers: Headers, scope: Scope) -> bool:
    """Whether both ends are this machine, and are so by name: a page of another site can let its own name lead
    here, a proxy brings visitors from elsewhere, and whoever starts the server may have bound it wider."""
    host = headers.get("host", "")
    name = host.rsplit(":", 1)[0] if host.count(":") == 1 else host.split("]")[0].lstrip("[")
    client = scope.get("client")
    return name.lower().rstrip(".") in LOOPBACK and client is not None and client[0] in LOOPBACK


def role_of(request: Request) -> Role:
    role = request.scope["state"]["role"]
    assert isinstance(role, Role)
    return role


def owner_of(request: Request) -> str:
    """Whose conversations and templates these are."""
    owner = request.scope["state"]["owner"]
    assert isinstance(owner, str)
    return owner


async def require_admin(request: Request) -> None:
    """Raises NotAllowed, or NotAuthenticated where no key was sent."""
    if role_of(request) is Role.ADMIN:
        return
    if given_key(request.headers) is None:
        raise NotAuthenticated(
            "This call needs the admin key: BERTH_ADMIN_KEY, or the one printed when the server started. "
            "Send it as `X-API-Key` or `Authorization: Bearer`."
        )
    raise NotAllowed("This call needs the admin key; the key that was sent may only use models.")


Admin = Annotated[None, Depends(require_admin)]
