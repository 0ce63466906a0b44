"""One whole life of a mapping over records that hold canaries, in a process of its own: `python -m … FOLDER`.

It prints what an admin would see; the process that started it looks for the canaries in all that was left behind.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import polars as pl
from typer.testing import CliRunner

from hub.cli.main import command_for
from hub.logs import configure
from hub.runs import Scoring
from hub.sdk import ConnectorError, Secret
from tests.system.small import Small

PASSWORD = "canary-Passw0rd-7f3a"
NAME, OTHER, WHY = "Canary Nightingale", "Canary Robin", "canary says no"
KEYS = ["canary-key-1", "canary-key-2", "canary-key-3", "canary-key-4", "canary-key-5"]
NUMBER = 918273645.5
CANARIES = (PASSWORD, NAME, OTHER, WHY, "canary-key", "918273645")
VERBS = (
    ["runs", "list"],
    ["mappings", "list"],
    ["connections", "list"],
    ["connections", "check", "walled"],
    ["audit", "list"],
    ["audit", "verify"],
    ["models", "list"],
)


def live(folder: Path) -> None:
    """Connects, publishes, previews, runs, fails, scores on request, explains and undoes."""
    small = Small(
        folder,
        (
            "create table T (id text primary key, X real, NAME text, S real, N text, check (S <> 3))",
            f"create trigger no before update on T when new.S = 4 begin select raise(abort, '{WHY}'); end",
        ),
        log_level="debug",
    )
    configure(small.settings, process="canary")
    logging.getLogger().setLevel(logging.DEBUG)
    rows = [(key, value, NAME, OTHER) for key, value in zip(KEYS, (NUMBER, 0.0, 3.0, 4.0, None), strict=True)]
    small.sql("insert into T (id, X, NAME, N) values (?, ?, ?, ?)", rows)
    small.connect()
    walled = {
        "dialect": "postgresql",
        "host": "127.0.0.1",
        "private": True,
        "port": 1,
        "database": "d",
        "user": "u",
        "tls": "off",
    }
    small.hub.connections.create("walled", "sql", walled, {"password": Secret(PASSWORD)}, small.me)
    try:
        small.hub.connections.check("walled", small.me)
    except ConnectorError as error:
        print(error, error.detail)
    small.model()
    small.publish(
        features='{ x: "case when X < 1 then 1 / X when length(NAME) > 0 then X end" }',
        decide='{ score: "value" }',
        write="{ mode: update, set: { S: score }, with: { N: \"'seen'\" } }",
    )
    run = small.run()
    print(run.state.value, dict(run.counts.to_json()))
    Scoring(small.hub).score_and_write("m", [{"id": KEYS[0], "X": NUMBER}], str(small.me))
    _fail(small)
    small.undo(run)
    for verb in VERBS:
        told = CliRunner().invoke(command_for(), [*verb, "--json"])
        print(verb, told.exit_code, told.output, repr(told.exception))
    print(small.hub.audit.verify())


class Broken:
    """A model that breaks as models do: with the value in its message."""

    def predict(self, features: pl.DataFrame) -> pl.DataFrame:
        """Never answers."""
        raise ValueError(f"could not convert string to float: {NAME!r} in {features!r}")


def _fail(small: Small) -> None:
    small.sql("update T set X = X + 1 where id = ?", [(KEYS[0],)])
    registry = small.hub.registry
    registry.load = lambda version: Broken()  # type: ignore[method-assign, assignment, return-value, misc]
    broken = small.run()
    print(broken.state.value, dict(broken.counts.to_json()))
    del registry.load  # type: ignore[misc]


if __name__ == "__main__":
    live(Path(sys.argv[1]))
