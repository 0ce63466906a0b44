"""`hub mappings`: check, preview, compare and publish documents; pause and resume what is published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hub.access import Resource, Scope, decide
from hub.cli.caller import allow, anybody, me, needs, sees, this_caller
from hub.cli.output import AsJson, RefusedError, emit, opened, read_text, room, shown, table

if TYPE_CHECKING:
    from hub.mappings import Standing
    from hub.runs import Installation

app = room("Mappings: documents that say what to read, score and write.")

File = Annotated[Path, typer.Argument(help="A mapping document, or the folder it lies in.", exists=True)]
Name = Annotated[str, typer.Argument(help="A published mapping.")]


def document_text(path: Path) -> str:
    """The text of a document, or of `mapping.yaml` in a folder."""
    return read_text(path / "mapping.yaml" if path.is_dir() else path)


def allowed_text(hub: Installation, path: Path, *scopes: Scope) -> str:
    """The text of a document whose mapping, connections and models are open to the caller, all of them."""
    from hub.mappings import read_document

    text = document_text(path)
    wanted = scopes or (Scope.MAPPINGS,)
    if all(decide(this_caller(), scope).allowed for scope in wanted):
        return text  # what is wrong with the document is said by whoever checks it
    for resource in read_document(text).resources:
        for scope in wanted:
            allow(hub, resource, scope)
    return text


@app.command(epilog="Example: hub mappings check mappings/patient_risk")
@needs(Scope.MAPPINGS, named=True)
def check(file: File, as_json: AsJson = False) -> None:
    """Checks a document against its connections and its model, and runs its examples."""
    with opened() as hub:
        compiled = hub.mappings.check(allowed_text(hub, file), me())
        examples = hub.mappings.run_examples(compiled, file / "examples") if file.is_dir() else []
        answer = {"mapping": compiled.document.mapping, "digest": compiled.document.digest, "examples": len(examples)}
        done = f"mapping {compiled.document.mapping} is right ({len(examples)} examples hold)"
        emit(answer, as_json, lambda: print(done))


@app.command(epilog="Example: hub mappings preview mappings/patient_risk --records 5")
@needs(Scope.MAPPINGS, named=True)
def preview(
    file: File,
    records: Annotated[int, typer.Option(min=1, max=1000, help="How many real records.")] = 5,
    as_json: AsJson = False,
) -> None:
    """Carries real records through a document, shows what would be written, and writes nothing."""
    from hub.runs import preview as preview_

    with opened() as hub:
        text = allowed_text(hub, file, Scope.MAPPINGS, Scope.RECORDS)
        answer = preview_(hub, text, me(), records)
        rows = [_decision(each) for each in answer.rows.iter_rows(named=True)]

    def show() -> None:
        for each in rows:
            print(f"{shown(each['key'])}: {each['state']}" + (f" ({each['reason']})" if each["reason"] else ""))
            for name, value in each["set"].items():
                print(f"    {name}: {shown(each['before'].get(name))} → {shown(value)}")

    emit(rows, as_json, show)


@app.command(epilog="Example: hub mappings publish mappings/patient_risk")
@needs(Scope.MAPPINGS, named=True)
def publish(file: File, as_json: AsJson = False) -> None:
    """Publishes a document: from now on this version runs. In production somebody else has approved it before."""
    with opened() as hub:
        made = hub.mappings.publish(allowed_text(hub, file), this_caller())
        answer = {"mapping": made.mapping, "number": made.number, "digest": made.digest}
        emit(answer, as_json, lambda: print(f"mapping {made.mapping} version {made.number} is published"))


@app.command(epilog="Example: hub mappings submit mappings/patient_risk")
@needs(Scope.MAPPINGS, named=True)
def submit(
    file: File,
    reason: Annotated[str, typer.Option(help="What the approver should know.")] = "",
    as_json: AsJson = False,
) -> None:
    """Hands a document in for approval by somebody else, frozen with its rights, its model and its systems."""
    with opened() as hub:
        compiled = hub.mappings.submit(allowed_text(hub, file), this_caller(), reason)
        answer = {"mapping": compiled.document.mapping, "digest": compiled.document.digest}
        hint = f"hub mappings approve {compiled.document.mapping} {compiled.document.digest}"
        emit(answer, as_json, lambda: print(f"handed in; somebody else approves it by: {hint}"))


@app.command(epilog="Example: hub mappings approve patient_risk 5f1c…")
@needs(Scope.APPROVE, mapping="name")
def approve(
    name: Name,
    digest: Annotated[str, typer.Argument(help="The version's digest.")],
    reason: Annotated[str, typer.Option(help="Why; it stands in the trail.")] = "",
    as_json: AsJson = False,
) -> None:
    """Approves a version that somebody else handed in; `hub access approvals show` shows what exactly."""
    with opened() as hub:
        given = hub.mappings.approve(name, digest, this_caller(), reason)
        answer = {"mapping": name, "digest": digest, "approval": given.id}
        emit(answer, as_json, lambda: print(f"version {digest[:12]} of {name} is approved"))


@app.command("list", epilog="Example: hub mappings list")
@needs(Scope.READ, named=True)
def list_(as_json: AsJson = False) -> None:
    """Lists the mappings and where they stand."""
    with opened() as hub:
        listed = [each for each in hub.mappings.list() if sees(Resource.mapping(each.mapping))]
        found = [_standing(each, hub.standing.states(each.mapping)) for each in listed]
    rows = [(m["mapping"], m["number"], m["state"], m["published_by"], m["paused"], m["records"]) for m in found]
    columns = ["mapping", "version", "latest is", "published by", "paused", "records"]
    emit(found, as_json, lambda: table(columns, rows, empty="no mappings; hub mappings publish"))


@app.command(epilog="Example: hub mappings show patient_risk --version 1 > earlier.yaml")
@needs(Scope.READ, mapping="name")
def show(
    name: Name,
    version: Annotated[int | None, typer.Option(min=1, help="An earlier version; publish its text to go back.")] = None,
    as_json: AsJson = False,
) -> None:
    """Prints the document of a published version, and who published it when."""
    with opened() as hub:
        found = {each.number: each for each in hub.mappings.versions(name)}
        wanted = version if version is not None else hub.mappings.get(name).number
        if wanted not in found:
            raise RefusedError(f"mapping {name} has no version {wanted}; it has {', '.join(map(str, found)) or 'none'}")
        chosen = found[wanted]
    answer = {
        "mapping": name,
        "number": chosen.number,
        "digest": chosen.digest,
        "published_at": chosen.published_at,
        "text": chosen.text,
    }
    emit(answer, as_json, lambda: print(chosen.text, end=""))


@app.command(epilog="Example: hub mappings grant mappings/patient_risk")
@needs(Scope.MAPPINGS, named=True)
def grant(file: File, as_json: AsJson = False) -> None:
    """Shows the exact fields a document may read and write, and what to grant for them at the far side."""
    with opened() as hub:
        compiled = hub.mappings.check(allowed_text(hub, file), me())
        answer: dict[str, Any] = {}
        for connection, each in compiled.grants.items():
            with hub.connections.open(connection, each) as far:
                answer[connection] = {"grant": each.to_json(), "plan": far.plan()}

    def text() -> None:
        for connection, each in answer.items():
            print(f"connection {connection}")
            for verb in ("reads", "writes"):
                for entity, fields in each["grant"][verb].items():
                    print(f"  {verb} {entity}: {shown(fields)}")
            print(f"  to grant there:\n{each['plan']}")

    emit(answer, as_json, text)


@app.command(epilog="Example: hub mappings spec mappings/patient_risk > agreement.md")
@needs(Scope.MAPPINGS, named=True)
def spec(file: File, as_json: AsJson = False) -> None:
    """Writes the integration specification: a document that both sides can sign."""
    from hub.mappings import spec as render

    with opened() as hub:
        made = render(hub.mappings.check(allowed_text(hub, file), me()))
        emit({"specification": made}, as_json, lambda: print(made))


@app.command(epilog="Example: hub mappings explain mappings/patient_risk")
@needs(Scope.MAPPINGS, named=True)
def explain(file: File, as_json: AsJson = False) -> None:
    """Shows what the far side filters, what the hub does, and how each value comes about."""
    from hub.mappings import explain as render

    with opened() as hub:
        compiled = hub.mappings.check(allowed_text(hub, file), me())
        with hub.database.read() as session:
            made = render(compiled, hub.database.now(session))
        emit({"explanation": made}, as_json, lambda: print(made))


@app.command(epilog="Example: hub mappings diff mappings/patient_risk")
@needs(Scope.MAPPINGS, named=True)
def diff(file: File, as_json: AsJson = False) -> None:
    """Shows what publishing a document would change, rights included."""
    from hub.mappings import diff, diff_grants

    with opened() as hub:
        compiled = hub.mappings.check(allowed_text(hub, file), me())
        published = hub.mappings.get(compiled.document.mapping)
        before = hub.mappings.compile_published(published)
        answer = {
            "document": list(diff(before.document, compiled.document)),
            "rights": list(diff_grants(before.grants, compiled.grants)),
        }

    def text() -> None:
        for line in [*answer["document"], *answer["rights"]] or ["nothing would change"]:
            print(line)

    emit(answer, as_json, text)


@app.command(epilog="Example: hub mappings schema > mapping.schema.json")
@anybody("it describes every document")
def schema(as_json: AsJson = False) -> None:
    """Prints the JSON Schema of a document, so that an editor completes it."""
    from hub.mappings import document_schema

    del as_json  # the answer is JSON either way
    print(json.dumps(document_schema(), indent=2))


@app.command(epilog="Example: hub mappings pause patient_risk --reason 'audit'")
@needs(Scope.MAPPINGS, mapping="name")
def pause(
    name: Name,
    reason: Annotated[str, typer.Option(help="Why; shown to whoever starts a run.")] = "paused by hand",
    as_json: AsJson = False,
) -> None:
    """Nothing runs the mapping until it is resumed."""
    with opened() as hub:
        hub.mappings.pause(name, me(), reason)
        emit({"mapping": name, "paused": True}, as_json, lambda: print(f"mapping {name} is paused"))


@app.command(epilog="Example: hub mappings resume patient_risk")
@needs(Scope.MAPPINGS, mapping="name")
def resume(name: Name, as_json: AsJson = False) -> None:
    """Lets a paused mapping run again."""
    with opened() as hub:
        hub.mappings.resume(name, me())
        emit({"mapping": name, "paused": False}, as_json, lambda: print(f"mapping {name} may run again"))


def _standing(each: Standing, records: dict[str, int]) -> dict[str, Any]:
    version = each.published
    return {
        "mapping": each.mapping,
        "number": version.number if version is not None else None,
        "digest": version.digest if version is not None else None,
        "published_by": version.published_by if version is not None else None,
        "published_at": version.published_at if version is not None else None,
        "paused": (version.pause_reason or "yes") if version is not None and version.paused else None,
        "newest_digest": each.newest_digest,
        "state": str(each.newest_state),
        "records": records,
    }


def _decision(row: dict[str, Any]) -> dict[str, Any]:
    """One decision as a face shows it: the log's column groups by bare name."""

    def group(prefix: str) -> dict[str, Any]:
        return {name.removeprefix(prefix): value for name, value in row.items() if name.startswith(prefix)}

    return {
        "key": row["_key"],
        "state": row["_state"],
        "reason": row.get("_reason"),
        "because": row.get("_because"),
        "features": group("f."),
        "outputs": group("o."),
        "decided": group("d."),
        "set": {**group("set."), **group("with.")},
        "before": group("before."),
        "reasons": row.get("_reasons"),
    }
