"""The ledger: who is admitted, who has to go, and who waits. Against a model of its own, and against all choices."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from core.memory.ledger import Ledger, Tenant, Verdict

NAMES = tuple("abcdefgh")


def holding(limit: int, **models: int) -> Ledger:
    """A ledger over one device whose models were promised these bytes."""
    ledger = Ledger({"cpu": limit})
    for name, size in models.items():
        ledger.ask(name, {"cpu": size})
        ledger.force(name)
    return ledger


def test_what_fits_is_promised():
    ledger = holding(100, a=60)
    ledger.ask("b", {"cpu": 40})
    assert ledger.decide("b", []).verdict is Verdict.FITS
    assert ledger.room("cpu") == 0
    assert ledger.waiting == ()


def test_the_larger_of_promised_and_measured_counts():
    ledger = holding(100, a=60)
    ledger.measure("a", {"cpu": 80})
    assert ledger.room("cpu") == 20
    ledger.measure("a", {"cpu": 10})
    assert ledger.room("cpu") == 40


def test_a_device_is_full_by_itself():
    ledger = Ledger({"cpu": 100, "cuda:0": 10})
    ledger.ask("a", {"cpu": 10, "cuda:0": 10})
    ledger.decide("a", [])
    ledger.ask("b", {"cpu": 10, "cuda:0": 1})
    assert ledger.decide("b", [Tenant("a", 0, is_busy=True)]).verdict is Verdict.WAIT
    ledger.withdraw("b")
    ledger.ask("c", {"cpu": 90})
    assert ledger.decide("c", []).verdict is Verdict.FITS


def test_the_coldest_that_alone_suffices_goes():
    ledger = holding(100, small=10, cold=40, warm=50)
    ledger.ask("x", {"cpu": 40})
    tenants = [Tenant("small", 1), Tenant("warm", 3), Tenant("cold", 2)]
    assert ledger.decide("x", tenants).victims == ("cold",)


def test_else_the_fewest_go():
    ledger = holding(100, a=10, b=20, c=30, d=40)
    ledger.ask("x", {"cpu": 65})
    tenants = [Tenant(name, used) for used, name in enumerate("abcd")]
    assert ledger.decide("x", tenants).victims == ("d", "c")


@pytest.mark.parametrize("why", ["is_busy", "is_fresh"])
def test_who_is_in_use_stays_and_is_waited_for(why):
    ledger = holding(100, a=50, b=50)
    ledger.ask("x", {"cpu": 80})
    decision = ledger.decide("x", [replace(Tenant("a", 0), **{why: True}), Tenant("b", 1)])
    assert decision.verdict is Verdict.WAIT
    assert decision.victims == ()  # b alone would not do, so it is left alone
    assert decision.blockers == ("a",)


def test_what_can_never_fit_evicts_nobody_and_holds_nobody_up():
    ledger = holding(100, a=50)
    ledger.ask("x", {"cpu": 101})
    ledger.ask("y", {"cpu": 50})
    decision = ledger.decide("x", [Tenant("a", 0)])
    assert (decision.verdict, decision.victims) == (Verdict.NEVER, ())
    assert ledger.decide("y", [Tenant("a", 0)]).verdict is Verdict.FITS


def test_beside_what_is_pinned_it_never_fits():
    ledger = holding(100, a=50)
    ledger.ask("x", {"cpu": 51})
    decision = ledger.decide("x", [Tenant("a", 0, is_pinned=True)])
    assert (decision.verdict, decision.blockers) == (Verdict.NEVER, ("a",))


def test_a_small_one_does_not_pass_a_large_one_that_came_before():
    ledger = holding(100, a=50)
    busy = [Tenant("a", 0, is_busy=True)]
    ledger.ask("large", {"cpu": 80})
    ledger.ask("small", {"cpu": 10})
    assert ledger.decide("small", busy).blockers == ("large",)
    ledger.withdraw("large")
    assert ledger.decide("small", busy).verdict is Verdict.FITS


def test_bytes_on_their_way_back_are_waited_for():
    ledger = holding(100, a=100)
    ledger.ask("x", {"cpu": 100})
    assert ledger.decide("x", [Tenant("a", 0)]).verdict is Verdict.EVICT
    assert ledger.decide("x", []).verdict is Verdict.WAIT  # it is no tenant any more, and not gone yet
    ledger.release("a")
    assert ledger.decide("x", []).verdict is Verdict.FITS


def test_who_takes_more_than_promised_overdraws():
    ledger = holding(100, a=50, b=50)
    ledger.measure("a", {"cpu": 70})
    assert ledger.overdrawn() == {"cpu": 20}
    assert ledger.victims(ledger.overdrawn(), [Tenant("b", 0), Tenant("a", 1, is_busy=True)]) == ("b",)


sizes = st.integers(0, 60)
tenants = st.lists(st.tuples(sizes, sizes, st.integers(0, 9), st.integers(0, 7)), max_size=7)


@given(tenants, st.integers(1, 200))
@settings(max_examples=500, deadline=None)
def test_of_all_choices_on_one_device_it_takes_the_promised_one(models, short):
    ledger = Ledger({"cpu": 0})
    known = []
    for name, (size, _, used_at, flags) in zip(NAMES, models, strict=False):
        ledger.ask(name, {"cpu": size})
        ledger.force(name)
        known.append(Tenant(name, used_at, bool(flags & 1), bool(flags & 2), bool(flags & 4)))
    chosen = ledger.victims({"cpu": short}, known)
    able = [each for each in known if not (each.is_busy or each.is_pinned or each.is_fresh)]
    held = {name: size for name, (size, *_) in zip(NAMES, models, strict=False)}
    alone = [each for each in able if held[each.name] >= short]
    if alone:
        assert chosen == (min(alone, key=lambda each: (each.used_at, each.name)).name,)
        return
    covering = (
        count
        for count in range(2, len(able) + 1)
        if any(sum(held[each.name] for each in some) >= short for some in combinations(able, count))
    )
    assert len(chosen) == next(covering, 0)
    assert {*chosen} <= {each.name for each in able}
    assert not chosen or sum(held[name] for name in chosen) >= short


@given(tenants, st.integers(1, 100), st.integers(1, 100))
@settings(max_examples=500, deadline=None)
def test_on_two_devices_what_it_takes_suffices_and_none_of_it_is_needless(models, cpu, gpu):
    ledger = Ledger({"cpu": 0, "cuda:0": 0})
    known = []
    for name, (host, device, used_at, flags) in zip(NAMES, models, strict=False):
        ledger.ask(name, {"cpu": host, "cuda:0": device})
        ledger.force(name)
        known.append(Tenant(name, used_at, is_busy=flags == 0))
    held = {name: (host, device) for name, (host, device, *_) in zip(NAMES, models, strict=False)}

    def covers(names):
        return sum(held[name][0] for name in names) >= cpu and sum(held[name][1] for name in names) >= gpu

    chosen = ledger.victims({"cpu": cpu, "cuda:0": gpu}, known)
    able = [each.name for each in known if not each.is_busy]
    assert bool(chosen) == covers(able)
    if chosen:
        assert {*chosen} <= {*able}
        assert covers(chosen)
        assert not any(covers([name for name in chosen if name != left]) for left in chosen)


class House(RuleBasedStateMachine):
    """Models come, are used, pinned, measured and evicted, on two devices, beside a plain account of it all."""

    @initialize(cpu=st.integers(50, 200), gpu=st.integers(50, 200))
    def begin(self, cpu, gpu):
        self.limits = {"cpu": cpu, "cuda:0": gpu}
        self.ledger = Ledger(self.limits)
        self.now = 0.0
        self.held: dict[str, dict[str, int]] = {}  # of everybody with an account
        self.tenants: dict[str, Tenant] = {}
        self.going: list[str] = []  # evicted; bytes not back yet
        self.asked: dict[str, dict[str, int]] = {}  # in order
        self.has_overdrawn = False

    @rule(name=st.sampled_from(NAMES), cpu=st.integers(0, 220), gpu=st.integers(0, 220))
    def ask(self, name, cpu, gpu):
        if name not in self.asked and name not in self.held:
            self.asked[name] = {"cpu": cpu, "cuda:0": gpu}
            self.ledger.ask(name, self.asked[name])

    @precondition(lambda self: self.asked)
    @rule(data=st.data())
    def decide(self, data):
        self.decide_for(data.draw(st.sampled_from(list(self.asked))))

    def decide_for(self, name):
        before = {each: self.ledger.held(each) for each in self.limits}
        decision = self.ledger.decide(name, self.tenants.values())
        need, is_first = self.asked[name], name == next(iter(self.asked))
        pinned = [self.held[each.name] for each in self.tenants.values() if each.is_pinned]
        hopeless = any(
            need[each] > 0 and need[each] + sum(held[each] for held in pinned) > self.limits[each]
            for each in self.limits
        )
        assert (decision.verdict is Verdict.NEVER) == hopeless
        assert bool(decision.victims) == (decision.verdict is Verdict.EVICT)
        match decision.verdict:
            case Verdict.FITS:
                assert is_first
                self.held[name] = self.asked.pop(name)
                self.tenants[name] = Tenant(name, self.now, is_fresh=True)
                for each in self.limits:
                    assert need[each] == 0 or self.ledger.held(each) <= self.limits[each]
            case Verdict.EVICT:
                assert is_first
                for victim in decision.victims:
                    tenant = self.tenants.pop(victim)
                    assert not any((tenant.is_busy, tenant.is_pinned, tenant.is_fresh))
                    self.going.append(victim)
                for each in self.limits:  # decided so that it settles it
                    gone = sum(self.held[victim][each] for victim in decision.victims)
                    assert need[each] == 0 or before[each] - gone + need[each] <= self.limits[each]
            case Verdict.WAIT:
                assert decision.blockers
            case Verdict.NEVER:
                del self.asked[name]
        return decision.verdict

    @precondition(lambda self: self.tenants)
    @rule(data=st.data(), flag=st.sampled_from(["is_busy", "is_pinned", "is_fresh"]), value=st.booleans())
    def change(self, data, flag, value):
        name = data.draw(st.sampled_from(list(self.tenants)))
        self.now += 1
        self.tenants[name] = replace(self.tenants[name], used_at=self.now, **{flag: value})

    @precondition(lambda self: self.tenants)
    @rule(data=st.data(), cpu=st.integers(0, 80), gpu=st.integers(0, 80))
    def measure(self, data, cpu, gpu):
        name = data.draw(st.sampled_from(list(self.tenants)))
        promised = self.ledger.account(name).promised
        measured = {"cpu": cpu, "cuda:0": gpu}
        self.ledger.measure(name, measured)
        self.held[name] = {each: max(promised[each], measured[each]) for each in self.limits}
        self.has_overdrawn |= any(measured[each] > promised[each] for each in self.limits)

    @precondition(lambda self: self.going)
    @rule()
    def bytes_come_back(self):
        name = self.going.pop(0)
        self.ledger.release(name)
        del self.held[name]

    @precondition(lambda self: self.tenants)
    @rule(data=st.data())
    def die(self, data):
        name = data.draw(st.sampled_from(list(self.tenants)))
        self.ledger.release(name)
        self.ledger.release(name)
        del self.tenants[name], self.held[name]

    @precondition(lambda self: self.asked)
    @rule(data=st.data())
    def give_up(self, data):
        name = data.draw(st.sampled_from(list(self.asked)))
        self.ledger.withdraw(name)
        del self.asked[name]

    @invariant()
    def counts_balance(self):
        if not hasattr(self, "ledger"):
            return
        assert self.ledger.waiting == tuple(self.asked)
        assert {*self.ledger.names} == {*self.held}
        for device, limit in self.limits.items():
            assert self.ledger.held(device) == sum(held[device] for held in self.held.values())
            assert self.has_overdrawn or self.ledger.held(device) <= limit

    def teardown(self):
        """Once nobody is busy or pinned any more, everybody who waits is served, in order."""
        if not hasattr(self, "ledger"):
            return
        waited = list(self.asked)
        served = []
        for _ in range(4 * len(NAMES)):
            if not self.asked:
                break
            self.tenants = {name: Tenant(name, each.used_at) for name, each in self.tenants.items()}
            name = next(iter(self.asked))
            if self.decide_for(name) in (Verdict.FITS, Verdict.NEVER):
                served.append(name)
            while self.going:
                self.bytes_come_back()
            self.counts_balance()
        assert served == waited


TestHouse = House.TestCase
TestHouse.settings = settings(
    max_examples=200, stateful_step_count=50, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
