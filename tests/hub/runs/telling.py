"""A far side that tells of changes: the tables of the tests with a journal of edits, followed by a real connector.

Its triggers write down every edit but ours, as a far side does that knows who made a change.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar

import polars as pl
import pytest

from connectors.sql.config import SPEC as SQL
from connectors.sql.config import SqlConfig
from connectors.sql.connector import SqlConnector
from hub.sdk import Compare, Context, Cursor, Operator, Page, Selection, Spec, UnavailableError

NAME = "telling"
TABLES = (
    "create table TOLD (NO integer primary key autoincrement, ID varchar(8), AT integer default (strftime('%s')))",
    "create table SILENT (ID varchar(8) primary key)",
    "create trigger TELL_NEW after insert on PERSON begin insert into TOLD(ID) values (new.ID); end",
    "create trigger TELL_EDIT after update of X, Y, LIVES on PERSON begin insert into TOLD(ID) values (new.ID); end",
    "create trigger TELL_GONE after delete on PERSON begin insert into TOLD(ID) values (old.ID); end",
)
ECHO = "create trigger TELL_OURS after update of SCORE on PERSON begin insert into TOLD(ID) values (new.ID); end"
"""With it the far side tells of our own writes as well."""
BEAT = 0.5
PAUSE = 0.02


class TellingSql(SqlConnector):
    """The SQL connector with the live role; while the table SILENT has a row, nobody answers who follows."""

    spec: ClassVar[Spec]

    def __init__(self, config: SqlConfig, context: Context) -> None:
        super().__init__(config, context)
        self._context = context

    def live(self) -> TellingSql:  # type: ignore[override]
        return self

    def follow(self, selection: Selection, *, after: Cursor | None) -> Iterator[Page]:
        """Events name records; a page carries them as they stand now."""
        told, at = self._told(0), None if after is None else int(str(after.state["told"]))
        gap = at is None or bool(told and told[0][0] > at + 1)
        if at is None or gap:
            at = told[-1][0] if told else 0
        yield self._page(selection, [], at, gap=gap)
        spoken = time.monotonic()
        while not self._context.cancelled():
            news = self._told(at)[: selection.page_rows]
            if news or time.monotonic() - spoken >= BEAT:
                at, spoken = news[-1][0] if news else at, time.monotonic()
                since = min((moment for *_, moment in news), default=None)
                page = self._page(selection, [key for _, key, _ in news], at)
                yield replace(page, since=None if since is None else datetime.fromtimestamp(since, UTC))
            else:
                self._context.pause(PAUSE)

    def acknowledge(self, cursor: Cursor) -> None:
        """Nothing: the cursor is all there is."""

    def _told(self, at: int) -> list[tuple[int, str, int]]:
        source = self.source()
        for page in source.read(Selection("SILENT", ("ID",))):
            if page.frame.height:
                raise UnavailableError("The far side is silent.")
        wanted = Selection("TOLD", ("NO", "ID", "AT"), where=Compare("NO", Operator.GT, at))
        return [row for page in source.read(wanted) for row in page.frame.select("NO", "ID", "AT").iter_rows()]

    def _page(self, selection: Selection, told: list[str], at: int, *, gap: bool = False) -> Page:
        keys = list(dict.fromkeys(told))
        entity = next(iter(self.entities([selection.entity])))
        frame = pl.DataFrame(schema=entity.page_schema(selection.fields))
        if keys:
            found = [page.frame for page in self.source().lookup(selection, pl.DataFrame({"ID": keys}))]
            frame = pl.concat([frame, *found])
            here = set(frame["_key"].struct.field("ID"))
            gone = [{"_key": {"ID": key}, "_deleted": True} for key in keys if key not in here]
            frame = pl.concat([frame, pl.DataFrame(gone, schema=frame.schema)])
        return Page(frame, Cursor({"told": at}), gap)


SPEC = replace(SQL, name=NAME, factory="tests.hub.runs.telling:TellingSql", roles=SQL.roles | {"live"})
TellingSql.spec = SPEC


def install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the connector one that this process and those it starts find installed."""
    home = folder / "installed"
    about = home / "telling-1.dist-info"
    if about.is_dir():
        return
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: telling\nVersion: 1\n", encoding="utf-8")
    points = f"[hub.connectors]\n{NAME} = tests.hub.runs.telling:SPEC\n"
    (about / "entry_points.txt").write_text(points, encoding="utf-8")
    monkeypatch.syspath_prepend(str(home))
    root = Path(__file__).resolve().parent.parent.parent.parent
    known = os.environ.get("PYTHONPATH")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(home), str(root), *([known] if known else [])]))
