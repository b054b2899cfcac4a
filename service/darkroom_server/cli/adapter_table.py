"""A model's adapters as a table, for `darkroom models show`."""

from __future__ import annotations

from darkroom_client import Model
from darkroom_client.models import ModelAdapter
from darkroom_server.cli.tables import Columns


def adapter_table(model: Model) -> Columns | None:
    """A line for each version of each; None where there are none. A star marks the default."""
    if not model.adapters:
        return None
    table = Columns(("adapter", "aliases", "weight", "ranks", "adds to", "size", "trigger words"))
    for one in model.adapters:
        table.add(
            _name(one),
            ", ".join(one.aliases) or "-",
            f"{one.default_weight:g}",
            ", ".join(map(str, one.ranks)) or "-",
            ", ".join(one.targets) or "-",
            f"{one.size_bytes / 2**20:,.1f} MiB",
            ", ".join(one.trigger_words) or "-",
        )
    return table


def _name(one: ModelAdapter) -> str:
    labels = f" ({', '.join(one.labels)})" if one.labels else ""
    return f"{one.name}/{one.version}{'*' if one.is_default else ''}{labels}"
