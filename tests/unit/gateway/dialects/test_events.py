"""Refusals of the event streams: text that can be sent, in their own shape."""

from __future__ import annotations

import pytest

from darkroom_server.wire.status import MAX_MESSAGE_BYTES
from tests.integration.rpc.fake_engine import FakeEngine
from tests.unit.gateway.http_calls import posted


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'{"guidanceScale": "\\ud800"}', id="no-unicode"),
        pytest.param(b'{"priority": "' + b"x" * 100_000 + b'"}', id="long"),
    ],
)
async def test_what_a_caller_wrote_comes_back_clean_and_short(body: bytes) -> None:
    answer = await posted(FakeEngine(), "/darkroom/v1/generate", content=body)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["code"], error["reason"]) == ("INVALID_ARGUMENT", "INVALID_PARAMETER")
    assert (error["field"], error["retryable"]) == ("request", False)
    assert len(error["message"].encode()) <= MAX_MESSAGE_BYTES
