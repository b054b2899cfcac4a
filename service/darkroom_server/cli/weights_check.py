"""Whether the weights of a repository's models are those that their configurations ask for."""

from __future__ import annotations

from dataclasses import replace

from darkroom_server.cli.local_models import quieten
from darkroom_server.domain.errors import DarkroomError
from darkroom_server.domain.models import BackendKind, VersionInfo
from darkroom_server.domain.own_words import own_words
from darkroom_server.domain.problems import Problem, ProblemLog
from darkroom_server.repository.scan import RepositoryScan
from darkroom_server.worker.failures import attempt


def with_weights_checked(scan: RepositoryScan) -> RepositoryScan:
    """A look at a repository, with what is wrong between configurations and weights.

    Takes some seconds, of which most are the import of the libraries. Blocking. Raises
    MachineStarved and DeviceLost.
    """
    problems: list[Problem] = []
    whole = []
    for model in scan.models:
        log = ProblemLog(model.info.name)
        faulty = {version.version for version in model.versions if _is_faulty(version, log)}
        problems += log.problems
        if any(version.version not in faulty for version in model.versions):
            whole.append(model)
    broken = {model.info.name for model in scan.models} - {model.info.name for model in whole}
    return replace(
        scan,
        models=tuple(whole),
        broken=(*scan.broken, *sorted(broken)),
        problems=(*scan.problems, *problems),
    )


def _is_faulty(version: VersionInfo, log: ProblemLog) -> bool:
    if version.model.backend is not BackendKind.DIFFUSERS or version.model.runtime == "openvino":
        return False
    # Seconds, which only those wait who have such a model.
    from darkroom_server.backends.diffusers.part_weights import components, part_faults
    from darkroom_server.backends.diffusers.whole_request import reason_against_class

    quieten()
    shown = f"{version.model.name}/{version.version}"
    if version.model.runs_whole and (reason := reason_against_class(version.model.pipeline_class)):
        log.error(shown, f"{version.model.pipeline_class} {reason}")
        return True
    faults = attempt(lambda: list(part_faults(version.path, components(version.path))))
    if isinstance(faults, DarkroomError):
        log.error(shown, f"its parts cannot be built of their configurations: {own_words(faults)}")
        return True
    for fault in faults:
        log.error(f"{shown}/{fault.part}", fault.message)
    return bool(faults)
