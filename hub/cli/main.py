"""The command `hub`: its rooms, its demo, and how every refusal ends as one sentence and an exit code."""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import Any

import typer

from hub.cli.output import RefusedError
from hub.process import guard_memory

ROOMS = ("connectors", "connections", "models", "mappings", "runs", "decisions", "audit", "access", "keys")
OTHERS = ("processes", "demo", "twin")
"""Modules with verbs that belong to no room."""


def command_for(words: Sequence[str] = ()) -> typer.Typer:
    """The whole command, or of it what these words can ask for: whoever waits for one verb waits for no other's."""
    made = typer.Typer(
        name="hub",
        help="Puts machine-learning models into the systems people already work in.",
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    first = next((word for word in words if not word.startswith("-")), None)
    if first in ROOMS:
        made.add_typer(_part(first).app, name=first)
        return made
    for name in ROOMS:
        room = _part(name).app
        made.add_typer(typer.Typer(help=room.info.help) if words else room, name=name)
    for name in OTHERS:
        _part(name).add_to(made)
    return made


def _part(name: str) -> Any:
    return import_module(f"hub.cli.{name}")


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
