"""A model's adapters become `darkroom.v1.ModelAdapter`."""

from __future__ import annotations

from collections.abc import Sequence

from darkroom.v1 import model_service_pb2 as pb
from darkroom_server.domain.adapters import AdapterVersion
from darkroom_server.requests.adapters import default_version


def adapter_messages(adapters: Sequence[AdapterVersion]) -> list[pb.ModelAdapter]:
    """All versions, by name and version."""
    by_name: dict[str, list[AdapterVersion]] = {}
    for one in adapters:
        by_name.setdefault(one.name, []).append(one)
    return [
        pb.ModelAdapter(
            name=one.name,
            version=one.version,
            aliases=one.aliases,
            labels=one.labels,
            ranks=one.ranks,
            targets=one.targets,
            size_bytes=one.size_bytes,
            digest=one.digest,
            default_weight=one.default_weight,
            trigger_words=one.trigger_words,
            license=one.license,
            is_default=one is default_version(by_name[one.name]),
        )
        for one in sorted(adapters, key=lambda each: (each.name, each.version))
    ]
