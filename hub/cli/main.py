"""The command `hub`: its rooms, its demo, and how every refusal ends as one sentence and an exit code."""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Iterator, Sequence

import typer

from hub.cli import (
    access,
    audit,
    connections,
    connectors,
    decisions,
    demo,
    keys,
    mappings,
    models,
    processes,
    runs,
    twin,
)
from hub.cli.output import RefusedError
from hub.process import guard_memory

ROOMS = {
    room.__name__.rpartition(".")[2]: room.app
    for room in (connectors, connections, models, mappings, runs, decisions, audit, access, keys)
}


def command_for(words: Sequence[str] = ()) -> typer.Typer:
    """The whole command, or of it what these words can ask for: typer makes every verb before it looks for one."""
    made = typer.Typer(
        name="hub",
        help="Puts machine-learning models into the systems people already work in.",
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for name, room in ROOMS.items():
        made.add_typer(room if not words or name in words else typer.Typer(help=room.info.help), name=name)
    if not words or words[0] not in ROOMS:
        for others in (processes, demo, twin):
            others.add_to(made)
    return made


app = command_for()


def main() -> None:
    """Runs the command line; the exit code is honest."""
    guard_memory()
    gc.disable()  # what is imported stays; `ready_database` switches it on for what a verb then does
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Carries out one command line; its exit code. An error that is the hub's own fault is raised."""
    try:
        command_for(arguments)(list(arguments), prog_name="hub")
    except SystemExit as left:
        return left.code if isinstance(left.code, int) else int(left.code is not None)
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        known = _sentences(error)
        if known is None:
            raise
        _refuse(error, known, as_json="--json" in arguments)
        return 1
    return 0


def _sentences(error: Exception) -> list[str] | None:
    """What to tell the person; None where the error is the hub's own fault and the traceback is the message."""
    if isinstance(error, RefusedError):
        return [str(error)]  # and nothing is imported for it
    from hub.access import AccessError
    from hub.audit import AuditError
    from hub.audit.anchors import AnchorError
    from hub.connections import ConnectionsError
    from hub.database import DatabaseError
    from hub.decisions import DecisionError
    from hub.keys import KeyringError
    from hub.mappings import MappingError, MappingsError
    from hub.migrations import MigrationError
    from hub.models import ModelError
    from hub.runs import PreflightError, RunError
    from hub.sdk import ConnectorError
    from hub.settings import SettingsError

    if isinstance(error, MappingError):
        return [str(each) for each in error.problems]
    if isinstance(error, PreflightError):
        return list(error.problems)
    if isinstance(error, ConnectorError):
        return [error.message]
    kinds = (
        MigrationError,
        AccessError,
        AuditError,
        AnchorError,
        ConnectionsError,
        DatabaseError,
        DecisionError,
        KeyringError,
        MappingsError,
    )
    if isinstance(error, (*kinds, ModelError, RunError, SettingsError)):
        return [str(error)]
    return None


def _refuse(error: Exception, sentences: list[str], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"error": type(error).__name__, "problems": sentences}), file=sys.stderr)
        return
    for line in _marked(sentences):
        print(line, file=sys.stderr)


def _marked(sentences: list[str]) -> Iterator[str]:
    if len(sentences) == 1:
        yield f"error: {sentences[0]}"
        return
    yield f"error: {len(sentences)} problems"
    for each in sentences:
        yield f"  - {each}"
