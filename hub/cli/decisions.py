"""`hub decisions`: the receipt behind a score, and records held for a person."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hub.cli.output import AsJson, RefusedError, emit, facts, me, opened, room, shown, table

if TYPE_CHECKING:
    from hub.decisions import Receipt
    from hub.runs import Installation

app = room("What was concluded about each record, and why.")

Mapping = Annotated[str, typer.Argument(help="A mapping.")]
Key = Annotated[str, typer.Argument(help="A record's key: 00042, or field=value,field=value where it has several.")]


@app.command(epilog="Example: hub decisions show patient_risk 00842302")
def show(
    mapping: Mapping,
    key: Key,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many decisions, newest first.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Shows a record's receipt: where it stands, and every decision that led there. `crm/Lead` names a mapping too."""
    from hub.decisions.plain import receipt_json
    from hub.runs import look_up

    with opened() as hub:
        name = mapping_of(hub, mapping)
        found = look_up(hub, name, key_of(hub, name, key), str(me()), limit)
    if found is None:
        raise RefusedError(f"mapping {name} has never met the record {key}")
    emit(receipt_json(found), as_json, lambda: _print(found))


@app.command(epilog="Example: hub decisions held patient_risk")
def held(mapping: Mapping, as_json: AsJson = False) -> None:
    """Lists the records that wait for a person, with why and what would be written."""
    from hub.decisions import held

    with opened() as hub:
        rows = []
        for frame in held(hub.standing, mapping_of(hub, mapping)):
            for row in frame.iter_rows(named=True):
                decided = hub.log.frame(row["segment"]).row(row["row"], named=True)
                outputs = {name[2:]: value for name, value in decided.items() if name.startswith(("o.", "d."))}
                rows.append({"key": row["_key"], "reason": decided["_reason"], "since": row["at"], "decided": outputs})
    listed = [(each["key"], each["reason"], each["since"], each["decided"]) for each in rows]
    emit(rows, as_json, lambda: table(["record", "why", "since", "decided"], listed, empty="nothing is held"))


@app.command(epilog="Example: hub decisions release patient_risk 00842302")
def release(mapping: Mapping, key: Key, as_json: AsJson = False) -> None:
    """Lets a held record pass: the mapping's next run decides it anew and writes it."""
    from hub.audit import Action
    from hub.decisions import release

    with opened() as hub:
        mapping = mapping_of(hub, mapping)
        keys = _series(hub, mapping, key)
        with hub.database.begin() as session:
            release(session, hub.standing, mapping, keys, hub.database.now(session))
            _record(hub, session, Action.DECISION_RELEASE, mapping, key)
        answer = {"mapping": mapping, "key": key, "released": True}
        emit(answer, as_json, lambda: print(f"{key} is released; the next run of {mapping} writes it"))


@app.command(epilog="Example: hub decisions drop patient_risk 00842302")
def drop(mapping: Mapping, key: Key, as_json: AsJson = False) -> None:
    """Puts a held record aside until its input changes; nothing is written."""
    from hub.audit import Action
    from hub.decisions import drop

    with opened() as hub:
        mapping = mapping_of(hub, mapping)
        keys = _series(hub, mapping, key)
        with hub.database.begin() as session:
            drop(session, hub.standing, mapping, keys)
            _record(hub, session, Action.DECISION_DROP, mapping, key)
        answer = {"mapping": mapping, "key": key, "dropped": True}
        emit(answer, as_json, lambda: print(f"{key} is dropped; it is looked at again when its input changes"))


@app.command(epilog="Example: hub decisions verify patient_risk")
def verify(mapping: Mapping, as_json: AsJson = False) -> None:
    """Holds every stored decision of a mapping against its digest; exit code 1 where one was altered."""
    from hub.decisions import IntegrityError

    with opened() as hub:
        mapping = mapping_of(hub, mapping)
        with hub.database.read() as session:
            segments = hub.log.segments(session, mapping=mapping)
        faults = []
        for each in segments:
            try:
                hub.log.verify(each.id)
            except IntegrityError as error:
                faults.append(str(error))
    answer = {"segments": len(segments), "decisions": sum(each.rows for each in segments), "faults": faults}
    emit(
        answer,
        as_json,
        lambda: facts(answer if faults else {**answer, "verdict": "every decision is as it was written"}),
    )
    if faults:
        raise typer.Exit(1)


def mapping_of(hub: Installation, name: str) -> str:
    """A mapping by its name, or by `connection/Entity` where one published mapping writes there."""
    if hub.standing.key_type(name) is not None:
        return name  # what stands has a mapping, and the libraries that mappings need take longer than a receipt
    connection, slash, entity = name.partition("/")
    if not slash:
        return hub.mappings.get(name).mapping
    found = []
    for each in hub.mappings.list():
        if each.published is not None:
            read = hub.mappings.document(each.published).read
            if (read.connection, read.entity) == (connection, entity):
                found.append(each.mapping)
    if len(found) != 1:
        raise RefusedError(f"{len(found)} published mappings read {name}; name the mapping")
    return found[0]


def key_of(hub: Installation, mapping: str, text: str) -> dict[str, Any]:
    """A key as typed, by field: the key's own names come from what stands."""
    kind = hub.standing.key_type(mapping)
    if kind is None:
        raise RefusedError(f"mapping {mapping} has not met any record yet")
    names = [each.name for each in kind.fields]
    if len(names) == 1:
        return {names[0]: text.removeprefix(f"{names[0]}=")}
    parts = dict(each.partition("=")[::2] for each in text.split(","))
    if set(parts) != set(names):
        raise typer.BadParameter(f"the key has the fields {', '.join(names)}: {','.join(f'{n}=…' for n in names)}")
    return parts


def _print(found: Receipt) -> None:
    from hub.decisions.plain import decision_json

    standing = dict(found.standing or {})
    facts({"record": found.key, "stands": standing["state"], "why": standing["why"], "holds": standing["values"]})
    facts({"written": standing["written_at"], "due again": standing["due"]})
    for each in map(decision_json, found.decisions):
        print()
        names = (
            "at",
            "run",
            "model",
            "state",
            "reason",
            "because",
            "features",
            "outputs",
            "decided",
            "written",
            "before",
        )
        facts({name: each[name] for name in names if each[name]})
        reasons = [f"{one['feature']} {one['effect']:+.4f}" for one in each["reasons"]]
        facts({"reasons": reasons, "far side": each["result"], "cleared": each["cleared"], "segment": each["segment"]})
        facts({"digest": each["digest"]})
    if found.older is not None:
        print(f"\nolder decisions exist; --limit shows more ({shown(found.older)})")


def _series(hub: Installation, mapping: str, key: str) -> Any:
    from hub.decisions.receipts import key_series

    made = key_series(hub.standing, mapping, key_of(hub, mapping, key))
    if made is None:
        raise RefusedError(f"mapping {mapping} has not met any record yet")
    return made


def _record(hub: Installation, session: Any, action: Any, mapping: str, key: str) -> None:
    pseudonym = hub.keys.mac("record-key", json.dumps([mapping, key]).encode()).hex()
    hub.record(session, str(me()), action, f"record:{pseudonym}", mapping=mapping)
