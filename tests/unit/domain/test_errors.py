from __future__ import annotations

import pickle
from collections.abc import Iterator

import pytest

from darkroom_server.domain.errors import DarkroomError, InvalidParameter, QueueFull


def leaves(kind: type[DarkroomError] = DarkroomError) -> Iterator[type[DarkroomError]]:
    for below in kind.__subclasses__():
        yield from leaves(below) if below.__subclasses__() else (below,)


def made(kind: type[DarkroomError]) -> DarkroomError:
    for arguments, named in (
        (("what is wrong",), {}),
        (("name", "what is wrong"), {}),
        (("what is wrong",), {"retry_after_s": 2.5}),
        (("what is wrong",), {"key_id": "one"}),
        (("what is wrong",), {"key_id": "one", "retry_after_s": 2.5}),
    ):
        try:
            return kind(*arguments, **named)
        except TypeError:
            continue
    raise AssertionError(f"no way known to make {kind}")


@pytest.mark.parametrize("kind", leaves(), ids=lambda kind: kind.__name__)
def test_every_error_crosses_a_pipe_whole(kind: type[DarkroomError]) -> None:
    error = made(kind)
    crossed = pickle.loads(pickle.dumps(error))
    assert type(crossed) is kind
    assert str(crossed) == str(error) == "what is wrong"
    assert vars(crossed) == vars(error)


def test_attributes_are_kept() -> None:
    assert pickle.loads(pickle.dumps(InvalidParameter("seed", "no"))).field == "seed"
    assert pickle.loads(pickle.dumps(QueueFull("no", retry_after_s=3.0))).retry_after_s == 3.0
