"""How many files, sockets among them, this process may have open."""

from __future__ import annotations

import resource

#: More than a server needs; beyond it, what looks through all of them is slow.
_ENOUGH = 65_536


def raise_open_files_limit() -> int:
    """Lets the process, and those that it starts, have as many as the system allows.

    Returns how many. Many systems allow a few hundred thousand and begin with 1,024.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = _ENOUGH if hard == resource.RLIM_INFINITY else min(hard, _ENOUGH)
    if soft == resource.RLIM_INFINITY or soft >= allowed:
        return _ENOUGH if soft == resource.RLIM_INFINITY else soft
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return allowed
