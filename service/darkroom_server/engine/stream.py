"""A job's events on their way to its caller: ordered, and bounded for a slow reader.

Loop-bound. Images are never dropped; progress and previews are, oldest first, once too many wait.
Events are filtered so that a caller always sees `queued*, (progress|preview|image)*, completed`,
progress that only grows, and previews of no image that it has, also when the job is run again after
its worker died.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable

from darkroom_server.domain.errors import DarkroomError, ResultsUnread
from darkroom_server.domain.jobs import (
    JobCompleted,
    JobEvent,
    JobImage,
    JobPreview,
    JobProgress,
    JobQueued,
)
from darkroom_server.engine.undelivered import Held, Undelivered

#: Progress and previews that may wait for one reader.
MAX_WAITING_DROPPABLE = 16


class JobStream:
    """Events of one job, put by the engine and read once by the caller."""

    def __init__(self) -> None:
        #: Droppable events that were dropped so far.
        self.dropped_count = 0
        self._waiting: deque[JobEvent] = deque()
        #: What was read last.
        self._read: JobEvent | None = None
        self._error: DarkroomError | None = None
        self._ended = False
        self._changed = asyncio.Event()
        #: Denoising steps that the job is known to have done, of how many, in any worker.
        self.progress: tuple[int, int] = (0, 0)
        self._completed_step_count = -1
        self._progress_seen = False
        self._images_seen: set[int] = set()
        #: By image, the steps after which its last preview was.
        self._previews_seen: dict[int, int] = {}
        self._held: Held | None = None
        self._is_collected = False
        self._cancel: Callable[[], None] | None = None

    def bound(
        self, undelivered: Undelivered, cancel: Callable[[], None], *, is_collected: bool = False
    ) -> None:
        """Counts what waits among all; `cancel` ends the job of a reader that is given up.

        What `is_collected` waits until the stream is closed, though its events are read before.
        """
        self._cancel = cancel
        self._is_collected = is_collected
        self._held = undelivered.hold(self._give_up, is_collected=is_collected)

    def close(self) -> None:
        """Nobody reads any more."""
        self._waiting.clear()
        self._read = None
        self._ended = True
        if self._held is not None:
            self._held.release()

    def _give_up(self) -> None:
        self._error = ResultsUnread(
            "The answer takes more than the server can hold; ask for fewer images, or for a stream."
            if self._is_collected
            else "Too much of the answer waited to be read."
        )
        self.close()
        self._changed.set()
        if self._cancel is not None:
            self._cancel()

    def put(self, event: JobEvent) -> None:
        """Appends an event, unless it repeats or reorders what was put before."""
        if self._ended or not self._is_news(event):
            return
        if isinstance(event, JobProgress | JobPreview):
            self._make_room()
        self._waiting.append(event)
        self._ended = isinstance(event, JobCompleted)
        self._changed.set()
        if self._held is not None:
            self._held.add(_size_bytes(event))

    def fail(self, error: DarkroomError) -> None:
        """Ends the stream with an error, after what already waits."""
        if not self._ended:
            self._error, self._ended = error, True
            self._changed.set()

    def _is_news(self, event: JobEvent) -> bool:
        match event:
            case JobQueued():
                return not self._progress_seen
            case JobProgress(completed_step_count=count, total_step_count=total):
                news = count > self._completed_step_count
                if news:
                    self._completed_step_count, self._progress_seen = count, True
                    self.progress = (count, total)
                return news
            case JobPreview(image_index=index, completed_step_count=count):
                news = index not in self._images_seen and count > self._previews_seen.get(index, 0)
                if news:
                    self._previews_seen[index] = count
                return news
            case JobImage(image_index=index):
                news = index not in self._images_seen
                self._images_seen.add(index)
                return news
            case JobCompleted():
                return True

    def _make_room(self) -> None:
        droppable = [e for e in self._waiting if isinstance(e, JobProgress | JobPreview)]
        if len(droppable) >= MAX_WAITING_DROPPABLE:
            self._waiting.remove(droppable[0])
            self.dropped_count += 1
            self._delivered(droppable[0])

    def _delivered(self, event: JobEvent) -> None:
        if self._held is not None:
            self._held.drop(_size_bytes(event))

    async def begun(self) -> None:
        """Returns when there is anything to read; raises the job's error if it begins with one."""
        while not self._waiting and not self._ended:
            self._changed.clear()
            await self._changed.wait()
        if self._error is not None and not self._waiting:
            raise self._error

    def __aiter__(self) -> AsyncIterator[JobEvent]:
        """All events in order; raises the job's error where it ended with one."""
        return self

    async def __anext__(self) -> JobEvent:
        """The next event. Who asks for it has read the one before, or has it with those before."""
        read, self._read = self._read, None
        if read is not None and not (self._is_collected and isinstance(read, JobImage)):
            self._delivered(read)
        while not self._waiting:
            if self._error is not None:
                raise self._error
            if self._ended:
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        self._read = self._waiting.popleft()
        return self._read


def _size_bytes(event: JobEvent) -> int:
    return len(event.content) if isinstance(event, JobImage | JobPreview) else 0
