"""Jobs played forward, batch by batch, as the batcher would take them: pure, and of bounded work.

The first job in line leads; what shares its shape joins as far as there is room, or as far as
everyone taken stays on time.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from darkroom_server.scheduling.pace import Load, Pace, least_step_count

#: Batches that are played one by one; what is left then is counted at full batches.
MAX_PLAYED_BATCHES = 64
#: Jobs too wide for the room left in a batch that are skipped for one that fits.
MAX_LOOKED_PAST = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Player:
    """A job that is played. `due_s`: when it is to be done, on the clock that is played."""

    group: Hashable
    pace: Pace
    load: Load
    due_s: float = math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """How it went. `done_s` by job, in the order given; `end_s`: when the last was done.

    `first`: the jobs of the first batch, by number, and how many images of each; it is taken
    `first_step_count` times, with `first_row_count` rows.
    """

    done_s: tuple[float, ...]
    end_s: float
    first: tuple[tuple[int, int], ...] = ()
    first_row_count: int = 0
    first_step_count: int = 0


@dataclass(slots=True, eq=False)
class _Waiting:
    """A job that is played: evaluations left of each image, the most first."""

    number: int
    player: Player
    rows: int
    left: list[int]

    def longest_step_s(self, count: int, now_s: float) -> float:
        """How long steps may take if `count` of its images share them and it is to be on time."""
        if math.isinf(self.player.due_s):
            return math.inf
        left_s = self.player.due_s - now_s - len(self.left) * self.player.pace.image_s
        return left_s / least_step_count(self.left, count)


#: A job, and how many of its images take part in a step.
_Taken = tuple[_Waiting, int]


class Sharing(enum.Enum):
    """How far a batch grows when jobs are played."""

    #: As far as there is room: the most is made a second.
    FULL = enum.auto()
    #: As long as everyone taken stays on time at the pace of the larger batch.
    ON_TIME = enum.auto()
    #: Each job by itself.
    NONE = enum.auto()


def play(jobs: Sequence[Player], begin_s: float, *, sharing: Sharing = Sharing.FULL) -> Course:
    """Plays jobs from a time on, the first in line first."""
    done_s = [begin_s] * len(jobs)
    waiting = [
        _Waiting(number, job, job.load.rows, sorted(job.load.evaluations, reverse=True))
        for number, job in enumerate(jobs)
        if job.load.evaluations
    ]
    now_s, batch_count = begin_s, 0
    first: tuple[tuple[int, int], ...] = ()
    first_row_count = first_step_count = 0
    while waiting and batch_count < MAX_PLAYED_BATCHES:
        taken, row_count = _batch(waiting, now_s, sharing)
        step_count = min(_alike_step_count(one, count) for one, count in taken)
        if not batch_count:
            first = tuple((one.number, count) for one, count in taken)
            first_row_count, first_step_count = row_count, step_count
        batch_count += 1
        now_s += step_count * waiting[0].player.pace.step_s(row_count)
        for one, count in taken:
            ended_count = _advance(one, count, step_count)
            now_s += ended_count * one.player.pace.image_s
            if not one.left:
                done_s[one.number] = now_s
        waiting = [one for one in waiting if one.left]
    for one in waiting:
        load = Load(rows=one.rows, evaluations=tuple(one.left))
        now_s += one.player.pace.work_s(load)
        done_s[one.number] = now_s
    return Course(
        done_s=tuple(done_s),
        end_s=now_s,
        first=first,
        first_row_count=first_row_count,
        first_step_count=first_step_count,
    )


def _batch(waiting: Sequence[_Waiting], now_s: float, sharing: Sharing) -> tuple[list[_Taken], int]:
    """The jobs whose images come first and fit, how many of each, and the rows in all."""
    lead = waiting[0]
    pace, group = lead.player.pace, lead.player.group
    room = max(pace.room, lead.rows)
    count = min(len(lead.left), room // lead.rows)
    taken, row_count, looked_past_count = [(lead, count)], count * lead.rows, 0
    if sharing is Sharing.NONE:
        return _allowed(taken, pace)
    longest_s = math.inf
    if sharing is Sharing.ON_TIME:
        longest_s = max(lead.longest_step_s(count, now_s), pace.step_s(row_count))
    for one in waiting[1:]:
        if row_count == room or looked_past_count == MAX_LOOKED_PAST:
            break
        if one.player.group != group:
            continue
        count = min(len(one.left), (room - row_count) // one.rows)
        step_s = pace.step_s(row_count + count * one.rows)
        if not count or step_s > longest_s:
            looked_past_count += 1
            continue
        taken.append((one, count))
        row_count += count * one.rows
        if sharing is Sharing.ON_TIME:
            longest_s = min(longest_s, max(step_s, one.longest_step_s(count, now_s)))
    return _allowed(taken, pace)


def _allowed(taken: Sequence[_Taken], pace: Pace) -> tuple[list[_Taken], int]:
    """Of images that have room, those that may share a step, and their rows."""
    image_rows = [one.rows for one, count in taken for _ in range(count)]
    left = pace.shared_count(image_rows)
    row_count, allowed = sum(image_rows[:left]), []
    for one, count in taken:
        if not left:
            break
        allowed.append((one, min(count, left)))
        left -= min(count, left)
    return allowed, row_count


def _alike_step_count(one: _Waiting, count: int) -> int:
    """Steps in which the same number of its images take part, taken at once."""
    if count == len(one.left):
        return one.left[-1]
    if one.player.pace.room < one.rows:
        # Alone, one image is made after another, and nothing can come between.
        return sum(one.left)
    # Images that do not all fit take turns, step by step; while they do they stay level.
    is_level = one.left[0] - one.left[-1] <= 1
    return max(1, sum(one.left) // count - 2 * len(one.left)) if is_level else 1


def _advance(one: _Waiting, count: int, step_count: int) -> int:
    """Takes steps of a job; how many of its images they ended."""
    before_count = len(one.left)
    if count == before_count or step_count == 1:
        left = [*(one_left - step_count for one_left in one.left[:count]), *one.left[count:]]
    else:
        level, over = divmod(sum(one.left) - count * step_count, before_count)
        left = [level + (index < over) for index in range(before_count)]
    one.left = sorted(filter(None, left), reverse=True)
    return before_count - len(one.left)
