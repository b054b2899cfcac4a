"""What a key has used: pure values, with time as an argument.

A request's cost is reserved before it runs and settled when it ends, for what it used of it. So
the sum of what was spent and what is reserved never passes the budget.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from darkroom_server.domain.errors import InsufficientCredits, RateLimited
from darkroom_server.domain.keys import ApiKey, in_credits

#: Retry delay sent to a caller when too many of its requests run.
CONCURRENCY_RETRY_S = 1.0


@dataclass(frozen=True, slots=True)
class Reservation:
    """Pixel-steps held for a request that runs, until `expires_s`; None: until it is settled."""

    pixel_steps: int
    expires_s: float | None = None

    def counts(self, now_s: float) -> bool:
        """Whether it still holds: a server that died cannot settle what it reserved."""
        return self.expires_s is None or self.expires_s > now_s


@dataclass(frozen=True, slots=True)
class Balance:
    """How a key stands: pixel-steps spent, and left of its budget; None without one."""

    spent: int
    left: int | None


@dataclass(frozen=True, slots=True)
class Account:
    """Pixel-steps that a key has spent, and its reservations by request."""

    spent: int = 0
    reservations: Mapping[str, Reservation] = field(default_factory=dict)

    def reserved(self, now_s: float) -> int:
        """Pixel-steps held for requests that run."""
        return sum(one.pixel_steps for one in self.reservations.values() if one.counts(now_s))

    def balance(self, key: ApiKey, now_s: float) -> Balance:
        """How the key stands; what is left is never below 0."""
        if key.budget_pixel_steps is None:
            return Balance(self.spent, None)
        left = key.budget_pixel_steps - self.spent - self.reserved(now_s)
        return Balance(self.spent, max(0, left))

    def reserve(self, key: ApiKey, request_id: str, wanted: Reservation, now_s: float) -> Account:
        """The account with a reservation more; raises RateLimited, InsufficientCredits."""
        running_count = sum(one.counts(now_s) for one in self.reservations.values())
        highest = key.max_concurrent_requests
        if highest is not None and running_count >= highest:
            raise RateLimited(
                f"{running_count} requests of this key are running; it may have {highest}.",
                key_id=key.id,
                retry_after_s=CONCURRENCY_RETRY_S,
            )
        left = self.balance(key, now_s).left
        if left is not None and wanted.pixel_steps > left:
            raise InsufficientCredits(
                f"The request takes {in_credits(wanted.pixel_steps):g} credits; "
                f"{in_credits(left):g} are left.",
                key_id=key.id,
            )
        return Account(self.spent, {**self.reservations, request_id: wanted})

    def settle(self, request_id: str, used: int) -> Account:
        """The account with a reservation less and what was used of it spent, at most all of it.

        A request that was settled before changes nothing.
        """
        held = self.reservations.get(request_id)
        if held is None:
            return self
        others = {name: one for name, one in self.reservations.items() if name != request_id}
        return Account(self.spent + min(max(used, 0), held.pixel_steps), others)

    def renew(self, request_ids: Collection[str], expires_s: float) -> Account:
        """The account with these reservations, as far as it has them, held until then."""
        renewed = {
            name: Reservation(one.pixel_steps, expires_s) if name in request_ids else one
            for name, one in self.reservations.items()
        }
        return Account(self.spent, renewed)

    def without_expired(self, before_s: float) -> Account:
        """The account less the reservations that expired before then."""
        kept = {name: one for name, one in self.reservations.items() if one.counts(before_s)}
        return Account(self.spent, kept)
