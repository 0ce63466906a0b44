"""`hub serve`, `hub worker`, `hub broker`, and for their operators: `hub migrate`, `hub health`, `hub settings`."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hub.access import Scope
from hub.cli.caller import local, needs
from hub.cli.output import AsJson, RefusedError, emit, facts, opened, ready_database, table

if TYPE_CHECKING:
    from hub.runs import Installation
    from hub.settings import Settings

TAKE_IN_SECONDS = 1.0
"""How often the broker looks for secrets that were sealed to it."""


def add_to(app: typer.Typer) -> None:
    """Adds the verbs to the command."""
    app.command(epilog="Example: hub serve --port 8700")(serve)
    app.command(epilog="Example: hub worker --pool default --workers 2")(worker)
    app.command(epilog="Example: hub broker --socket broker.sock")(broker)
    app.command(epilog="Example: hub migrate")(migrate)
    app.command(epilog="Example: hub health --worker")(health)
    app.command(epilog="Example: hub settings")(settings)


@local("who starts the processes")
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on; HUB_API_HOST.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65_535, help="Port to listen on; HUB_API_PORT.")] = None,
    no_worker: Annotated[
        bool, typer.Option("--no-worker", help="Answer requests only; workers run elsewhere.")
    ] = False,
) -> None:
    """Answers the API and the pages, and carries runs with workers beside it."""
    from contextlib import ExitStack

    from hub.api import serve as serve_
    from hub.console import add_to as pages
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
        serve_(hub, [pages])


@local("who starts the processes")
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


@local("who starts the processes")
def broker(
    socket: Annotated[Path | None, typer.Option(help="The Unix socket to listen at; HUB_LEASE_SOCKET.")] = None,
) -> None:
    """Hands out credentials, as the only process that can read the key. Ends at SIGTERM; who waits for it goes on then.

    Run it as a user of its own, who alone can read HUB_KEY_FILE; HUB_LEASE_USERS names the users that may ask it.
    """
    from hub.access.leases import sweep
    from hub.logs import configure
    from hub.runs import open_installation, serving_leases
    from hub.settings import load_settings

    told = load_settings(**({"lease_socket": socket} if socket is not None else {}))
    if told.lease_socket is None:
        raise typer.BadParameter("name a socket: --socket, or HUB_LEASE_SOCKET")
    settings = told.model_copy(update={"lease_socket": None})
    configure(settings, process="broker")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with open_installation(settings, ready_database(settings)) as hub, serving_leases(hub, told.lease_socket):
        while not stop.wait(TAKE_IN_SECONDS):
            passing(lambda: (hub.connections.take_in(), sweep(hub.database, hub.audit)))


def passing(work: Callable[[], object]) -> None:
    """Does the work, and goes on where the hub's database is away for a while."""
    from sqlalchemy.exc import DBAPIError

    from hub.database import DatabaseError
    from hub.logs import Log

    try:
        work()
    except (DBAPIError, DatabaseError) as error:
        Log(__name__).warning("the hub's database is away", why=type(error).__name__)


@local("who brings the database up to date")
def migrate(as_json: AsJson = False) -> None:
    """Brings the hub's own database to this version; done by itself where it is embedded."""
    from hub.database import Database
    from hub.migrations import upgrade
    from hub.settings import load_settings

    with closing(Database(load_settings())) as database:
        database.check()
        reached = upgrade(database)
    emit({"revision": reached}, as_json, lambda: print(f"the database is at revision {reached}"))


@needs(Scope.SYSTEM)
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
    pids = _worker_processes(hub.settings, pool)
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


def _worker_processes(settings: Settings, pool: str) -> list[int]:
    """Workers of this installation: their command lines say so, for nobody may look into their memory."""
    import psutil

    from hub.worker.naming import hub_name

    wanted = ["-m", "hub.worker.child", "--pool", pool, "--hub", hub_name(settings)]
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        line = process.info["cmdline"] or []
        if line[1 : 1 + len(wanted)] == wanted and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process.pid)
    return found


def _masked(name: str, value: str) -> str:
    from sqlalchemy import make_url

    if "://" not in value:
        return "***"
    shown = make_url(value)
    # The path of a webhook is often its password.
    return shown.render_as_string() if "anchor" not in name else f"https://{shown.host}/…"


@local("whose settings these are")
def settings(as_json: AsJson = False) -> None:
    """Shows every setting of this process: its variable, its value and what it is. Passwords are not shown."""
    from hub.settings import SECRET_SETTINGS, Settings, load_settings, variable

    loaded = load_settings()
    answer = []
    for name, each in Settings.model_fields.items():
        value = getattr(loaded, name)
        if name in SECRET_SETTINGS and value:
            value = _masked(name, value)
        answer.append({"variable": variable(name), "value": value, "about": each.description})
    rows = [tuple(each.values()) for each in answer]
    emit(answer, as_json, lambda: table(["variable", "value", "what it is"], rows, empty="there are no settings"))
