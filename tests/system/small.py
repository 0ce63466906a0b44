"""A small installation: a hub of its own beside a SQLite file that only other processes open with another driver."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import polars as pl
from sklearn.linear_model import LinearRegression

from hub.access import Actor, local_caller
from hub.database import Database
from hub.migrations import upgrade
from hub.runs import Order, Run, Worker, open_installation, start, undo
from hub.settings import load_settings

_SQL = """
import json, sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
statement, rows = json.load(sys.stdin)
found = connection.executemany(statement, rows) if rows else connection.execute(statement)
json.dump([] if rows else found.fetchall(), sys.stdout)
connection.commit()
"""
DOCUMENT = """
format: 1
mapping: m
title: A small mapping
owner: clinic
purpose: test
read: {{ connection: far, entity: T{read} }}
features: {features}
model: {{ name: m }}
decide: {decide}
write: {write}
"""


class Small:
    """A far side at `far.db`, a hub in `home`; `m` is a model that returns its one feature `x`."""

    def __init__(self, folder: Path, tables: Sequence[str], **settings: Any) -> None:
        self.folder = folder
        for each in tables:
            self.sql(each)
        self.settings = load_settings(home=folder / "home", **settings)
        database = Database(self.settings)
        upgrade(database)
        self.hub = open_installation(self.settings, database)
        self.me: Actor = local_caller("anna").actor

    def sql(self, statement: str, rows: Iterable[Sequence[Any]] = ()) -> list[list[Any]]:
        """One statement on the far side, in a process of its own."""
        asked = json.dumps([statement, list(rows)])
        told = subprocess.run(
            [sys.executable, "-c", _SQL, str(self.folder / "far.db")],
            input=asked,
            capture_output=True,
            text=True,
            check=True,
        )
        found: list[list[Any]] = json.loads(told.stdout)
        return found

    def connect(self, **settings: Any) -> None:
        """The far side as connection `far`."""
        path = str(self.folder / "far.db")
        self.hub.connections.create("far", "sql", {"dialect": "sqlite", "path": path, **settings}, {}, self.me)

    def model(self) -> None:
        """A regression whose value is its feature `x`, as champion."""
        examples = pl.DataFrame({"x": [0.0, 1.0, 2.0, 3.0]})
        fitted = LinearRegression().fit(examples.to_pandas(), [0.0, 1.0, 2.0, 3.0])
        version = self.hub.registry.register("m", fitted, examples, owner="anna", actor=str(self.me))
        self.hub.registry.set_alias("m", "champion", version.number, str(self.me))

    def publish(
        self,
        *,
        read: str = "",
        features: str = '{ x: "X" }',
        decide: str = '{ score: "round(value)" }',
        write: str = "{ mode: update, set: { S: score } }",
    ) -> None:
        """The mapping of `DOCUMENT` with these parts."""
        self.hub.mappings.publish(DOCUMENT.format(read=read, features=features, decide=decide, write=write), self.me)

    def run(self) -> Run:
        """One run to its end."""
        return self._carried(start(self.hub, Order("m", str(self.me))))

    def undo(self, run: Run) -> Run:
        """Takes a run back."""
        return self._carried(undo(self.hub, run.id, self.me))

    def _carried(self, run: str) -> Run:
        worker = Worker(self.hub, "default", "w1")
        while worker.work(run):
            pass
        with self.hub.database.read() as session:
            return self.hub.ledger.run(session, run)
