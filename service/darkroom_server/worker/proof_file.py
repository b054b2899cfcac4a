"""What was proved of a version's exact steps on this machine, kept beside it as step costs are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from darkroom_server.backends.base import SharingPlan
from darkroom_server.kept_files import PUBLIC, replace_file
from darkroom_server.scheduling.shared_rows import RowKinds

log = structlog.get_logger(__name__)

#: Kept in the version's folder; a name with a dot is no part of the version.
FILE_NAME = ".exact_steps.json"
#: Sizes that are kept, the newest; some families' contain the lengths of texts.
_MAX_SIZE_COUNT = 1024


@dataclass(slots=True)
class Proofs:
    """Steps that were tried, by size, kinds of images and rows: whether they were equal."""

    _found: dict[str, dict[tuple[RowKinds, int], bool]] = field(default_factory=dict)

    def note(self, size: str, kinds: RowKinds, row_count: int, *, is_equal: bool) -> None:
        """Takes in what was found."""
        self._found.setdefault(size, {})[kinds, row_count] = is_equal
        if len(self._found) > _MAX_SIZE_COUNT:
            del self._found[next(iter(self._found))]

    def tried(self, size: str) -> frozenset[tuple[RowKinds, int]]:
        """What need not be tried again."""
        return frozenset(self._found.get(size, {}))

    def equal(self, size: str) -> Iterator[tuple[RowKinds, int]]:
        """What may be shared."""
        return (step for step, is_equal in self._found.get(size, {}).items() if is_equal)

    def to_json(self) -> list[dict[str, Any]]:
        """As it is kept."""
        return [
            {"size": size, "image_rows": kinds, "row_count": row_count, "is_equal": is_equal}
            for size, steps in self._found.items()
            for (kinds, row_count), is_equal in steps.items()
        ]

    @classmethod
    def from_json(cls, found: list[dict[str, Any]]) -> Proofs:
        """What was kept; raises KeyError, TypeError or ValueError for anything else."""
        proofs = cls()
        for one in found:
            kinds = tuple(int(rows) for rows in one["image_rows"])
            proofs.note(
                str(one["size"]), kinds, int(one["row_count"]), is_equal=one["is_equal"] is True
            )
        return proofs


@dataclass(frozen=True, slots=True)
class ProofFile:
    """The file, and the conditions under which what it holds is true."""

    path: Path
    conditions: dict[str, str]

    def read(self) -> tuple[Proofs, SharingPlan]:
        """What it has; nothing when it is missing, damaged or of other conditions."""
        try:
            found = json.loads(self.path.read_text())
            if found["conditions"] != self.conditions:
                return Proofs(), {}
            plan = {str(size): [str(n) for n in names] for size, names in found["apart"].items()}
            return Proofs.from_json(found["steps"]), plan
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return Proofs(), {}

    def write(self, proofs: Proofs, plan: SharingPlan) -> None:
        """Replaces it atomically; in a read-only repository every start repeats the proofs."""
        content = {"conditions": self.conditions, "apart": plan, "steps": proofs.to_json()}
        try:
            replace_file(self.path, json.dumps(content, indent=1) + "\n", mode=PUBLIC)
        except OSError as error:
            log.info("proofs of exact steps not kept", reason=error.strerror)
