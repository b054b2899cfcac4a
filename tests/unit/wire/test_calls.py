"""How calls are known and end, at every edge alike."""

from __future__ import annotations

import grpc
import pytest
import structlog
from structlog.testing import capture_logs

from darkroom_server.domain.errors import InvalidParameter, QueueFull
from darkroom_server.wire.calls import CallNotes, failure_of, request_id, why_gone

log = structlog.get_logger("test")


def test_the_first_sane_id_of_the_callers_is_the_calls() -> None:
    assert request_id("one", "two") == "one"
    assert request_id(None, "", "not sane", "x" * 129, "two") == "two"


@pytest.mark.parametrize("given", ["", "new\nline", "ümlaut", "x" * 129, None])
def test_without_a_sane_id_a_call_gets_a_new_one(given: str | None) -> None:
    made = {request_id(given), request_id(given)}
    assert len(made) == 2
    assert given not in made


def test_an_error_of_the_domain_is_told_as_what_it_is_and_not_logged() -> None:
    with capture_logs() as logged:
        failure = failure_of(InvalidParameter("seed", "is no number"), "id", log)
    assert failure.code is grpc.StatusCode.INVALID_ARGUMENT
    assert failure.pushback_ms is None
    assert logged == []


def test_a_full_queue_says_when_to_come_back() -> None:
    failure = failure_of(QueueFull("full", retry_after_s=2.0), "id", log)
    assert failure.pushback_ms == 2000


def test_a_bug_is_logged_whole_and_told_by_its_id_alone() -> None:
    with capture_logs() as logged:
        try:
            raise RuntimeError("a secret")
        except RuntimeError as bug:
            failure = failure_of(bug, "the-id", log)
    assert failure.code is grpc.StatusCode.INTERNAL
    assert "secret" not in str(failure.status)
    [line] = logged
    assert (line["event"], line["request_id"]) == ("unhandled error", "the-id")
    assert line["exc_info"] is True


@pytest.mark.parametrize(
    ("remaining_s", "code"),
    [
        pytest.param(None, grpc.StatusCode.CANCELLED, id="no-deadline"),
        pytest.param(0.5, grpc.StatusCode.CANCELLED, id="before-it"),
        pytest.param(0.0, grpc.StatusCode.DEADLINE_EXCEEDED, id="at-it"),
        pytest.param(-1.0, grpc.StatusCode.DEADLINE_EXCEEDED, id="after-it"),
    ],
)
def test_who_has_left_has_cancelled_or_run_out_of_time(
    remaining_s: float | None, code: grpc.StatusCode
) -> None:
    assert why_gone(remaining_s) is code


@pytest.mark.parametrize(("quiet", "level"), [(True, "debug"), (False, "info")])
def test_a_line_says_what_was_learnt_of_the_call(quiet: bool, level: str) -> None:
    notes = CallNotes("id", model="sdxl", code="OK")
    with capture_logs() as logged:
        notes.log(log, "call", 0.25, quiet=quiet, path="/x")
    assert logged == [
        {
            "event": "call",
            "log_level": level,
            "path": "/x",
            "duration_ms": 250.0,
            "request_id": "id",
            "model": "sdxl",
            "code": "OK",
        }
    ]
