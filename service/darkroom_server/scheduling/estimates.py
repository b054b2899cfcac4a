"""When a job of a line is done if nothing but the line runs: played in front, summed up behind."""

from __future__ import annotations

import itertools

from darkroom_server.scheduling.entry import Entry, Step
from darkroom_server.scheduling.forecast import finish_times_s
from darkroom_server.scheduling.pace import Pace
from darkroom_server.scheduling.queue import JobQueue

#: Jobs of a line that are played; further back work is summed up.
MAX_PLAYED_JOBS = 32

#: Seconds until jobs are done, of those that were played, by their line.
Played = dict[int, dict[Entry, float]]


def own_s(
    queue: JobQueue, entry: Entry, pace: Pace, running: frozenset[Step], played: Played
) -> float:
    """Seconds until an entry is done, which need not be in the queue yet.

    What is played is put into `played`, for the next entry of the line.
    """
    line = queue.line(entry)
    if line is None:
        return finish_times_s([entry.load(running)], pace)[0]
    if (found := played.get(id(line), {}).get(entry)) is not None:
        return found
    place = line.count_before(entry.rank)
    if place >= MAX_PLAYED_JOBS:
        return line.work_before_s(entry.rank) + pace.least_s(entry.load(running))
    front = list(itertools.islice(line, MAX_PLAYED_JOBS))
    if place >= len(front) or front[place] is not entry:
        front.insert(place, entry)
    times_s = finish_times_s([one.load(running) for one in front], pace)
    played[id(line)] = dict(zip(front, times_s, strict=True))
    return times_s[place]
