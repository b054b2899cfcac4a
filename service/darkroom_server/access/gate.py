"""Lets callers in: one for both edges, which only find the credential."""

from __future__ import annotations

import asyncio
import enum
import re
from dataclasses import dataclass
from pathlib import Path

from darkroom_server.access.caller import Caller
from darkroom_server.access.keyring import KeyRing
from darkroom_server.access.ledger import FileLedger, Ledger, Uncounted, spent_path
from darkroom_server.access.rates import Rates
from darkroom_server.access.redis_ledger import RedisLedger
from darkroom_server.background import keep_going
from darkroom_server.domain.errors import InvalidApiKey
from darkroom_server.domain.keys import ApiKey, Permission

#: `Bearer KEY`, and `Bearer: KEY`, as some documentation prints it; `Key KEY` as fal's clients do.
_BEARER = re.compile(r"\s*(?:bearer|key)(?::\s*|\s+)(\S+)\s*", re.IGNORECASE)
#: What everyone may where no keys are asked for, and who shows none where they are.
_ANYONE = ApiKey(id="", name="", sha256=b"", permissions=frozenset(Permission))
_NOBODY = ApiKey(id="", name="", sha256=b"", permissions=frozenset())


class Need(enum.Enum):
    """What a call needs before anything else is checked."""

    NOTHING = enum.auto()
    KEY = enum.auto()
    MANAGE = enum.auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class GateOptions:
    """The file of keys, None to let everyone in, and the Redis that servers count in together."""

    keys_file: Path | None = None
    redis_url: str | None = None
    reflection_needs_key: bool = False


class Gate:
    """Knows the keys, and counts what they use. Belongs to the event loop."""

    def __init__(self, options: GateOptions) -> None:
        """Reads the files; raises KeysFileError, LedgerError."""
        self.reflection_needs_key = options.reflection_needs_key
        self._keys = None if options.keys_file is None else KeyRing(options.keys_file)
        self._rates = Rates(options.redis_url)
        self._ledger = _ledger(options)
        self._watch: asyncio.Task[None] | None = None

    @property
    def asks_for_keys(self) -> bool:
        """Whether callers need keys."""
        return self._keys is not None

    def start(self) -> None:
        """Begins to watch the file of keys."""
        if self._keys is not None:
            self._watch = keep_going("watch over keys", self._keys.watch)

    def refresh_keys(self) -> None:
        """Reads the file of keys now, if it has changed."""
        if self._keys is not None:
            self._keys.refresh()

    async def stop(self) -> None:
        """Returns when everything spent is kept."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        await self._ledger.close()

    def enter(self, authorization: str | None, need: Need, *, connection: str = "") -> Caller:
        """Who calls, by the value of `authorization`, or over which connection.

        Raises InvalidApiKey, PermissionDenied.
        """
        if self._keys is None:
            return Caller(_ANYONE, self._rates, self._ledger, connection=connection)
        if need is Need.NOTHING:
            return Caller(_NOBODY, self._rates, self._ledger)
        caller = Caller(self._keys.find(_bearer(authorization)), self._rates, self._ledger)
        if need is Need.MANAGE:
            caller.require(Permission.MANAGE)
        return caller


def _bearer(authorization: str | None) -> str:
    if not authorization:
        raise InvalidApiKey("An API key is needed: send `authorization: Bearer KEY`.")
    match = _BEARER.fullmatch(authorization)
    if match is None:
        raise InvalidApiKey("The `authorization` given is not `Bearer KEY`.")
    return match[1]


def _ledger(options: GateOptions) -> Ledger:
    if options.keys_file is None:
        return Uncounted()
    if options.redis_url is not None:
        return RedisLedger(options.redis_url)
    return FileLedger(spent_path(options.keys_file))
