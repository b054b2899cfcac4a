"""Commands as they cross the pipe: with durations in the place of times.

The two processes need not share a clock: `time.monotonic()` counts from another moment on another
machine, in a container that was restored, and in a time namespace.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import assert_never

from darkroom_server.worker.messages import CancelJob, Command, StopWorker, SubmitJob


@dataclass(frozen=True, slots=True)
class SentCommand:
    """A command whose time, if it has one, is `in_s` from the moment that it is sent.

    Negative for the past. The transfer itself is not counted: a deadline becomes later by it.
    """

    command: Command
    in_s: float | None


def sent(command: Command, now_s: float) -> SentCommand:
    """What to send, at this time of the sender's clock."""
    time_s = _time_of(command)
    if time_s is None:
        return SentCommand(command, None)
    return SentCommand(_with_time(command, None), time_s - now_s)


def received(message: SentCommand, now_s: float) -> Command:
    """The command that was sent, on the receiver's clock."""
    if message.in_s is None:
        return message.command
    return _with_time(message.command, now_s + message.in_s)


def _time_of(command: Command) -> float | None:
    match command:
        case SubmitJob(job):
            return job.deadline_s
        case CancelJob():
            return command.since_s
        case StopWorker():
            return None
        case _:
            assert_never(command)


def _with_time(command: Command, time_s: float | None) -> Command:
    match command:
        case SubmitJob(job):
            return replace(command, job=replace(job, deadline_s=time_s))
        case CancelJob():
            return replace(command, since_s=time_s)
        case StopWorker():
            return command
        case _:
            assert_never(command)
