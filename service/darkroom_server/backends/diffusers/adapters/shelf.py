"""Adapters in memory: as many as there is room for, those used last."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

from darkroom_server.backends.diffusers.adapters.low_rank import Adapter


class AdapterShelf:
    """Adapters by their keys, at most `max_bytes` but for the one just made. Any thread."""

    def __init__(self, *, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._held: OrderedDict[str, Adapter] = OrderedDict()
        self._lock = threading.Lock()
        self.held_bytes = 0

    def lookup(self, key: str, make: Callable[[], Adapter]) -> Adapter:
        """The one that is held, or `make`'s from now on; raises what `make` raises."""
        found = self.found(key)
        if found is not None:
            return found
        made = make()
        with self._lock:
            if key not in self._held:
                self._held[key] = made
                self.held_bytes += made.nbytes
            while self.held_bytes > self._max_bytes and len(self._held) > 1:
                _, dropped = self._held.popitem(last=False)
                self.held_bytes -= dropped.nbytes
        return made

    def found(self, key: str) -> Adapter | None:
        """The one that is held; it was used last from now on."""
        with self._lock:
            found = self._held.get(key)
            if found is not None:
                self._held.move_to_end(key)
            return found
