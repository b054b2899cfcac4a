"""LitServe: batching on, equal parameters grouped inside a batch."""

from __future__ import annotations

import litserve
from fastapi import Response

from bench.peers.flags import arguments
from bench.peers.grouped import Asked, GroupedPipeline


class Pictures(litserve.LitAPI):
    """One worker, as there is one device."""

    def setup(self, device: str) -> None:
        self.model = GroupedPipeline(flags.model, flags.threads)

    # Without a type: LitServe would make a form of it.
    def decode_request(self, request):  # type: ignore[no-untyped-def]
        return request

    def batch(self, inputs: list[Asked]) -> list[Asked]:
        return inputs

    def predict(self, x: Asked | list[Asked]) -> bytes | list[bytes]:
        return self.model.run(x) if isinstance(x, list) else self.model.run([x])[0]

    def unbatch(self, output: list[bytes]) -> list[bytes]:
        return output

    def encode_response(self, output: bytes) -> Response:
        return Response(output, media_type="image/png")


flags = arguments()

if __name__ == "__main__":
    api = Pictures(
        api_path="/generate",
        max_batch_size=flags.max_images,
        batch_timeout=flags.max_delay_s,
    )
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, timeout=False)
    server.run(
        host="127.0.0.1",
        port=flags.port,
        num_api_servers=1,
        generate_client_file=False,
        log_level="warning",
    )
