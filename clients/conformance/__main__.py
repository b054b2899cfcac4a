"""`make clients-test`: builds the clients, tries them on served models, prints a table."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from clients.conformance.languages import LANGUAGES, Language
from clients.conformance.trial import Trial, build, try_cases, try_pictures


def main() -> None:
    """Tries the languages asked for; leaves with 1 when one fails or lacks its tools."""
    parser = argparse.ArgumentParser(prog="clients.conformance", description=__doc__)
    names = [each.name for each in LANGUAGES]
    parser.add_argument("languages", nargs="*", metavar="LANGUAGE", help=", ".join(names))
    parser.add_argument("--no-picture", action="store_true", help="the fake model alone")
    parser.add_argument("--on", choices=("machine", "ray"), default="machine", help="what serves")
    args = parser.parse_args()
    unknown = sorted(set(args.languages) - set(names))
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(names)}")
    chosen = [each for each in LANGUAGES if not args.languages or each.name in args.languages]
    for each in chosen:
        _require_tools(each)
        print(f"== building {each.name}", flush=True)
        build(each)
    print("== running", flush=True)
    on_ray = args.on == "ray"
    trials = try_cases(chosen, on_ray=on_ray)
    pictures = [] if args.no_picture else try_pictures(chosen, on_ray=on_ray)
    print(table(trials, pictures))
    sys.exit(0 if all(trial.passed for trial in (*trials, *pictures)) else 1)


def _require_tools(language: Language) -> None:
    missing = language.missing()
    if missing:
        sys.exit(f"{language.name} needs {', '.join(missing)}; clients/install.sh installs them")


def table(trials: Sequence[Trial], pictures: Sequence[Trial]) -> str:
    """One column a language, one row a case, and below the faults in words."""
    rows = [["case", *(trial.language for trial in trials)]]
    for group in (trials, pictures):
        names = dict.fromkeys(name for trial in group for name in trial.faults)
        for name in names:
            rows.append([name, *("FAILED" if trial.faults.get(name) else "ok" for trial in group)])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    lines.insert(1, "  ".join("-" * width for width in widths))
    for trial in (*trials, *pictures):
        for name, faults in trial.faults.items():
            lines += [f"{trial.language}: {name}: {fault}" for fault in faults]
    ran = [bool(faults) for trial in (*trials, *pictures) for faults in trial.faults.values()]
    return "\n".join([*lines, "", f"{ran.count(False)} passed, {ran.count(True)} failed"])


if __name__ == "__main__":
    main()
