"""Who was promised which bytes, who holds them, and who has to go so that another fits. Pure arithmetic: no process,
no clock, no event loop. All sizes are bytes by device ("cpu", "cuda:0")."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

Bytes = Mapping[str, int]


class Verdict(StrEnum):
    FITS = "fits"  # and is promised: the bytes are its own from now on
    EVICT = "evict"  # fits once `victims` are gone
    WAIT = "wait"  # fits once some of `blockers` are idle, or gone, or its turn has come
    NEVER = "never"  # does not fit beside what is pinned, whoever else goes


@dataclass(frozen=True, slots=True)
class Tenant:
    """A model in memory as the ledger has to know it to choose among them."""

    name: str
    used_at: float  # end of its last request, on any clock that all share
    is_busy: bool = False
    is_pinned: bool = False
    is_fresh: bool = False  # just loaded, and not used yet

    @property
    def may_go(self) -> bool:
        return not (self.is_busy or self.is_pinned or self.is_fresh)


@dataclass(frozen=True, slots=True)
class Decision:
    verdict: Verdict
    victims: tuple[str, ...] = ()
    blockers: tuple[str, ...] = ()


@dataclass(slots=True)
class Account:
    promised: dict[str, int]
    measured: dict[str, int] = field(default_factory=dict)

    def held(self, device: str) -> int:
        """What it counts for: the larger of what it was promised and what it was seen to take."""
        return max(self.promised.get(device, 0), self.measured.get(device, 0))


class Ledger:
    """One account for each model that holds memory, and a queue of those that want some.

    Only the first of the queue is ever admitted, so whoever comes later waits for its turn, however small it is.
    """

    def __init__(self, limits: Bytes | None = None) -> None:
        self.limits: dict[str, int] = dict(limits or {})  # a device that is not named has no limit
        self._accounts: dict[str, Account] = {}
        self._queue: dict[str, dict[str, int]] = {}  # in the order in which they came

    @property
    def waiting(self) -> tuple[str, ...]:
        return tuple(self._queue)

    @property
    def names(self) -> tuple[str, ...]:
        """Who holds an account."""
        return tuple(self._accounts)

    def account(self, name: str) -> Account | None:
        return self._accounts.get(name)

    def held(self, device: str) -> int:
        return sum(account.held(device) for account in self._accounts.values())

    def room(self, device: str) -> int:
        """Bytes that are left there; below 0 where more was taken than promised."""
        return self.limits[device] - self.held(device)

    def most(self, tenants: Iterable[Tenant]) -> dict[str, int]:
        """Bytes by device that one model could have, if all went that are not pinned."""
        pinned = [self._accounts[each.name] for each in tenants if each.is_pinned and each.name in self._accounts]
        return {
            device: limit - sum(account.held(device) for account in pinned) for device, limit in self.limits.items()
        }

    def ask(self, name: str, need: Bytes) -> None:
        """Puts `name` at the end of the queue."""
        assert name not in self._queue, f"{name} asks twice"
        assert name not in self._accounts, f"{name} holds memory already"
        self._queue[name] = dict(need)

    def ask_instead(self, name: str, need: Bytes) -> None:
        """`name` wants something else and keeps its turn."""
        assert name in self._queue, f"{name} has not asked"
        self._queue[name] = dict(need)

    def withdraw(self, name: str) -> None:
        """Takes `name` out of the queue, wherever it stands."""
        self._queue.pop(name, None)

    def decide(self, name: str, tenants: Iterable[Tenant]) -> Decision:
        """What is to happen for `name`, which has asked. FITS and NEVER take it out of the queue."""
        need, tenants = self._queue[name], tuple(tenants)
        if self._is_hopeless(need, tenants):
            self.withdraw(name)
            return Decision(Verdict.NEVER, blockers=tuple(tenant.name for tenant in tenants if tenant.is_pinned))
        if name != next(iter(self._queue)):
            return Decision(Verdict.WAIT, blockers=self.waiting[: self.waiting.index(name)])
        short = self.shortage(need)
        if not short:
            self.force(name)
            return Decision(Verdict.FITS)
        if victims := self.victims(short, tenants):
            return Decision(Verdict.EVICT, victims=victims)
        staying = {tenant.name for tenant in tenants if tenant.may_go or tenant.is_pinned}
        return Decision(Verdict.WAIT, blockers=tuple(name for name in self._accounts if name not in staying))

    def force(self, name: str) -> None:
        """Promises `name` what it asked for, whether there is room or not."""
        self._accounts[name] = Account(self._queue.pop(name))

    def could_fit(self, need: Bytes, tenants: Iterable[Tenant]) -> bool:
        """Whether `need` fits once everything that is not pinned has gone."""
        return not self._is_hopeless(need, tuple(tenants))

    def _is_hopeless(self, need: Bytes, tenants: tuple[Tenant, ...]) -> bool:
        most = self.most(tenants)
        return any(size > 0 and size > most.get(device, size) for device, size in need.items())

    def shortage(self, need: Bytes) -> dict[str, int]:
        """Bytes that `need` lacks, for each device that lacks any."""
        lacking = {device: size - self.room(device) for device, size in need.items() if size and device in self.limits}
        return {device: size for device, size in lacking.items() if size > 0}

    def overdrawn(self) -> dict[str, int]:
        """Bytes that are held above the limit, by device: models may take more than they were promised."""
        return {device: -self.room(device) for device in self.limits if self.room(device) < 0}

    def victims(self, short: Bytes, tenants: Iterable[Tenant]) -> tuple[str, ...]:
        """Whose end covers `short`: the coldest that does so alone, else the fewest; none when all together do not."""
        able = sorted((each for each in tenants if each.may_go and self._gives(each.name, short)), key=_coldness)
        for tenant in able:
            if self._covers([tenant.name], short):
                return (tenant.name,)
        chosen: list[str] = []
        for tenant in sorted(able, key=lambda each: -self._gives(each.name, short)):  # stable: the colder first
            if self._covers(chosen, short):
                break
            chosen.append(tenant.name)
        if not self._covers(chosen, short):
            return ()
        for name in tuple(chosen):  # with several devices a later one may have made an earlier one needless
            rest = [each for each in chosen if each != name]
            if self._covers(rest, short):
                chosen = rest
        return tuple(chosen)

    def _gives(self, name: str, short: Bytes) -> int:
        account = self._accounts.get(name)
        return sum(min(account.held(device), size) for device, size in short.items()) if account else 0

    def _covers(self, names: list[str], short: Bytes) -> bool:
        return all(sum(self._accounts[name].held(device) for name in names) >= size for device, size in short.items())

    def measure(self, name: str, measured: Bytes) -> None:
        """What `name` was seen to take; nothing where it holds no account any more."""
        if account := self._accounts.get(name):
            account.measured = dict(measured)

    def release(self, name: str) -> None:
        """Its bytes are back. Releasing twice is releasing once."""
        self._accounts.pop(name, None)


def _coldness(tenant: Tenant) -> tuple[float, str]:
    return tenant.used_at, tenant.name
