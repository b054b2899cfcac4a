"""Requests made up from the OpenAPI document: none of them is answered with a 500."""

from __future__ import annotations

import os

from tests.compat.test_callers import call, python_of
from tests.e2e.gateway.conftest import Service

#: For each operation; `make fuzz` asks for many more.
EXAMPLE_COUNT = os.environ.get("FUZZ_EXAMPLES", "5")


def test_no_request_is_answered_with_a_500(service: Service) -> None:
    schemathesis = python_of("schemathesis").with_name("schemathesis")
    command = [schemathesis, "run", f"{service.url}/openapi.json", "--seed", "1"]
    options = ["--checks", "not_a_server_error", "--phases", "coverage,fuzzing"]
    # How many cases there were: `make fuzz` shows it.
    print(call([*command, *options, "--max-examples", EXAMPLE_COUNT]))
