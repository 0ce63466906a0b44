"""What an approval of a mapping covers: all that decides what a version does, in one frozen document."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hub.connections import Connection
from hub.mappings.explanation import diff, diff_grants
from hub.mappings.types import Compiled, Document
from hub.sdk import Grant, Json


@dataclass(frozen=True, slots=True)
class Live:
    """The version that runs now, with the grant that it was published with."""

    number: int
    document: Document
    grants: Mapping[str, Grant]


def reviewed(compiled: Compiled, live: Live | None, connections: Mapping[str, Connection]) -> dict[str, Json]:
    """The document by its digest, its rights and how they differ from the live version's, model, systems, thresholds.

    Two versions with the same content do the same; whatever moves afterwards, say an alias, makes another content.
    """
    document, model = compiled.document, compiled.model
    return {
        "document": {"mapping": document.mapping, "digest": document.digest},
        "grants": {name: grant.to_json() for name, grant in sorted(compiled.grants.items())},
        "difference": {
            "from": live.number if live is not None else None,
            "document": list(diff(live.document, document)) if live is not None else [],
            "rights": list(diff_grants(live.grants if live is not None else {}, compiled.grants)),
        },
        "model": {"name": model.name, "use": document.model.use, "number": model.number, "digest": model.digest},
        "connections": {
            name: {"connector": each.connector, "settings": dict(each.settings), "secrets": list(each.secrets)}
            for name, each in sorted(connections.items())
        },
        "thresholds": {
            "run": {"changed": document.run.changed, "rejected": document.run.rejected, "ahead": document.run.ahead},
            "when_changed": dict(document.write.when_changed),
            "expect": document.source.get("expect"),
            "decide": document.source.get("decide"),
        },
    }


def moved(before: Mapping[str, Json], now: Mapping[str, Json]) -> list[str]:
    """Which parts of a frozen content are not what they were."""
    return sorted(name for name in {*before, *now} if before.get(name) != now.get(name))
