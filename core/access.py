"""Who may do what. One check for REST and the page alike; `api/auth.py` asks it once for every request."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from enum import IntEnum

from core.settings import Settings


class Role(IntEnum):
    """Ordered: each may do all that the one below may."""

    NOBODY = 0
    USER = 1  # use models
    ADMIN = 2  # load, unload, cancel, clean up


ANONYMOUS = "anonymous"  # owner of what is made without a key


def owner_of(key: str | None) -> str:
    """Whose the conversations and templates are that the bearer of `key` makes; the key itself cannot be told from it.

    Where use is open a key of one's own choice is as good as any: it keeps what one makes apart from others'.
    """
    return hashlib.sha256(key.encode(errors="replace")).hexdigest() if key else ANONYMOUS


class Access:
    """The keys of this server.

    No keys set and bound to loopback: everybody is admin. No keys set and bound wider: use is open and admin
    calls need `admin_key`, which is made here (`made_key`) to be printed once. Keys set: nothing without one.
    """

    def __init__(self, settings: Settings) -> None:
        self._keys = settings.api_keys
        self.made_key: str | None = None
        admin_key = settings.admin_key
        if admin_key is None and (self._keys or not settings.is_loopback):
            admin_key = self.made_key = secrets.token_urlsafe(24)
        self._admin_key = admin_key
        if settings.api_keys:
            self.anonymous = Role.NOBODY
        elif admin_key is None:
            self.anonymous = Role.ADMIN
        else:
            self.anonymous = Role.USER

    def role_of(self, key: str | None) -> Role:
        """What the bearer of `key` may do. A wrong key is worth what no key is: where use is open, clients that send
        a token of their own, as huggingface_hub does with the Hub's, are served."""
        if not key:
            return self.anonymous
        given = key.encode(errors="replace")
        role = self.anonymous
        for known in self._keys:  # every key is compared, so that time says nothing about which one fits
            if hmac.compare_digest(given, known.encode()):
                role = Role.USER
        if self._admin_key is not None and hmac.compare_digest(given, self._admin_key.encode()):
            role = Role.ADMIN
        return role
