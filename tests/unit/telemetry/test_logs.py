from __future__ import annotations

import json
import os
import subprocess
import sys

PROGRAM = """
import logging
from darkroom_server.telemetry.logs import configure_logs
configure_logs()
configure_logs()
library = logging.getLogger("some.library")
library.info("not worth a line")
library.warning("took %s", 7)
library.warning("took %d", "a word")
try:
    raise ValueError("inside")
except ValueError:
    library.exception("it failed")
"""


def test_what_libraries_warn_of_is_in_lines_like_all_others() -> None:
    """A collector of logs that reads JSON has no use for bare text."""
    environment = os.environ | {"DARKROOM_LOG_FORMAT": "json"}
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [(one["level"], one["library"]) for one in lines] == [
        ("warning", "some.library"),
        ("warning", "some.library"),
        ("error", "some.library"),
    ]
    assert [one["message"] for one in lines] == ["took 7", "took %d", "it failed"]
    assert "ValueError: inside" in lines[2]["exception"]
