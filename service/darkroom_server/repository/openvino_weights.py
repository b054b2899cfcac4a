"""Checks a model in OpenVINO's form: a graph in `.xml`, and its arrays in the `.bin` beside it.

The graph names for each constant where it lies in the arrays
(https://docs.openvino.ai, "Operations of OpenVINO IR"). Neither file holds code.
"""

from __future__ import annotations

import re
from pathlib import Path

from darkroom_server.repository.weights import BadWeights

GRAPH_NAME, ARRAYS_NAME = "openvino_model.xml", "openvino_model.bin"
#: No graph of a known model is nearly as large.
MAX_GRAPH_BYTES = 64 << 20

_ROOT = re.compile(rb"\s*(<\?xml[^>]*>\s*)?<net[\s>]")
_SPAN = re.compile(rb'\soffset="(\d{1,18})"\s+size="(\d{1,18})"')


def check_openvino(graph: Path, arrays_bytes: int) -> None:
    """Raises BadWeights when the graph is broken or names arrays that are not there.

    Blocking; raises OSError when the file cannot be read.
    """
    if graph.stat().st_size > MAX_GRAPH_BYTES:
        raise BadWeights(f"is larger than {MAX_GRAPH_BYTES} bytes")
    text = graph.read_bytes()
    if _ROOT.match(text) is None:
        raise BadWeights("is not a graph of OpenVINO: it does not begin with <net>")
    if not text.rstrip().endswith(b"</net>"):
        raise BadWeights("is truncated: it does not end with </net>: copy it again")
    # One by one: a list of them all would be many times the text.
    needed = max((int(found[1]) + int(found[2]) for found in _SPAN.finditer(text)), default=0)
    if needed > arrays_bytes:
        raise BadWeights(
            f"needs {needed} bytes of {ARRAYS_NAME}, which has {arrays_bytes}: copy it again"
        )
