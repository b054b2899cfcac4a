"""BentoML: a batchable call, equal parameters grouped inside a batch.

Bytes in a list do not come through its JSON, so a picture is told in base64.
"""

from __future__ import annotations

import base64

import bentoml

from bench.peers.flags import arguments
from bench.peers.grouped import Asked, GroupedPipeline

flags = arguments()
#: It turns away what it thinks would take longer; the driver's callers have their own patience.
LONGEST_MS = 600_000


@bentoml.service(workers=1, traffic={"timeout": 600, "max_concurrency": 4096})
class Pictures:
    """One worker, as there is one device."""

    def __init__(self) -> None:
        self.model = GroupedPipeline(flags.model, flags.threads)

    @bentoml.api(batchable=True, max_batch_size=flags.max_images, max_latency_ms=LONGEST_MS)
    def generate(self, asked: list[Asked]) -> list[str]:
        return [base64.b64encode(one).decode() for one in self.model.run(asked)]
