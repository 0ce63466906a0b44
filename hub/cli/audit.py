"""`hub audit`: who did what, whether the trail is whole, and the proofs of it for others."""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from hub.access import Scope
from hub.cli import reports, retention
from hub.cli.caller import anybody, me, needs
from hub.cli.output import AsJson, RefusedError, emit, facts, opened, read_text, room, table

if TYPE_CHECKING:
    from hub.audit import Checkpoint, Proof, Recorded

app = room("Who did what, provably.")
retention.add_to(app)
reports.add_to(app)


@app.command("list", epilog="Example: hub audit list --run 20261120-231500-3fa9c1")
@needs(Scope.AUDIT)
def list_(
    actor: Annotated[str | None, typer.Option(help="Only by this actor, human:anna for one.")] = None,
    action: Annotated[str | None, typer.Option(help="Only this action, runs.run.start for one.")] = None,
    subject: Annotated[str | None, typer.Option(help="Only about this subject.")] = None,
    run: Annotated[str | None, typer.Option(help="Only of this run.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many, newest first.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Lists events, newest first."""
    from hub.audit import Action

    known = {each.value: each for each in Action}
    if action is not None and action not in known:
        raise typer.BadParameter(f"there is no action {action}; the actions are {', '.join(known)}")
    with opened() as hub:
        chosen = known[action] if action is not None else None
        found = hub.audit.events(actor=actor, action=chosen, subject=subject, run=run, limit=limit)
    answer = [
        {
            "at": each.at,
            "actor": each.event.actor,
            "action": each.event.action.value,
            "subject": each.event.subject,
            "outcome": each.event.outcome.value,
            "run": each.event.run,
            "digest": each.event.digest,
            "detail": dict(each.event.detail),
        }
        for each in found
    ]
    rows = [(e["at"], e["actor"], e["action"], e["subject"], e["outcome"], e["detail"]) for e in answer]
    emit(
        answer,
        as_json,
        lambda: table(["at", "actor", "action", "subject", "outcome", "detail"], rows, empty="no events"),
    )


@app.command(epilog="Example: hub audit verify --against kept/checkpoint.txt")
@needs(Scope.AUDIT)
def verify(
    against: Annotated[
        list[Path] | None, typer.Option(help="A file with a checkpoint kept outside the hub; may be repeated.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Walks the whole trail and the log sealed over it; exit code 1 where an event is missing or was altered.

    Checkpoints that an anchor lets be read back are held against it as well.
    """
    from hub.audit import Action, Outcome

    known = [read_text(each) for each in against or []]
    with opened() as hub:
        verdict = hub.sealed.verify([*known, *hub.anchoring.kept()])
        with hub.database.begin() as session:
            outcome = Outcome.DONE if verdict.ok else Outcome.FAILED
            hub.record(session, str(me()), Action.AUDIT_VERIFY, "audit", outcome=outcome, events=verdict.events)
    answer = {**asdict(verdict), "ok": verdict.ok}
    emit(
        answer,
        as_json,
        lambda: facts({**answer, "ok": "nothing is missing, nothing was altered" if verdict.ok else ""}),
    )
    if not verdict.ok:
        raise typer.Exit(1)


@app.command(epilog="Example: hub audit seal")
@needs(Scope.AUDIT)
def seal(as_json: AsJson = False) -> None:
    """Seals now what was recorded; workers do it every second. Prints the newest checkpoint."""
    with opened() as hub:
        hub.sealed.seal(every_chain=True)
        _emit_checkpoint(hub.sealed.checkpoint(), as_json)


@app.command(epilog="Example: hub audit checkpoint")
@needs(Scope.AUDIT)
def checkpoint(as_json: AsJson = False) -> None:
    """Prints the newest checkpoint, signed. Keep it elsewhere: it proves later that nothing before it was changed."""
    with opened() as hub:
        _emit_checkpoint(hub.sealed.checkpoint(), as_json)


@app.command(epilog="Example: hub audit anchors --to receipts")
@needs(Scope.AUDIT)
def anchors(
    to: Annotated[Path | None, typer.Option(help="A new folder for checkpoints and their receipts.")] = None,
    as_json: AsJson = False,
) -> None:
    """Lists which checkpoints were put outside the hub; with --to writes them, and the timestamps, as files."""
    with opened() as hub:
        found = hub.anchoring.receipts()
        notes = hub.sealed.notes({each.size for each in found}) if to is not None else {}
    if to is not None:
        _new_folder(to)
        for size, note in notes.items():
            (to / f"checkpoint-{size}.txt").write_text(note, encoding="utf-8")
        for each in found:
            (to / f"{each.name}-{each.size}.{'tsr' if each.name == 'timestamp' else 'bin'}").write_bytes(each.receipt)
    answer = [{"anchor": each.name, "size": each.size, "at": each.at} for each in found]
    rows = [(each["anchor"], each["size"], each["at"]) for each in answer]
    emit(answer, as_json, lambda: table(["anchor", "size", "at"], rows, empty="no checkpoint was put outside yet"))


@app.command(epilog="Example: hub audit key")
@needs(Scope.AUDIT)
def key(as_json: AsJson = False) -> None:
    """Prints the public key of the log, for whoever verifies; hand it over by another way than the log itself."""
    with opened() as hub:
        answer = {"key": hub.sealed.verifier_key()}
    emit(answer, as_json, lambda: print(answer["key"]))


@app.command(epilog="Example: hub audit prove 17 --to proof")
@needs(Scope.AUDIT)
def prove(
    number: Annotated[int, typer.Argument(min=0, help="The place of the event in the log, from 0.")],
    to: Annotated[
        Path | None, typer.Option(help="A new folder for event.json, path.txt, checkpoint.txt and key.txt.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Prints the proof that the log holds an event; with --to as files that `openssl` alone can check."""
    with opened() as hub:
        proof = hub.sealed.prove_at(number)
        public = hub.sealed.verifier_key()
    steps = [{"side": side, "hash": encoded} for side, encoded in proof.steps()]
    if to is not None:
        _write_proof(to, proof, public)
    event = proof.leaf.decode("utf-8") if proof.leaf is not None else None
    answer = {"index": proof.index, "event": event, "path": steps, "checkpoint": proof.checkpoint.note, "key": public}
    emit(answer, as_json, lambda: facts({**answer, "path": [f"{e['side']} {e['hash']}" for e in steps], "to": to}))


@app.command(epilog="Example: hub audit export audit.jsonl --run 20261120-231500-3fa9c1")
@needs(Scope.AUDIT)
def export(
    to: Annotated[Path, typer.Argument(help="The file to write; it must not be there yet.")],
    actor: Annotated[str | None, typer.Option(help="Only by this actor.")] = None,
    subject: Annotated[str | None, typer.Option(help="Only about this subject.")] = None,
    run: Annotated[str | None, typer.Option(help="Only of this run.")] = None,
    since: Annotated[
        list[Path] | None, typer.Option(help="A kept checkpoint from which growth is proven; may be repeated.")
    ] = None,
    form: Annotated[
        str, typer.Option(help="proof: with what verifies it; ocsf or fhir (AuditEvent, R4): for other tools.")
    ] = "proof",
    as_json: AsJson = False,
) -> None:
    """Writes the sealed log, or chosen events with their proofs, as JSON lines that verify without the hub."""
    from hub.audit import Action, Chosen
    from hub.audit.forms import FORMS

    if form != "proof" and form not in FORMS:
        raise typer.BadParameter(f"--form is one of proof, {', '.join(FORMS)}")
    kept = [read_text(each) for each in since or []]
    chosen = Chosen(actor, None, subject, run)
    everything = chosen == Chosen()
    with opened() as hub:
        hub.sealed.seal(every_chain=True)
        with _new_file(to) as file:
            if form == "proof":
                events = hub.sealed.export(file.write, None if everything else chosen, kept)
            else:
                events = _write_as(FORMS[form], hub.sealed.read(chosen), file)
        with hub.database.begin() as session:
            detail = {"events": events, "of_actor": actor, "about": subject, "of_run": run, "form": form}
            hub.record(session, str(me()), Action.AUDIT_EXPORT, "audit", **detail)
    answer = {"file": to, "events": events, "whole": everything}
    emit(answer, as_json, lambda: facts(answer))


@app.command(epilog="Example: hub audit verifier > verify.py")
@anybody("it prints a program that is the same everywhere")
def verifier(as_json: AsJson = False) -> None:
    """Prints the program that verifies an export with Python's standard library alone."""
    from hub.audit.merkle import verifier as program

    source = inspect.getsource(program)
    emit({"program": source}, as_json, lambda: print(source, end=""))


def _write_as(form: Callable[[int, Recorded], Any], events: Iterator[tuple[int, Recorded]], file: TextIO) -> int:
    written = 0
    for index, each in events:
        file.write(json.dumps(form(index, each), ensure_ascii=False, separators=(",", ":")) + "\n")
        written += 1
    return written


def _emit_checkpoint(found: Checkpoint, as_json: bool) -> None:
    answer = {"origin": found.origin, "size": found.size, "root": found.root.hex(), "note": found.note}
    emit(answer, as_json, lambda: print(found.note, end=""))


def _write_proof(folder: Path, proof: Proof, public: str) -> None:
    _new_folder(folder)
    path = "".join(f"{side} {encoded}\n" for side, encoded in proof.steps())
    if proof.leaf is not None:
        (folder / "event.json").write_bytes(proof.leaf)
    for name, text in (("path", path), ("checkpoint", proof.checkpoint.note), ("key", public + "\n")):
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")


def _new_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise RefusedError(f"{folder} is there already; name a new folder") from None


@contextmanager
def _new_file(path: Path) -> Iterator[TextIO]:
    """A file that only its owner reads. RefusedError where there is one; taken away again where it stays half."""
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except FileExistsError:
        raise RefusedError(f"{path} is there already; name a new file") from None
    except OSError as error:
        raise RefusedError(f"{path}: {error.strerror}") from None
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            yield file
    except BaseException:
        path.unlink()
        raise
