"""`hub serve`, `hub worker`, and what their operators need: `hub migrate`, `hub health`, `hub settings`."""

from __future__ import annotations

import signal
import threading
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hub.cli.output import AsJson, RefusedError, emit, facts, opened, ready_database, table

if TYPE_CHECKING:
    from hub.runs import Installation


def add_to(app: typer.Typer) -> None:
    """Adds the verbs to the command."""
    app.command(epilog="Example: hub serve --port 8700")(serve)
    app.command(epilog="Example: hub worker --pool default --workers 2")(worker)
    app.command(epilog="Example: hub migrate")(migrate)
    app.command(epilog="Example: hub health --worker")(health)
    app.command(epilog="Example: hub settings")(settings)


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on; HUB_API_HOST.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65_535, help="Port to listen on; HUB_API_PORT.")] = None,
    no_worker: Annotated[
        bool, typer.Option("--no-worker", help="Answer requests only; workers run elsewhere.")
    ] = False,
) -> None:
    """Answers the API, and carries runs with workers beside it."""
    from contextlib import ExitStack

    from hub.api import serve as serve_
    from hub.logs import configure
    from hub.runs import open_installation
    from hub.settings import load_settings
    from hub.worker import Supervisor

    given = {name: value for name, value in (("api_host", host), ("api_port", port)) if value is not None}
    settings = load_settings(**given)
    configure(settings, process="api")
    with ExitStack() as stack:
        hub = stack.enter_context(open_installation(settings, ready_database(settings)))
        if not no_worker:
            stack.enter_context(Supervisor(settings))
        serve_(hub)


def worker(
    pool: Annotated[str, typer.Option(help="The pool to work for; a heavy model names its own.")] = "default",
    workers: Annotated[int | None, typer.Option(min=1, max=256, help="Processes; HUB_WORKERS.")] = None,
) -> None:
    """Carries runs: starts worker processes and replaces those that fail. Ends at SIGTERM, after the page at hand."""
    from hub.logs import configure
    from hub.settings import load_settings
    from hub.worker import Supervisor

    settings = load_settings(**({"workers": workers} if workers is not None else {}))
    configure(settings, process=f"supervisor {pool}")
    ready_database(settings).close()
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

    with closing(Database(load_settings())) as database:
        database.check()
        reached = upgrade(database)
    emit({"revision": reached}, as_json, lambda: print(f"the database is at revision {reached}"))


def health(
    worker: Annotated[
        bool, typer.Option("--worker", help="Also whether a worker of this machine does its work.")
    ] = False,
    pool: Annotated[str, typer.Option(help="With --worker: the pool it works for.")] = "default",
    as_json: AsJson = False,
) -> None:
    """Says whether this installation can work; exit code 1 where it cannot. For probes of a container or a service.

    `following` tells of each mapping that follows a live source how it goes; a far side that is away fails no probe.
    """
    from hub.runs import how_followed

    with opened() as hub:
        identity = {"kind": "probe"}
        if hub.keys.open(hub.keys.seal(b"ready", identity), identity) != b"ready":
            raise RefusedError("the key ring does not open what it seals")
        answer = {"database": "answers", "keys": "open"} | (_worker_health(hub, pool) if worker else {})
        if following := how_followed(hub):
            answer["following"] = following
    emit(answer, as_json, lambda: facts(answer))


def _worker_health(hub: Installation, pool: str) -> dict[str, Any]:
    """Life and work of this machine's workers of a pool. RefusedError where there is none, or work is left lying."""
    import socket

    here = socket.gethostname()
    pids = _worker_processes(pool)
    with hub.database.read() as session:
        now = hub.database.now(session)
        since = hub.ledger.waiting_since(session, pool)
        busy = [each for each in hub.ledger.holders(session) if each.startswith(f"{here}/")]
    if not pids:
        raise RefusedError(f"no worker process of pool {pool} runs on {here}; `hub worker --pool {pool}` starts them")
    waited = (now - since).total_seconds() if since is not None else 0.0
    patience = hub.settings.lease_seconds + 2 * hub.settings.poll_seconds
    if waited > patience and not busy:
        raise RefusedError(f"a run of pool {pool} has waited for {waited:.0f} s and no worker of {here} takes it")
    return {"worker_processes": len(pids), "slices_held_here": len(busy), "oldest_waiting_seconds": round(waited, 1)}


def _worker_processes(pool: str) -> list[int]:
    import psutil

    wanted = ["-m", "hub.worker.child", "--pool", pool]
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        line = process.info["cmdline"] or []
        if line[1:5] == wanted and process.info["status"] != psutil.STATUS_ZOMBIE and _of_this_hub(process):
            found.append(process.pid)
    return found


def _of_this_hub(process: Any) -> bool:
    """Whether a worker was started with the settings of this process: on one machine there may be several hubs."""
    import os

    import psutil

    names = ("HUB_HOME", "HUB_DATABASE_URL", "HUB_DATABASE_URL_FILE")
    try:
        theirs, folder = process.environ(), process.cwd()
    except (psutil.AccessDenied, psutil.NoSuchProcess):
        return False
    return folder == str(Path.cwd()) and all(theirs.get(name) == os.environ.get(name) for name in names)


def settings(as_json: AsJson = False) -> None:
    """Shows every setting of this process: its variable, its value and what it is. Passwords are not shown."""
    from sqlalchemy import make_url

    from hub.settings import SECRET_SETTINGS, Settings, load_settings, variable

    loaded = load_settings()
    answer = []
    for name, each in Settings.model_fields.items():
        value = getattr(loaded, name)
        if name in SECRET_SETTINGS and value:
            # The path of a webhook is often its password.
            shown = make_url(value)
            value = shown.render_as_string() if "anchor" not in name else f"https://{shown.host}/…"
        answer.append({"variable": variable(name), "value": value, "about": each.description})
    rows = [tuple(each.values()) for each in answer]
    emit(answer, as_json, lambda: table(["variable", "value", "what it is"], rows, empty="there are no settings"))
