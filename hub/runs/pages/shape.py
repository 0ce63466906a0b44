"""What the fields that a mapping touches look like at their far sides, and what became of them since a run began."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias, cast

from hub.connections import Connections
from hub.mappings import Compiled
from hub.mappings.nearest import near
from hub.runs.installation import Installation
from hub.sdk import Entity, Field, Json, Mode, Tally

Shape: TypeAlias = Mapping[str, Mapping[str, Mapping[str, Mapping[str, Json]]]]
"""Connection, entity, field, and what it is: `type`, limits, `written`, `required` (a new record needs it)."""

MOST_TOLD = 5

_LIMITS = ("length", "precision", "scale")


def shape_of(compiled: Compiled) -> Shape:
    """Every field that the mapping reads or writes, and those that a record it makes must have."""
    found: dict[str, dict[str, dict[str, dict[str, Json]]]] = {}
    document = compiled.document
    read, write = document.read, document.write
    touched = [(read.connection, compiled.source, {*compiled.source.key, *compiled.fields})]
    touched += [(each.lookup.connection, each.entity, {*each.fields}) for each in compiled.lookups]
    written = {*compiled.set, *compiled.with_}
    touched.append((write.connection, compiled.target, {*compiled.target.key, *written}))
    if write.mode is not Mode.UPDATE:
        touched.append((write.connection, compiled.target, {f.name for f in compiled.target.fields if f.required}))
    for connection, entity, names in touched:
        known = found.setdefault(connection, {}).setdefault(entity.name, {})
        for name in sorted(names & {*entity.by_name}):
            is_written = entity is compiled.target and name in written
            known[name] = _described(entity.by_name[name], written=is_written)
    return found


def changes_since(hub: Installation, run: str, tally: Tally | None = None) -> str | None:
    """What changed at the far sides since a run began, and what to do, in one line; None where nothing that matters.

    `tally` is told what asking had to put up with. ConnectorError where a far side cannot be asked.
    """
    with hub.database.read() as session:
        found = hub.ledger.run(session, run)
    if not found.shape:
        return None
    write = hub.mappings.document(hub.mappings.version(found.mapping, found.version)).write
    making = (write.connection, write.entity) if write.mode is not Mode.UPDATE else None
    changes = moved(hub.connections, cast("Shape", found.shape), making=making, tally=tally)
    if not changes:
        return None
    told = "; ".join(changes[:MOST_TOLD]) + (f"; and {len(changes) - MOST_TOLD} more" if changes[MOST_TOLD:] else "")
    return (
        f"the mapping no longer fits: {told}. Adapt it and publish it by `hub mappings publish`,"
        f" then `hub runs resume {run}` goes on"
    )


def moved(
    connections: Connections,
    shape: Shape,
    *,
    making: tuple[str, str] | None = None,
    tally: Tally | None = None,
) -> list[str]:
    """What no longer is as it was, a sentence each: gone, of another type, narrower, no longer writable, required.

    `making` is the connection and the entity of which the mapping makes new records, where it does.
    """
    found: list[str] = []
    for connection, entities in shape.items():
        now = {each.name: each for each in connections.entities(connection, list(entities), tally=tally)}
        for name, fields in entities.items():
            place = f"{connection}/{name}"
            if name not in now:
                found.append(f"{place} is gone")
                continue
            found += _compared(place, fields, now[name])
            if making == (connection, name):
                found += _required(place, fields, now[name])
    return found


def _compared(place: str, fields: Mapping[str, Mapping[str, Json]], now: Entity) -> Iterator[str]:
    for name, was in fields.items():
        field = now.by_name.get(name)
        if field is None:
            fresh = [each.name for each in now.fields if each.name not in fields]
            yield f"{place}.{name} was {_text(was)} and is gone{near(name, fresh)}"
            continue
        written = bool(was.get("written"))
        became = _described(field, written=written)
        if _worse(was, became):
            yield f"{place}.{name} was {_text(was)} and is {_text(became)}"


def _required(place: str, fields: Mapping[str, Mapping[str, Json]], now: Entity) -> Iterator[str]:
    for field in now.fields:
        if field.required and field.name not in fields:
            yield f"{place}.{field.name} is required now: a new record needs it, and the mapping does not set it"


def _described(field: Field, *, written: bool) -> dict[str, Json]:
    limits: dict[str, Json] = {name: getattr(field, name) for name in _LIMITS if getattr(field, name) is not None}
    more: dict[str, Json] = {"values": list(field.values)} if field.values else {}
    if written:
        more |= {"written": True, "nullable": field.nullable, "writable": field.writable}
    return {"type": field.type.value, **limits, **more}


def _worse(was: Mapping[str, Json], now: Mapping[str, Json]) -> bool:
    """Whether something that fitted may not fit any more; a longer text or a longer list takes nothing away."""
    if any(was.get(name) != now.get(name) for name in ("type", "precision", "scale")):
        return True
    if now.get("length") is not None and (was.get("length") is None or now["length"] < was["length"]):  # type: ignore[operator]
        return True
    if now.get("values") and not {*_values(was)} <= {*_values(now)}:
        return True
    return any(was.get(name) and not now.get(name) for name in ("nullable", "writable"))


def _values(described: Mapping[str, Json]) -> Sequence[str]:
    return described.get("values") or ()  # type: ignore[return-value]


def _text(described: Mapping[str, Json]) -> str:
    limits = [str(described[name]) for name in _LIMITS if described.get(name) is not None]
    parts = [str(described["type"]) + (f"({', '.join(limits)})" if limits else "")]
    if described.get("values"):
        parts.append(f"one of {', '.join(_values(described))}")
    if described.get("nullable") is False:
        parts.append("never empty")
    if described.get("writable") is False:
        parts.append("read-only")
    return ", ".join(parts)
