"""What to load and what to unload, by what should serve and what does. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from darkroom_server.domain.model_status import VersionState
from darkroom_server.domain.models import UpdatePolicy


@dataclass(frozen=True, slots=True, order=True)
class Edition:
    """A version with certain files in it: another digest is another edition.

    `reload_count`: how often a reload of the same files was requested.
    """

    version: int
    digest: str
    reload_count: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """An edition whose load has begun and whose unload has not."""

    edition: Edition
    state: VersionState
    #: Whether a failed one is to be tried again now.
    retry_due: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do for a model now. `wait` are to load as soon as those that leave have left."""

    load: tuple[Edition, ...] = ()
    wait: tuple[Edition, ...] = ()
    leave: tuple[Edition, ...] = ()


def plan_update(wanted: Sequence[Edition], live: Sequence[Live], *, policy: UpdatePolicy) -> Plan:
    """How a model comes from what is live to what is wanted.

    AVAILABILITY loads beside and lets the old go when all that is wanted serves, so that a failed
    load leaves the old one. RESOURCE lets the old go first. What is not wanted and does not serve
    leaves at once. AUTO must have been decided, and counts as AVAILABILITY.
    """
    state_of = {one.edition: one.state for one in live}
    missing = tuple(one for one in wanted if one not in state_of)
    again = tuple(
        one.edition
        for one in live
        if one.edition in wanted and one.state is VersionState.FAILED and one.retry_due
    )
    surplus = [one for one in live if one.edition not in wanted]
    all_serve = all(state_of.get(one) is VersionState.READY for one in wanted)
    holding = [
        one for one in surplus if one.state in (VersionState.READY, VersionState.UNAVAILABLE)
    ]
    if not holding or all_serve:
        return Plan(load=missing + again, leave=tuple(one.edition for one in surplus))
    useless = tuple(one.edition for one in surplus if one not in holding)
    if policy is not UpdatePolicy.RESOURCE or not missing:
        return Plan(load=missing + again, leave=useless)
    return Plan(load=again, wait=missing, leave=tuple(one.edition for one in surplus))
