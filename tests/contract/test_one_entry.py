"""One entry in the table of parameters is all that the loops over the parameters need.

A program adds an entry before anything else of the service is imported, as if it stood in the file,
and asks each of the loops for it.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.architecture.sources import REPOSITORY

_ENTRY = """
import dataclasses
from darkroom_server.domain.jobs import Task
from darkroom_server.parameters import table
from darkroom_server.parameters.parameter import Support

entry = dataclasses.replace(
    table.PARAMETERS["guidance_scale"], path="zest", meaning="How much zest.", lowest=2, highest=5,
    default=3.0, http=("zest", "zing"), python="zest", flag="--zest", support=Support.MODEL,
)
table._ALL = (*table._ALL, entry)
table.PARAMETERS = {one.path: one for one in table._ALL}
"""
_LOOPS = {
    "models-list-it": """
assert "zest" in table.listed_names(set(Task))
""",
    "http-bodies-have-its-names": """
from darkroom_server.gateway import request_fields
from darkroom_server.gateway.fields import Fields
assert entry in request_fields._PLAIN
fields = Fields({"zing": 4})
assert (fields.value(entry), fields.ignored) == (4, [])
""",
    "openapi-has-its-names": """
from darkroom_server.gateway import schemas
assert {"zest", "zing"} <= schemas.fields_schema()["properties"].keys()
""",
    "predictions-echo-it": """
from darkroom_server.gateway.dialects import replicate
assert "zing" in replicate._ECHO_BYTES
""",
    "triton-clients-send-it": """
from darkroom_server.wire.kserve import inputs
assert inputs._FIELDS["zest"] is entry
""",
    "configurations-are-held-to-its-bounds": """
from darkroom_server.model_config import config_checks
assert config_checks._RANGES["zest"] == (2, 5)
""",
    "models-without-it-refuse-it": """
from darkroom_server.requests import resolve
assert resolve._REFUSABLE["zest"] is entry
""",
    "the-command-line-has-its-help": """
from darkroom_server.cli import exits, options
assert exits.option_of("zest") == "--zest"
assert options._option("zest").help == "How much zest. [default: the model's]"
""",
    "the-reference-lists-it": """
import sys
sys.path.insert(0, "docs")
import reference
assert any("How much zest." in line for line in reference._parameters())
""",
}


_EACH = """
for loop, program in loops.items():
    try:
        exec(program)
    except BaseException as error:
        print(loop, repr(error), flush=True)
print("done")
"""


@pytest.fixture(scope="module")
def failures() -> list[str]:
    """Of one program, since what it imports takes seconds."""
    done = subprocess.run(
        [sys.executable, "-c", f"loops = {_LOOPS!r}\n{_ENTRY}\n{_EACH}"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    *failures, last = done.stdout.splitlines() or [""]
    assert last == "done", done.stderr
    return failures


@pytest.mark.parametrize("loop", list(_LOOPS))
def test_an_entry_is_all_that_is_needed(loop: str, failures: list[str]) -> None:
    assert [failure for failure in failures if failure.startswith(f"{loop} ")] == []
