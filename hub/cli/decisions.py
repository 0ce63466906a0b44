"""`hub decisions`: the receipt behind a score, and records held for a person."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from hub.access import Resource, Scope
from hub.cli.afar import At, ask
from hub.cli.caller import allow, me, needs, sees
from hub.cli.output import AsJson, RefusedError, emit, facts, moment, opened, room, shown, table

if TYPE_CHECKING:
    from hub.runs import Installation

app = room("What was concluded about each record, and why.")

Mapping = Annotated[str, typer.Argument(help="A mapping.")]
Key = Annotated[str, typer.Argument(help="A record's key: 00042, or field=value,field=value where it has several.")]


@app.command(epilog="Example: hub decisions show patient_risk 00842302")
@needs(Scope.RECORDS, named=True)
def show(
    mapping: Mapping,
    key: Key,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many decisions, newest first.")] = 20,
    at: At = None,
    as_json: AsJson = False,
) -> None:
    """Shows a record's receipt: where it stands, and every decision that led there. `crm/Lead` names a mapping too."""
    if at is not None:
        asked = [("mapping", mapping), ("key", key), ("limit", str(limit))]
        told = ask(at, "/v1/decisions", asked, {"mapping", "key", "standing", "decisions", "older"})
        emit(told, as_json, lambda: _print(told))
        return
    from hub.decisions.plain import receipt_json
    from hub.runs import look_up

    with opened() as hub:
        name = mapping_of(hub, mapping)
        found = look_up(hub, name, key_of(hub, name, key), str(me()), limit)
    if found is None:
        raise RefusedError(f"mapping {name} has never met the record {key}")
    told = receipt_json(found)
    emit(told, as_json, lambda: _print(told))


@app.command(epilog="Example: hub decisions held patient_risk")
@needs(Scope.RECORDS, named=True)
def held(mapping: Mapping, as_json: AsJson = False) -> None:
    """Lists the records that wait for a person, with why and what would be written."""
    from hub.decisions import held, key_text
    from hub.runs import note_look

    with opened() as hub:
        rows: list[dict[str, Any]] = []
        texts: list[str] = []
        mapping = mapping_of(hub, mapping)
        for frame in held(hub.standing, mapping):
            texts.extend(key_text(frame["_key"]))
            for row in frame.iter_rows(named=True):
                decided = hub.log.frame(row["segment"]).row(row["row"], named=True)
                outputs = {name[2:]: value for name, value in decided.items() if name.startswith(("o.", "d."))}
                rows.append({"key": row["_key"], "reason": decided["_reason"], "since": row["at"], "decided": outputs})
        with hub.database.begin() as session:
            fields = sorted({name for each in rows for name in each["decided"]})
            subject, purpose = f"mapping:{mapping}", "held records"
            note_look(hub, session, str(me()), subject, mapping, texts, purpose=purpose, fields=fields)
    listed = [(each["key"], each["reason"], each["since"], each["decided"]) for each in rows]
    emit(rows, as_json, lambda: table(["record", "why", "since", "decided"], listed, empty="nothing is held"))


@app.command(epilog="Example: hub decisions release patient_risk 00842302")
@needs(Scope.REVIEW, named=True)
def release(mapping: Mapping, key: Key, as_json: AsJson = False) -> None:
    """Lets a held record pass: the mapping's next run decides it anew and writes it."""
    from hub.audit import Action
    from hub.decisions import release

    with opened() as hub:
        mapping = mapping_of(hub, mapping)
        keys = _series(hub, mapping, key)
        with hub.database.begin() as session:
            release(session, hub.standing, mapping, keys, hub.database.now(session))
            _record(hub, session, Action.DECISION_RELEASE, mapping, keys)
        answer = {"mapping": mapping, "key": key, "released": True}
        emit(answer, as_json, lambda: print(f"{key} is released; the next run of {mapping} writes it"))


@app.command(epilog="Example: hub decisions drop patient_risk 00842302")
@needs(Scope.REVIEW, named=True)
def drop(mapping: Mapping, key: Key, as_json: AsJson = False) -> None:
    """Puts a held record aside until its input changes; nothing is written."""
    from hub.audit import Action
    from hub.decisions import drop

    with opened() as hub:
        mapping = mapping_of(hub, mapping)
        keys = _series(hub, mapping, key)
        with hub.database.begin() as session:
            drop(session, hub.standing, mapping, keys)
            _record(hub, session, Action.DECISION_DROP, mapping, keys)
        answer = {"mapping": mapping, "key": key, "dropped": True}
        emit(answer, as_json, lambda: print(f"{key} is dropped; it is looked at again when its input changes"))


@app.command(epilog="Example: hub decisions verify patient_risk")
@needs(Scope.AUDIT)
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
    """A mapping by its name, or by `connection/Entity` where one published mapping of the caller's writes there."""
    if "/" not in name:
        allow(hub, Resource.mapping(name))
    if hub.standing.key_type(name) is not None:
        return name  # what stands has a mapping, and the libraries that mappings need take longer than a receipt
    connection, slash, entity = name.partition("/")
    if not slash:
        return hub.mappings.get(name).mapping
    found = []
    for each in hub.mappings.list():
        if each.published is not None and sees(Resource.mapping(each.mapping)):
            read = hub.mappings.document(each.published).read
            if (read.connection, read.entity) == (connection, entity):
                found.append(each.mapping)
    if len(found) != 1:
        raise RefusedError(f"{len(found)} published mappings read {name}; name the mapping")
    return found[0]


def key_of(hub: Installation, mapping: str, text: str) -> dict[str, str]:
    """A key as typed, by field: the key's own names come from what stands."""
    from hub.decisions import DecisionError
    from hub.decisions.receipts import named_key

    kind = hub.standing.key_type(mapping)
    if kind is None:
        raise RefusedError(f"mapping {mapping} has not met any record yet")
    try:
        return named_key([each.name for each in kind.fields], [text])
    except DecisionError as error:
        raise typer.BadParameter(str(error)) from None


def _print(found: dict[str, Any]) -> None:
    standing = found["standing"] or {}
    facts({"record": found["key"], "stands": standing["state"], "why": standing["why"], "holds": standing["values"]})
    facts({"written": moment(standing["written_at"]), "due again": moment(standing["due"])})
    for each in found["decisions"]:
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
        facts({name: each[name] for name in names if each[name]} | {"at": moment(each["at"])})
        reasons = [f"{one['feature']} {one['effect']:+.4f}" for one in each["reasons"]]
        facts({"reasons": reasons, "far side": each["result"], "cleared": each["cleared"], "segment": each["segment"]})
        facts({"digest": each["digest"]})
    if found["older"] is not None:
        print(f"\nolder decisions exist; --limit shows more ({shown(found['older'])})")


def _series(hub: Installation, mapping: str, key: str) -> Any:
    from hub.decisions.receipts import key_series

    made = key_series(hub.standing, mapping, key_of(hub, mapping, key))
    if made is None:
        raise RefusedError(f"mapping {mapping} has not met any record yet")
    return made


def _record(hub: Installation, session: Any, action: Any, mapping: str, keys: Any) -> None:
    from hub.decisions import key_text

    subject = hub.subjects.name(mapping, key_text(keys)[0])
    hub.record(session, str(me()), action, subject, mapping=mapping, purpose="human override")
