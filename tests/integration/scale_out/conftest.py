"""Ray is to be patient with a busy machine: else it soon gives up the start of a node."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

#: Read by processes that start after it is set.
PATIENCE = {
    "RAY_raylet_start_wait_time_s": "120",
    "RAY_gcs_server_request_timeout_seconds": "120",
}


@pytest.fixture(scope="session", autouse=True)
def patient_ray() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in PATIENCE.items():
            patch.setenv(name, value)
        yield
