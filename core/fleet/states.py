"""The state machine of a model: the arrows along which `Record.move` moves it."""

from __future__ import annotations

from core.types import State

_ARROWS: dict[State, frozenset[State]] = {
    State.ABSENT: frozenset({State.QUEUED}),
    State.QUEUED: frozenset({State.DOWNLOADING, State.LOADING, State.FAILED, State.ABSENT}),
    # what is fetched may have to wait for its turn in memory
    State.DOWNLOADING: frozenset({State.QUEUED, State.LOADING, State.FAILED, State.ABSENT}),
    State.LOADING: frozenset({State.READY, State.FAILED, State.ABSENT}),
    # an idle one that is evicted leaves READY for ABSENT: the next request loads it again.
    # A worker that died leaves READY or DRAINING: the next request starts it (ABSENT), or it died too often (FAILED)
    State.READY: frozenset({State.DRAINING, State.ABSENT, State.FAILED}),
    State.DRAINING: frozenset({State.UNLOADING, State.ABSENT, State.FAILED}),
    State.UNLOADING: frozenset({State.ABSENT}),
    State.FAILED: frozenset({State.QUEUED, State.ABSENT}),
}


def may_move(now: State, then: State) -> bool:
    return then in _ARROWS[now]
