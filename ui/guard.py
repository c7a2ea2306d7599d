"""The one border between the errors of `core` and the page, and the one look at who is asking."""

from __future__ import annotations

import contextlib
import functools
import inspect
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import gradio as gr

from core.access import ANONYMOUS, Role
from core.errors import BerthError, InsufficientMemory, InternalError, LoadCancelled, NotAllowed
from ui.plans import as_asked, plain_plan

log = logging.getLogger(__name__)


def role_of(request: Any) -> Role:
    """What the sender of `request` may do, as the server's middleware found; nothing when it did not look."""
    scope = getattr(request, "request", request).scope  # Gradio wraps the request of an event
    role = scope.get("state", {}).get("role", Role.NOBODY)
    return Role(role)


def owner_of(request: Any) -> str:
    """Whose the sender's conversations are, as the server's middleware found."""
    scope = getattr(request, "request", request).scope
    return str(scope.get("state", {}).get("owner", ANONYMOUS))


def is_admin(request: Any) -> bool:
    return role_of(request) >= Role.ADMIN


def check_admin(request: Any) -> None:
    """Raises NotAllowed."""
    if not is_admin(request):
        raise NotAllowed("This needs the admin key. Sign in on the Models tab, or send it as `X-API-Key`.")


def told(error: BaseException) -> dict[str, str]:
    """`error` as the page shows it. What is not one of ours is logged and not described to the visitor."""
    if not isinstance(error, BerthError):
        log.error("A handler of the page failed.", exc_info=error)
        error = InternalError("Something went wrong in the server. Its log has the details.")
    return {"type": error.type, "message": error.message}


def failure(name: str, error: BaseException) -> dict[str, Any]:
    """News for the page: the load of `name` ended in `error`. A load that somebody cancelled did not fail; one that
    there was no memory for comes with its plan."""
    told_of: dict[str, Any] = {"name": name, "error": None if isinstance(error, LoadCancelled) else told(error)}
    if isinstance(error, InsufficientMemory) and error.plan is not None:
        told_of |= {"plan": plain_plan(error.plan), "asked": as_asked(error.plan.inspection.spec)}
    return {"failure": told_of}


def _raised(error: Exception) -> gr.Error:
    return gr.Error(told(error)["message"], duration=None, print_exception=False)


def guarded(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, an endpoint for programs, with every error of ours raised as the gr.Error that clients receive."""
    if inspect.isasyncgenfunction(function):

        @functools.wraps(function)
        async def steps(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
            try:
                async with contextlib.aclosing(function(*args, **kwargs)) as given:  # who leaves, stops the work
                    async for step in given:
                        yield step
            except Exception as error:
                raise _raised(error) from error

        return steps

    @functools.wraps(function)
    async def once(*args: Any, **kwargs: Any) -> Any:
        try:
            return await function(*args, **kwargs)
        except Exception as error:
            raise _raised(error) from error

    return once
