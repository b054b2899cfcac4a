"""Keeps checkpoints of images every few steps, in memory that outlives the worker, and resumes.

An image's first state is computed again, which costs no step: a checkpoint has what steps changed.
The server gets the place of a state when it is written completely, and only then is the space of
the one before reused; so whenever a worker dies, every state that the server knows is there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic

import structlog

from darkroom_server.backends.base import Encoded, Inputs, OneTrajectory, Outputs, StepModel
from darkroom_server.domain.errors import DarkroomError
from darkroom_server.worker.checkpoint_file import BLOCK_BYTES, CheckpointFile
from darkroom_server.worker.compression import JobRecord
from darkroom_server.worker.failures import attempt
from darkroom_server.worker.messages import ImagesSaved, Report, SavedImage
from darkroom_server.worker.step_jobs import RunningImage, StepJob

log = structlog.get_logger(__name__)

#: Steps after which an image is kept again, and so the most that are done twice.
STEPS_BETWEEN = 3
#: An image may take such a part of the room: what is larger costs more to keep than to do again.
LARGEST_PART = 16


@dataclass(slots=True)
class _Held:
    """What is kept of an image, and after which step; no blocks where it could not be."""

    record: JobRecord
    completed_step_count: int
    blocks: tuple[int, ...] = ()
    is_refused: bool = False


class Checkpoints(Generic[Encoded, OneTrajectory, Inputs, Outputs]):
    """What a worker keeps of the images it makes. Bound to the model thread."""

    def __init__(
        self,
        model: StepModel[Encoded, OneTrajectory, Inputs, Outputs],
        file: CheckpointFile | None,
        emit: Callable[[Report], None],
    ) -> None:
        self._model = model
        self._file = file
        self._emit = emit
        self._free = [] if file is None else list(range(file.block_count))
        self._held: dict[tuple[str, int], _Held] = {}

    def begin(self, running: StepJob[Encoded, OneTrajectory], image_index: int) -> OneTrajectory:
        """An image's trajectory: a fresh one, or one that continues what was kept of it.

        Raises DeviceLost.
        """
        spec, kept = running.job.spec, running.earlier.kept_of(image_index)
        fresh = self._model.begin(spec, running.encoded, image_index)
        if kept is None:
            return fresh
        if isinstance(attempt(lambda: self._model.restore(fresh, kept.state)), DarkroomError):
            return self._model.begin(spec, running.encoded, image_index)
        log.info(
            "image resumed",
            job_id=running.job.job_id,
            image_index=image_index,
            completed_step_count=fresh.completed_step_count,
        )
        return fresh

    def save(self, images: Sequence[RunningImage[Encoded, OneTrajectory]]) -> None:
        """Saves the images that are far enough past their last checkpoint; raises DeviceLost."""
        if self._file is None:
            return
        due = [image for image in images if self._is_due(image)]
        if not due:
            return
        self._forget_ended()
        before: list[int] = []
        saved = [one for image in due if (one := self._save(image, self._file, before)) is not None]
        if saved:
            self._emit(ImagesSaved(tuple(saved)))
            self._free += before

    def _is_due(self, image: RunningImage[Encoded, OneTrajectory]) -> bool:
        if image.trajectory.finished:
            return False
        held = self._held.get((image.step.job_id, image.step.image_index))
        if held is None:
            kept = image.running.earlier.kept_of(image.step.image_index)
            before = 0 if kept is None else kept.completed_step_count
        else:
            before = held.completed_step_count
        is_refused = held is not None and held.is_refused
        return not is_refused and image.trajectory.completed_step_count - before >= STEPS_BETWEEN

    def _save(
        self,
        image: RunningImage[Encoded, OneTrajectory],
        file: CheckpointFile,
        before: list[int],
    ) -> SavedImage | None:
        """Writes an image's state; the blocks of the one before are added to `before`."""
        key, trajectory = (image.step.job_id, image.step.image_index), image.trajectory
        done = trajectory.completed_step_count
        held = self._held.setdefault(key, _Held(image.running.record, done))
        held.completed_step_count = done
        state = attempt(lambda: self._model.snapshot(trajectory))
        if state is None or isinstance(state, DarkroomError):
            held.is_refused = True
            return None
        block_count = -(-len(state) // BLOCK_BYTES)
        if block_count > file.block_count // LARGEST_PART:
            held.is_refused = True
            log.info("image is not kept", job_id=key[0], byte_count=len(state))
            return None
        if block_count > len(self._free):
            return None
        blocks = tuple(self._free.pop() for _ in range(block_count))
        try:
            file.write(blocks, state)
        except OSError as error:
            self._free += blocks
            log.warning("image is not kept", job_id=key[0], reason=error.strerror)
            return None
        before += held.blocks
        held.blocks = blocks
        return SavedImage(
            job_id=key[0],
            image_index=key[1],
            completed_step_count=done,
            step_count=trajectory.step_count,
            byte_count=len(state),
            blocks=blocks,
        )

    def _forget_ended(self) -> None:
        """Takes the room of images that the server has, or that nobody wants."""
        for key, held in list(self._held.items()):
            if held.record.cancelled or key[1] in held.record.sent_images:
                self._free += self._held.pop(key).blocks
