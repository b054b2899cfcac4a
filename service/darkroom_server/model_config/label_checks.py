"""Checks of a config's version labels, and of the shares of traffic that they get."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

from darkroom_server.domain.labels import label_fault
from darkroom_server.domain.problems import ProblemLog, quoted
from darkroom_server.model_config.config_file import ConfigFile


def check_traffic(config: ConfigFile, problems: ProblemLog) -> None:
    """The shares, and the labels that they are for."""
    field, shares = "traffic_percent", dict(config.settings.traffic_percent)
    _check_labels(config, field, shares, problems)
    for label, percent in shares.items():
        if not (math.isfinite(percent) and 0 <= percent <= 100):
            index = config.label_index(field, label)
            config.error(problems, f"a share is 0 to 100, not {percent:g}", field, index=index)
    whole = sum(shares.values())
    if whole > 100:
        config.error(problems, f"the shares are {whole:g} % together", field)


def check_labels(config: ConfigFile, problems: ProblemLog) -> None:
    """The labels of versions, alone."""
    _check_labels(config, "version_labels", dict(config.settings.version_labels), problems)


def _check_labels(
    config: ConfigFile, field: str, labels: Mapping[str, float], problems: ProblemLog
) -> None:
    entries = [use for use in config.source.uses if use.path == (field,)]
    if len(entries) > len(labels):
        config.error(problems, "a label is set twice", field, index=len(entries) - 1)
    for label in labels:
        fault = label_fault(label)
        if fault:
            index = config.label_index(field, label)
            config.error(problems, f"label {quoted(label)} {fault}", field, index=index)


def check_labels_against_versions(
    config: ConfigFile, known: Collection[int], served: Collection[int], problems: ProblemLog
) -> None:
    """Whether the labels' versions are there and serve."""
    for label, version in config.settings.version_labels:
        if version not in known:
            config.warning(
                problems,
                f"label {quoted(label)} points at version {version}, which is not there "
                f"(there: {listed(known)})",
                "version_labels",
                index=config.label_index("version_labels", label),
            )
        elif version not in served:
            config.warning(
                problems,
                f"label {quoted(label)} points at version {version}, which does not serve "
                f"(serving: {listed(served)})",
                "version_labels",
                index=config.label_index("version_labels", label),
            )


def listed(versions: Collection[int]) -> str:
    """Numbers of versions for a message, highest first."""
    return ", ".join(map(str, sorted(versions, reverse=True))) or "none"
