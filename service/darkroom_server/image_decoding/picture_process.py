"""A process that decodes pictures: errands in by its standard input, answers out by its output.

It knows no more than the decoders, holds little memory, and ends with the server, whose end of the
input closes. An errand that takes too much of a processor's time ends it.
"""

from __future__ import annotations

import os
import pickle
import resource
import signal
import sys
from typing import BinaryIO

from darkroom_server.domain.errors import DarkroomError
from darkroom_server.image_decoding.picture_being_read import listen

#: Of a processor, for one errand: four times what the largest pictures that are taken need.
WORK_LIMIT_S = 20.0
#: The largest pictures that are taken need a quarter.
_MEMORY_LIMIT_BYTES = 4 << 30


def main() -> None:
    """Runs errands until the server has gone."""
    # What a library prints must not become an answer.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    _limit_memory()
    listen(lambda field: _answer(answers, field))
    # The signal ends the process even in the middle of a decoder; a server may have it ignored.
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    _serve(sys.stdin.buffer, answers, float(sys.argv[1]))


def _serve(errands: BinaryIO, answers: BinaryIO, work_limit_s: float) -> None:
    while True:
        try:
            work, arguments = pickle.load(errands)
        except EOFError:
            return
        signal.setitimer(signal.ITIMER_PROF, work_limit_s)
        answer: tuple[object, DarkroomError | None]
        try:
            answer = work(*arguments), None
        except DarkroomError as error:
            answer = None, error
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        _answer(answers, answer)


def _answer(answers: BinaryIO, answer: object) -> None:
    """The name of a field that is read from now on, or the errand's value and refusal."""
    pickle.dump(answer, answers, pickle.HIGHEST_PROTOCOL)
    answers.flush()


def _limit_memory() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    limit_bytes = _MEMORY_LIMIT_BYTES
    if most != resource.RLIM_INFINITY:
        limit_bytes = min(limit_bytes, most)
    resource.setrlimit(resource.RLIMIT_AS, (limit_bytes, most))


if __name__ == "__main__":
    main()
