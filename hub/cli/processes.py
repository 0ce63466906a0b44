"""`hub serve`, `hub worker` and `hub migrate`: the long-running processes and what they need."""

from __future__ import annotations

import signal
import threading
from typing import Annotated

import typer

from hub.cli.output import AsJson, emit


def add_to(app: typer.Typer) -> None:
    """Adds the three verbs to the command."""
    app.command(epilog="Example: hub serve --port 8700")(serve)
    app.command(epilog="Example: hub worker --pool default --workers 2")(worker)
    app.command(epilog="Example: hub migrate")(migrate)


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on; HUB_API_HOST.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; HUB_API_PORT.")] = None,
    no_worker: Annotated[
        bool, typer.Option("--no-worker", help="Answer requests only; workers run elsewhere.")
    ] = False,
) -> None:
    """Answers the API, and carries runs with workers beside it."""
    from contextlib import ExitStack

    from hub.api import serve as serve_
    from hub.logs import configure
    from hub.migrations import upgrade
    from hub.runs import open_installation
    from hub.settings import load_settings
    from hub.worker import Supervisor

    given = {name: value for name, value in (("api_host", host), ("api_port", port)) if value is not None}
    settings = load_settings(**given)
    configure(settings, process="api")
    from hub.database import Database

    database = Database(settings)
    database.check()
    if database.sqlite:
        upgrade(database)
    with ExitStack() as stack:
        hub = stack.enter_context(open_installation(settings, database))
        if not no_worker:
            stack.enter_context(Supervisor(settings))
        serve_(hub)


def worker(
    pool: Annotated[str, typer.Option(help="The pool to work for; a heavy model names its own.")] = "default",
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; HUB_WORKERS.")] = None,
) -> None:
    """Carries runs: starts worker processes and replaces those that fail. Ends at SIGTERM, after the page at hand."""
    from hub.database import Database
    from hub.logs import configure
    from hub.migrations import upgrade
    from hub.settings import load_settings
    from hub.worker import Supervisor

    settings = load_settings(**({"workers": workers} if workers is not None else {}))
    configure(settings, process=f"supervisor {pool}")
    database = Database(settings)
    database.check()
    if database.sqlite:
        upgrade(database)
    database.close()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with Supervisor(settings, pool):
        stop.wait()


def migrate(as_json: AsJson = False) -> None:
    """Brings the hub's own database to this version; done by itself where it is embedded."""
    from hub.database import Database
    from hub.migrations import upgrade
    from hub.settings import load_settings

    database = Database(load_settings())
    database.check()
    reached = upgrade(database)
    emit({"revision": reached}, as_json, lambda: print(f"the database is at revision {reached}"))
