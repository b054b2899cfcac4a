from __future__ import annotations

import json

from darkroom_server.domain.errors import Draining, InvalidParameter, QueueFull
from darkroom_server.gateway.dialects import nebula
from darkroom_server.gateway.error_responses import TYPES, problem_of, refusal
from darkroom_server.wire.status import ERROR_KINDS, INTERNAL_REASON, MAX_MESSAGE_BYTES


def test_every_reason_has_a_type_and_a_code() -> None:
    assert set(TYPES) == {kind.reason for kind in ERROR_KINDS.values()} | {INTERNAL_REASON}


def test_a_full_queue_is_no_503_which_some_clients_repeat_at_once() -> None:
    answer = refusal(problem_of(QueueFull("full", retry_after_s=2.4)), lambda _: {})
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "3")
    assert answer.headers["x-should-retry"] == "true"


def test_a_server_that_stops_closes_the_connection() -> None:
    answer = refusal(problem_of(Draining("stopping", retry_after_s=0)), lambda _: {})
    assert (answer.status_code, answer.headers["connection"]) == (503, "close")


def test_a_caller_s_words_are_made_fit_to_be_sent() -> None:
    answer = refusal(problem_of(InvalidParameter("width", "\ud800" * 5000)), nebula.render)
    assert len(json.loads(bytes(answer.body))["message"]) <= MAX_MESSAGE_BYTES + len("width: ")


def test_a_wrong_field_is_named_and_not_to_be_repeated() -> None:
    problem = problem_of(InvalidParameter("width", "0 is too small"))
    assert (problem.param, problem.message) == ("width", "width: 0 is too small")
    assert refusal(problem, lambda _: {}).headers["x-should-retry"] == "false"
