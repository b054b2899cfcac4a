"""Where accounts are kept: the protocol, and the ledger of a single server, in a file."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from pathlib import Path
from typing import IO, Protocol

import structlog

from darkroom_server.access.account import Account, Balance, Reservation
from darkroom_server.access.files import hold_lock, in_file_thread
from darkroom_server.background import begin
from darkroom_server.domain.keys import ApiKey
from darkroom_server.kept_files import replace_file

_FIELD = "spent_pixel_steps"
#: Reservations in memory do not expire: they end with the process that could settle them.
_NOW_S = 0.0

log = structlog.get_logger(__name__)


class Ledger(Protocol):
    """Accounts by key id. Belongs to one event loop."""

    async def reserve(self, key: ApiKey, request_id: str, pixel_steps: int) -> Balance:
        """Holds pixel-steps for a request; returns how the key stands then.

        Raises RateLimited (too many run), InsufficientCredits, LimitsUnavailable.
        """

    def settle(self, key_id: str, request_id: str, used: int) -> None:
        """Ends a reservation; once, however often it is called. Never blocks."""

    async def balance(self, key: ApiKey) -> Balance:
        """How the key stands; raises LimitsUnavailable."""

    async def close(self) -> None:
        """Returns when everything settled is kept."""


class LedgerError(Exception):
    """Accounts that cannot be used; the message says why, in one line."""


class Uncounted:
    """The ledger where no keys are asked for: nothing is held, nothing is spent."""

    async def reserve(self, key: ApiKey, request_id: str, pixel_steps: int) -> Balance:  # noqa: ARG002
        """Holds nothing."""
        return Balance(0, None)

    def settle(self, key_id: str, request_id: str, used: int) -> None:
        """Nothing is to be settled."""

    async def balance(self, key: ApiKey) -> Balance:  # noqa: ARG002
        """Nothing spent, no budget."""
        return Balance(0, None)

    async def close(self) -> None:
        """Nothing is kept."""


class FileLedger:
    """Accounts in memory, what was spent of each in a file that is replaced whole.

    A reservation is not written: what a server that died was running is not charged.
    """

    def __init__(self, path: Path) -> None:
        """Reads the file, if it is there, and keeps other servers away; raises LedgerError."""
        self._path = path
        self._lock = _locked(path)
        spent = read_spent(path)
        self._accounts: defaultdict[str, Account] = defaultdict(
            Account, {key_id: Account(amount) for key_id, amount in spent.items()}
        )
        self._is_dirty = False
        self._writing: asyncio.Task[None] | None = None

    async def reserve(self, key: ApiKey, request_id: str, pixel_steps: int) -> Balance:
        """Holds pixel-steps for a request."""
        account = self._accounts[key.id].reserve(key, request_id, Reservation(pixel_steps), _NOW_S)
        self._accounts[key.id] = account
        return account.balance(key, _NOW_S)

    def settle(self, key_id: str, request_id: str, used: int) -> None:
        """Ends a reservation."""
        self._accounts[key_id] = self._accounts[key_id].settle(request_id, used)
        self._is_dirty = True
        if self._writing is None or self._writing.done():
            self._writing = begin("writing of credits", self._write())

    async def balance(self, key: ApiKey) -> Balance:
        """How the key stands."""
        return self._accounts[key.id].balance(key, _NOW_S)

    async def close(self) -> None:
        """Writes what is left to write, and lets another server have the file."""
        await self.written()
        self._lock.close()

    async def written(self) -> None:
        """Returns when what was settled so far is in the file, or could not be written."""
        if self._writing is not None:
            await self._writing

    async def _write(self) -> None:
        """Writes until nothing has changed meanwhile: many requests share one write."""
        while self._is_dirty:
            self._is_dirty = False
            spent = {key_id: one.spent for key_id, one in self._accounts.items() if one.spent}
            text = json.dumps({_FIELD: spent}, indent=2) + "\n"
            try:
                await in_file_thread(replace_file, self._path, text)
            except OSError as error:
                # It is in memory still, and goes with the next write.
                log.error("credits not written", file=str(self._path), problem=error.strerror)


def spent_path(keys_file: Path) -> Path:
    """The file beside the file of keys."""
    return keys_file.with_name(f"{keys_file.name}.spent.json")


def read_spent(path: Path) -> dict[str, int]:
    """Pixel-steps spent by key id; nothing when the file is not there. Raises LedgerError."""
    try:
        spent = json.loads(path.read_text(encoding="utf-8"))[_FIELD]
        return {str(key_id): int(amount) for key_id, amount in spent.items()}
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise LedgerError(f"{path}: {error.strerror}") from None
    except (ValueError, LookupError, TypeError, AttributeError):
        raise LedgerError(
            f"{path}: not readable as spent credits; put a good copy there, or take it away to "
            "begin again with nothing spent"
        ) from None


def _locked(path: Path) -> IO[str]:
    try:
        return hold_lock(path, waits=False)
    except BlockingIOError:
        raise LedgerError(
            f"{path}: another server counts credits there; servers that share keys need "
            "--limits-storage redis://HOST"
        ) from None
    except OSError as error:
        raise LedgerError(f"{path}: {error.strerror}") from None
