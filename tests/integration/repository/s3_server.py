"""An S3 server on loopback, and a bucket on it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import boto3
import httpx
from moto.server import ThreadedMotoServer

BUCKET, PREFIX = "models", "prod/repository"
URL = f"s3://{BUCKET}/{PREFIX}"


@dataclass(frozen=True)
class Bucket:
    """What the server holds below the prefix."""

    client: Any
    server: ThreadedMotoServer

    def put(self, name: str, content: bytes | str) -> None:
        body = content.encode() if isinstance(content, str) else content
        self.client.put_object(Bucket=BUCKET, Key=f"{PREFIX}/{name}", Body=body)

    def delete(self, prefix: str) -> None:
        listing = self.client.list_objects_v2(Bucket=BUCKET, Prefix=f"{PREFIX}/{prefix}")
        for one in listing.get("Contents", []):
            self.client.delete_object(Bucket=BUCKET, Key=one["Key"])

    def upload(self, folder: Path, prefix: str = "") -> None:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self.put(f"{prefix}{path.relative_to(folder)}", path.read_bytes())


@contextmanager
def serving_s3() -> Iterator[Bucket]:
    """A server with an empty bucket; the process's environment leads there."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    # What an earlier server of this process held is kept otherwise.
    httpx.post(f"http://{host}:{port}/moto-api/reset").raise_for_status()
    environment = {name: value for name, value in os.environ.items() if "AWS_" not in name}
    environment |= {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_MAX_ATTEMPTS": "1",
    }
    try:
        with mock.patch.dict(os.environ, environment, clear=True):
            client = boto3.client("s3")
            client.create_bucket(Bucket=BUCKET)
            yield Bucket(client, server)
    finally:
        server.stop()
