"""The caller of a call and its permissions: the same for every edge. Bound to the event loop."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from contextvars import ContextVar
from types import TracebackType
from typing import Self, TypeAlias

import structlog

from darkroom_server.access.account import Balance
from darkroom_server.access.ledger import Ledger
from darkroom_server.access.rates import Rates, RateStanding
from darkroom_server.domain.errors import Cancelled, DeadlineExceeded, PermissionDenied
from darkroom_server.domain.jobs import Task
from darkroom_server.domain.keys import PERMISSION_OF_TASK, ApiKey, Permission
from darkroom_server.domain.models import ModelInfo

#: Steps done, of how many.
Progress: TypeAlias = tuple[int, int]

#: Ends of a request that are its caller's doing: what was done until then is charged.
_CALLERS_DOING = (asyncio.CancelledError, GeneratorExit, Cancelled, DeadlineExceeded)


class Caller:
    """The holder of a key, during one call.

    `connection` distinguishes callers without a key.
    """

    def __init__(self, key: ApiKey, rates: Rates, ledger: Ledger, *, connection: str = "") -> None:
        self.key = key
        self._connection = connection
        #: How it stood when it last asked for something; None: there is no limit, or nobody asked.
        self.rate: RateStanding | None = None
        self.balance: Balance | None = None
        self._rates = rates
        self._ledger = ledger
        self._is_counted = False

    @property
    def name(self) -> str:
        """Among whom a device is shared: the holder of the key, or else the connection."""
        return f"key {self.key.id}" if self.key.id else self._connection

    def require(self, permission: Permission) -> None:
        """Raises PermissionDenied for what the key is not for."""
        if permission not in self.key.permissions:
            able = ", ".join(sorted(one.value for one in self.key.permissions)) or "nothing"
            raise PermissionDenied(f"This key may not {permission.value}; it may: {able}.")

    async def count(self) -> None:
        """Counts the call as a request, once; raises RateLimited, LimitsUnavailable."""
        if not self._is_counted:
            self._is_counted = True
            self.rate = await self._rates.count(self.key)

    def again(self) -> Caller:
        """The same holder, for another request of the same call, which is counted for itself."""
        return Caller(self.key, self._rates, self._ledger, connection=self._connection)

    async def begin(self, task: Task) -> None:
        """Counts the call, if no edge has; raises PermissionDenied, RateLimited,
        LimitsUnavailable.
        """
        await self.count()
        self.require(PERMISSION_OF_TASK[task])

    def require_model(self, model: ModelInfo) -> None:
        """Raises PermissionDenied for a model that the key is not for."""
        names = (model.name, f"models/{model.name}", model.hub_id, *model.aliases)
        if not self.key.allows_model(filter(None, names)):
            raise PermissionDenied(
                f"This key may not use models/{model.name}; it may use: "
                f"{', '.join(self.key.models) or 'none'}."
            )

    async def reserve(self, pixel_steps: int, progress: Callable[[], Progress]) -> Spending:
        """Reserves a request's cost; `progress` gives the completed part if it ends early.

        Raises RateLimited, InsufficientCredits, LimitsUnavailable.
        """
        request_id = uuid.uuid4().hex
        self.balance = await self._ledger.reserve(self.key, request_id, pixel_steps)
        return Spending(self._ledger, self.key.id, request_id, pixel_steps, progress)

    async def look(self) -> None:
        """Finds out how the key stands; counts nothing. Raises LimitsUnavailable."""
        self.rate = await self._rates.standing(self.key)
        self.balance = await self._ledger.balance(self.key)


class Spending:
    """What a request that runs holds of its key's credits. Leaving the context settles it."""

    def __init__(
        self,
        ledger: Ledger,
        key_id: str,
        request_id: str,
        pixel_steps: int,
        progress: Callable[[], Progress],
    ) -> None:
        self._ledger = ledger
        self._key_id = key_id
        self._request_id = request_id
        self._pixel_steps = pixel_steps
        self._progress = progress

    def __enter__(self) -> Self:
        """The spending itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Charges what was used, and gives the rest back."""
        used = used_pixel_steps(self._pixel_steps, kind, self._progress())
        self._ledger.settle(self._key_id, self._request_id, used)


def used_pixel_steps(held: int, ended_by: type[BaseException] | None, progress: Progress) -> int:
    """What to charge of what was held: all of a request that was completed, the steps done of one
    that its caller ended, nothing of one that failed.
    """
    done_count, total_count = progress
    if ended_by is None:
        return held
    if issubclass(ended_by, _CALLERS_DOING) and total_count > 0:
        return held * min(done_count, total_count) // total_count
    return 0


_current: ContextVar[Caller] = ContextVar("caller")


def set_caller(caller: Caller) -> None:
    """Says who makes the call that this task answers, and puts the key's id in its log lines."""
    _current.set(caller)
    if caller.key.id:
        structlog.contextvars.bind_contextvars(key=caller.key.id)


def current_caller() -> Caller:
    """Who makes the call that this task answers; LookupError where no edge has said so."""
    return _current.get()
