"""`hub twin`: a far system of one's own on this machine, to rehearse on and to test against."""

from __future__ import annotations

import errno
import signal
import sys
import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated, Any, Protocol, cast

import typer

from hub.cli.caller import local
from hub.cli.output import AsJson, RefusedError, emit, facts

GROUP = "hub.twins"


class Twin(Protocol):
    """What an entry point of the group `hub.twins` makes: it serves while it is entered."""

    def described(self) -> Mapping[str, Any]:
        """Where it is and what to log in with."""


class Factory(Protocol):
    """The entry point itself. `folder` keeps the twin's state; a port of 0 is a free one."""

    def __call__(
        self, folder: Path, *, port: int, control_port: int, records: int, history: int
    ) -> AbstractContextManager[Twin]: ...


def add_to(app: typer.Typer) -> None:
    """Adds the verb to the command."""
    app.command(epilog="Example: hub twin salesforce --port 8443 --records 500")(twin)


@local("who starts the processes")
def twin(
    name: Annotated[str, typer.Argument(help="The far system, such as salesforce.")],
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port to listen on; 0 takes a free one.")] = 0,
    control_port: Annotated[
        int, typer.Option(min=0, max=65_535, help="Port that faults are switched through; 0 takes a free one.")
    ] = 0,
    folder: Annotated[Path | None, typer.Option(help="Where its state is kept; by default in HUB_HOME.")] = None,
    records: Annotated[int, typer.Option(min=0, help="Generated records of a new one, still open.")] = 300,
    history: Annotated[int, typer.Option(min=0, help="Generated records of the past, their outcome known.")] = 2000,
    as_json: AsJson = False,
) -> None:
    """Runs a twin of a far system on this machine until it is ended, and prints what a connection to it needs."""
    from hub.settings import load_settings

    make = _factory(name)
    kept = folder if folder is not None else load_settings().home / "twins" / name
    stop = threading.Event()
    before = {each: signal.signal(each, lambda *_: stop.set()) for each in (signal.SIGTERM, signal.SIGINT)}
    try:
        with make(kept, port=port, control_port=control_port, records=records, history=history) as running:
            answer = running.described()
            emit(answer, as_json, lambda: facts(answer))
            sys.stdout.flush()
            stop.wait()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise RefusedError(f"port {port or control_port} of this machine is taken") from None
        if error.errno == errno.EWOULDBLOCK:
            raise RefusedError(f"another twin is at work in {kept}") from None
        raise RefusedError(f"{kept}: {error.strerror or error}") from None
    finally:
        for each, heard in before.items():
            signal.signal(each, heard)


def _factory(name: str) -> Factory:
    from importlib.metadata import entry_points

    found = {each.name: each for each in entry_points(group=GROUP)}
    if name not in found:
        known = ", ".join(sorted(found)) or "none"
        raise RefusedError(f"no twin is called {name}; installed: {known}")
    return cast("Factory", found[name].load())
