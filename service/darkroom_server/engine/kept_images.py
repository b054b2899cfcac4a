"""What a slot's workers keep of unfinished images. Loop-bound."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import replace

from darkroom_server.engine.active_job import ActiveJob
from darkroom_server.worker.checkpoint_file import CheckpointFile
from darkroom_server.worker.messages import ImagesSaved, KeptImage, SavedImage, WorkerSpec


class KeptImages:
    """Shared memory that a worker writes to, and its index.

    What a dead worker had there is read before the next one writes over it, and then belongs to
    the jobs; at most as much again.
    """

    def __init__(self, size_bytes: int) -> None:
        self._size_bytes = size_bytes
        self._file: CheckpointFile | None = None

    def given_to(self, spec: WorkerSpec) -> WorkerSpec:
        """What a worker is started with. Raises OSError when no file can be made."""
        if self._file is None and self._size_bytes:
            self._file = CheckpointFile.create(self._size_bytes)
        return replace(spec, checkpoints=self._file)

    def note(self, saved: ImagesSaved, jobs: Mapping[str, ActiveJob]) -> None:
        """A worker kept images."""
        for one in saved.images:
            if (active := jobs.get(one.job_id)) is not None:
                active.saved(one)

    async def take_over(self, jobs: Iterable[ActiveJob]) -> None:
        """Reads what a worker left that has died, of jobs that are still wanted."""
        file, jobs = self._file, list(jobs)
        if file is None:
            return
        left_bytes = self._size_bytes - sum(active.kept_bytes for active in jobs)
        wanted: list[tuple[ActiveJob, SavedImage]] = []
        for active in jobs:
            for one in active.left_behind():
                left_bytes -= one.byte_count
                if left_bytes >= 0:
                    wanted.append((active, one))
        read = await asyncio.to_thread(_read, file, [one for _, one in wanted])
        for (active, _), kept in zip(wanted, read, strict=True):
            active.keep(kept)

    def close(self) -> None:
        """Gives the memory back."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _read(file: CheckpointFile, images: list[SavedImage]) -> list[KeptImage]:
    return [
        KeptImage(
            image_index=one.image_index,
            completed_step_count=one.completed_step_count,
            step_count=one.step_count,
            state=file.read(one.blocks, one.byte_count),
        )
        for one in images
    ]
