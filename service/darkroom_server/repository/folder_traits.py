"""What a version folder's pipeline can do, with a problem for all that it cannot."""

from __future__ import annotations

from darkroom_server.domain.problems import ProblemLog
from darkroom_server.pipelines.traits import PipelineTraits, UnsupportedPipeline, derive_traits
from darkroom_server.repository.pipeline_folder import PipelineFolder
from darkroom_server.repository.version_files import FileEntry


def traits_of_folder(
    files: dict[str, FileEntry], shown: str, problems: ProblemLog
) -> PipelineTraits | None:
    """The traits, or None with a problem for everything wrong. Blocking."""
    parts = PipelineFolder(files, shown, problems).read()
    if parts is None:
        return None
    try:
        traits = derive_traits(parts)
    except UnsupportedPipeline as error:
        problems.error(f"{shown}/{error.file}", str(error))
        return None
    for one in traits.unhonoured:
        problems.warning(f"{shown}/{one.file}", f"{one.message}: its requests run whole")
    return traits
