"""What a key has used, as tables and as properties."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from darkroom_server.access.account import Account, Balance, Reservation
from darkroom_server.domain.errors import InsufficientCredits, RateLimited
from tests.unit.access.example_keys import api_key

KEY = api_key(budget_pixel_steps=100)


def test_what_is_reserved_is_not_left_and_comes_back_as_far_as_it_was_not_used() -> None:
    account = Account(spent=10).reserve(KEY, "a", Reservation(50), 0.0)
    assert account.balance(KEY, 0.0) == Balance(spent=10, left=40)
    account = account.settle("a", 20)
    assert account.balance(KEY, 0.0) == Balance(spent=30, left=70)


@pytest.mark.parametrize(("wanted", "fits"), [(90, True), (91, False), (0, True)])
def test_the_last_credit_can_be_spent_and_none_beyond(wanted: int, fits: bool) -> None:
    account = Account(spent=10)
    if fits:
        assert (
            account.reserve(KEY, "a", Reservation(wanted), 0.0).balance(KEY, 0.0).left is not None
        )
        return
    with pytest.raises(InsufficientCredits) as caught:
        account.reserve(KEY, "a", Reservation(wanted), 0.0)
    assert "9.1e-05 credits; 9e-05 are left" in str(caught.value)
    assert caught.value.key_id == KEY.id


def test_without_a_budget_what_was_spent_is_known_all_the_same() -> None:
    key = api_key()
    account = Account().reserve(key, "a", Reservation(10**12), 0.0).settle("a", 10**12)
    assert account.balance(key, 0.0) == Balance(spent=10**12, left=None)


def test_a_budget_that_was_lowered_leaves_nothing_rather_than_less() -> None:
    assert Account(spent=500).balance(KEY, 0.0).left == 0


def test_so_many_run_at_a_time_and_no_more() -> None:
    key = api_key(max_concurrent_requests=2)
    account = Account()
    for name in ("a", "b"):
        account = account.reserve(key, name, Reservation(1), 0.0)
    with pytest.raises(RateLimited, match="2 requests of this key are running; it may have 2"):
        account.reserve(key, "c", Reservation(1), 0.0)
    assert account.settle("a", 1).reserve(key, "c", Reservation(1), 0.0)


def test_what_a_dead_server_held_is_free_once_it_has_expired() -> None:
    key = api_key(budget_pixel_steps=100, max_concurrent_requests=1)
    account = Account().reserve(key, "a", Reservation(80, expires_s=60.0), 0.0)
    assert account.balance(key, 59.0).left == 20
    assert account.balance(key, 61.0).left == 100
    assert account.reserve(key, "b", Reservation(90, expires_s=120.0), 61.0)
    renewed = account.renew({"a", "unknown"}, 90.0)
    assert renewed.balance(key, 61.0).left == 20
    assert set(renewed.reservations) == {"a"}
    # A server that only stalled can settle it still.
    assert account.settle("a", 80).spent == 80
    assert account.without_expired(61.0).reservations == {}


class Use(RuleBasedStateMachine):
    """A key is used in any order: with a budget, expiry aside."""

    def __init__(self) -> None:
        super().__init__()
        self.key = api_key(budget_pixel_steps=1000)
        self.account = Account()
        self.reserved_ever = 0
        self.names = 0

    @rule(pixel_steps=st.integers(0, 600))
    def reserve(self, pixel_steps: int) -> None:
        self.names += 1
        left = self.account.balance(self.key, 0.0).left
        assert left is not None
        try:
            after = self.account.reserve(self.key, str(self.names), Reservation(pixel_steps), 0.0)
        except InsufficientCredits:
            assert pixel_steps > left
            return
        assert pixel_steps <= left
        self.account, self.reserved_ever = after, self.reserved_ever + pixel_steps

    @rule(which=st.integers(1, 20), used=st.integers(-50, 1000))
    def settle(self, which: int, used: int) -> None:
        """Settling twice, or what was never reserved, changes nothing."""
        before = self.account
        held = before.reservations.get(str(which))
        self.account = before.settle(str(which), used)
        charged = self.account.spent - before.spent
        assert 0 <= charged <= (held.pixel_steps if held else 0)
        refunded = (held.pixel_steps if held else 0) - charged
        assert 0 <= refunded <= (held.pixel_steps if held else 0)
        assert self.account.settle(str(which), used) == self.account

    @invariant()
    def nothing_is_overspent(self) -> None:
        budget = self.key.budget_pixel_steps
        assert budget is not None
        assert 0 <= self.account.spent + self.account.reserved(0.0) <= budget
        assert self.account.spent <= self.reserved_ever


TestUse = Use.TestCase
