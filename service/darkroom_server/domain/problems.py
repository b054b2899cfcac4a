"""What is wrong in a model repository, and where."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field, replace


class Severity(enum.Enum):
    """An error keeps something from being served as it is written; a warning does not."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a text; both counts start at 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One finding.

    `model` is the model's folder, empty when the repository itself is at fault; `path` is relative
    to the repository's root. `excerpt` is the offending line with a caret below it, or empty. All
    texts are printable.
    """

    model: str
    severity: Severity
    path: str
    message: str
    at: Position | None = None
    excerpt: str = ""

    @property
    def place(self) -> str:
        """`path:line:column`, as far as known."""
        if self.at is None:
            return self.path
        return f"{self.path}:{self.at.line}:{self.at.column}"

    def __str__(self) -> str:
        return f"{self.place}: {self.severity.value}: {self.message}"


def printable(text: str) -> str:
    """The text with everything escaped that a terminal or UTF-8 would not take as it is."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def quoted(text: str, *, longest: int = 80) -> str:
    """A name from a file, printable, in quotes, cut when it is very long."""
    shown = text if len(text) <= longest else text[:longest] + "…"
    return f"'{printable(shown)}'"


def first_names(names: Collection[str], *, most: int = 3) -> str:
    """The first names in quotes, and how many more there are."""
    shown = ", ".join(quoted(name) for name in sorted(names)[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


#: Errors of one model, and warnings, that are reported; the rest is counted.
MAX_PROBLEM_COUNT = 200


@dataclass(slots=True)
class ProblemLog:
    """The problems of one model in the order they are found, each once, and not without end."""

    model: str
    problems: list[Problem] = field(default_factory=list)
    _seen: set[Problem] = field(default_factory=set)
    _counts: Counter[Severity] = field(default_factory=Counter)

    def error(
        self, path: str, message: str, *, at: Position | None = None, excerpt: str = ""
    ) -> None:
        """Adds an error."""
        self._add(Severity.ERROR, path, message, at, excerpt)

    def warning(
        self, path: str, message: str, *, at: Position | None = None, excerpt: str = ""
    ) -> None:
        """Adds a warning."""
        self._add(Severity.WARNING, path, message, at, excerpt)

    @property
    def error_count(self) -> int:
        """Errors so far; a caller that compares it before and after a check knows its outcome."""
        return self._counts[Severity.ERROR]

    def _add(
        self, severity: Severity, path: str, message: str, at: Position | None, excerpt: str
    ) -> None:
        problem = Problem(
            model=printable(self.model),
            severity=severity,
            path=printable(path),
            message=printable(message),
            at=at,
            excerpt=excerpt,
        )
        if problem in self._seen:
            return
        self._counts[severity] += 1
        if self._counts[severity] <= MAX_PROBLEM_COUNT:
            self._seen.add(problem)
            self.problems.append(problem)
        elif self._counts[severity] == MAX_PROBLEM_COUNT + 1:
            more = f"has more than {MAX_PROBLEM_COUNT} {severity.value}s: the rest is left out"
            place = problem.path.partition("/")[0]
            self.problems.append(replace(problem, path=place, message=more, at=None, excerpt=""))
