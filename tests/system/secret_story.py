"""Every door of a hub that holds secrets, opened once, in a process of its own: `python -m … FOLDER`, which crashes.

It prints all that the doors answered; the process that started it looks for the secrets in that and in what is left.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
from fastapi.routing import iter_route_contexts

from hub.access import Reference, Scope
from hub.access.types import PERSONAL
from hub.api.app import make_app
from hub.cli.main import run as command
from hub.cli.reference import verbs
from hub.logs import conceal, configure
from hub.sdk import Secret
from tests.faces.api.conftest import serving
from tests.system.small import DOCUMENT, Small

STORED = "canary-stored-Passw0rd-7f3a"
SENT = "canary-sent-Passw0rd-9c1e"
STAYING = {
    "serve": "answers until it is stopped; its routes are walked",
    "worker": "works until it is stopped",
    "broker": "answers workers until it is stopped",
    "twin": "answers until it is stopped, and is no part of a hub",
    "demo": "makes a hub of its own",
}
"""Verbs that are not walked, and why."""
LAST = ("remove", "revoke", "drop", "retire", "cancel", "pause", "undo", "erase", "prune")
PARTS: dict[str, str | int] = {"mapping": "m", "run": "20260101-000000-00000000", "name": "m"}


def arguments(verb: str, parameters: Any, told: dict[str, str]) -> list[str]:
    """Something for each argument that a verb must have."""
    room = verb.partition(" ")[0]
    named = {"connections": "walled", "connectors": "sql", "models": "m", "mappings": "m", "access": "bert"}
    known = {**told, "name": named.get(room, "m"), "mapping": "m", "key": "k1", "number": "1", "person": "bert"}
    known |= {"role": "viewer", "digest": "0" * 64, "alias": "champion", "entity": "T", "connector": "sql"}
    known |= {"secrets": "password=env:HUB_SECRET_CANARY", "report": "none"}
    return [known[each.name] for each in parameters if each.param_type_name == "argument" and each.required]


def walk_verbs(told: dict[str, str]) -> Iterator[str]:
    """What each verb answers with `--json`, those that take something away last."""
    ordered = sorted(verbs(), key=lambda each: each[0].rpartition(" ")[2] in LAST)
    for verb, made in ordered:
        if verb in STAYING:
            continue
        line = [*verb.split(), *arguments(verb, made.params, told)]
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = command([*line, "--json"] if any(each.name == "as_json" for each in made.params) else line)
        yield f"verb {verb}: {code}\n{out.getvalue()}{err.getvalue()}"


def walk_routes(small: Small) -> Iterator[str]:
    """What each route answers to an administrator, asked well and badly."""
    _, key = small.hub.access.create_token("walker", owner="anna", scopes=set(Scope) - PERSONAL, actor=small.me)
    headers = {"Authorization": f"Bearer {key.reveal()}"}
    with serving(small.hub) as address_of, httpx.Client(base_url=address_of, headers=headers, timeout=30) as client:
        for path, methods in routes_of(make_app(small.hub)):
            for method in sorted(methods):
                address = path.format(**{name: PARTS.get(name, "k1") for name in re.findall(r"{(\w+)}", path)})
                for body in (None, {"password": SENT}, {"records": [{"id": "k1", "password": [SENT]}]}, [SENT]):
                    answered = client.request(method, address, json=body)
                    yield f"route {method} {path}: {answered.status_code}\n{answered.headers}\n{answered.text}"


def routes_of(app: Any) -> list[tuple[str, set[str]]]:
    """Every route with its methods, those of pages and of no description too."""
    found: dict[str, set[str]] = {}
    for each in iter_route_contexts(app.routes):
        found.setdefault(each.path, set()).update(each.methods or ())
    return sorted(found.items())


def live(folder: Path) -> None:
    """Connects with a stored secret and a referenced one, walks through every door, and crashes with one open."""
    small = Small(folder, ("create table T (id text primary key, X real, S real)",), log_level="debug", api_port=0)
    configure(small.settings, process="canary")
    small.sql("insert into T (id, X) values (?, ?)", [("k1", 1.0)])
    small.connect()
    far = {"dialect": "postgresql", "host": "127.0.0.1", "port": 1, "database": "d", "user": "u", "tls": "off"}
    small.hub.connections.create("walled", "sql", far, {"password": Secret(STORED)}, small.me)
    given = {"password": Reference("env", "HUB_SECRET_CANARY")}
    small.hub.connections.create("referenced", "sql", far, given, small.me)
    small.model()
    parts = {"features": '{ x: "X" }', "decide": '{ score: "value" }', "write": "{ mode: update, set: { S: score } }"}
    small.publish(**parts)
    run = small.run()
    document = folder / "mapping.yaml"
    document.write_text(DOCUMENT.format(read="", **parts))
    print(*walk_routes(small), sep="\n")
    told = {"run": run.id, "file": str(document), "to": str(folder / "exported"), "id": "none"}
    print(*walk_verbs(told), sep="\n")
    _crash()


def _crash() -> None:
    held = conceal(Secret(STORED))

    def fail() -> None:
        raise RuntimeError(f"connecting with {held.reveal()} and {os.environ['HUB_SECRET_CANARY']}")

    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    sys.stdout.flush()
    fail()


if __name__ == "__main__":
    live(Path(sys.argv[1]))
