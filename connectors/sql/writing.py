"""Writing: one conditional write per batch, a result per change, and a refused row found by halving."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from threading import Event

import polars as pl
import sqlalchemy as sa

from connectors.sql.checks import checked
from connectors.sql.client import Client, ContentionError, CountingClient, Expression, UnknownOutcomeError
from connectors.sql.reading import Query
from connectors.sql.tables import Relation
from hub.sdk import Changes, Journal, Limits, Mode, RejectedError, Results, Selection, UnavailableError, UnexpectedError
from hub.sdk.types import APPLIED, CONFLICT, REJECTED, RESULT_SCHEMA, UNKNOWN

_TRIES = 6
_CALL_BYTES = 4 * 1024 * 1024
_MOVED = "the record changed since it was read"
_GONE = "there is no record with this key"
_EXISTS = "a record with this key exists already"


class SqlDestination:
    """The destination role over one client."""

    def __init__(self, client: Client, relations: Callable[[], Mapping[str, Relation]], limits: Limits) -> None:
        self._client = client
        self._relations = relations
        self._limits = limits

    def write(self, changes: Changes, *, journal: Journal) -> Results:  # noqa: ARG002 - nothing outlives a call here
        """One result per change. A batch whose commit nobody heard of answers `unknown`, as do those after it."""
        relation = _relation(self._relations(), changes)
        batch, answers = checked(self._client, relation, changes)
        if not batch.height:
            return _results(len(changes), answers)
        sent = False
        for each in _rounds(batch, [f"k{i}" for i in range(len(relation.entity.key))]):
            for part in each.iter_slices(self._rows_a_call(each)):
                if self._client.context.cancelled():
                    break
                try:
                    answers.append(self._settled(Batch(self._client, relation, changes.mode, changes.fields, part)))
                except UnavailableError:
                    if not sent:
                        raise
                    # What was written before has its answers; the rest is looked up by whoever asked.
                    return _results(len(changes), answers)
                sent = True
        return _results(len(changes), answers)

    def _rows_a_call(self, rows: pl.DataFrame) -> int:
        """The limit, or fewer where the values are long: a statement must fit in one packet."""
        fitting = rows.height * _CALL_BYTES // max(1, int(rows.estimated_size()))
        return max(1, min(self._limits.write_rows, fitting))

    def _settled(self, batch: Batch) -> pl.DataFrame:
        """The answers of one batch, tried again while other writers win."""
        for attempt in range(_TRIES):
            try:
                with self._client.transaction():
                    if not batch.relation.declared:
                        self._client.seek_keys()
                    return batch.apply()
            except UnknownOutcomeError as error:
                return batch.answer(batch.rows, UNKNOWN, error.message)
            except RejectedError as error:  # by a rule that is only looked at when the transaction ends
                if batch.rows.height == 1:
                    return batch.answer(batch.rows, REJECTED, error.message, error.field)
                half = batch.rows.height // 2
                parts = (batch.rows.head(half), batch.rows.tail(-half))
                return pl.concat([self._settled(replace(batch, rows=part)) for part in parts])
            except ContentionError:
                wait = random.uniform(0.5, 1.5) * 0.05 * 2**attempt  # noqa: S311 - jitter, no secret
                if attempt == _TRIES - 1 or self._client.context.seconds_left(wait) < wait:
                    raise
                Event().wait(wait)
        raise AssertionError("unreachable")


def _rounds(batch: pl.DataFrame, keys: list[str]) -> list[pl.DataFrame]:
    """The changes in as few parts as hold each key once, in order."""
    if batch.select(keys).n_unique() == batch.height:
        return [batch]
    twin = pl.int_range(pl.len()).over(keys)
    return batch.with_columns(twin=twin).partition_by("twin", maintain_order=True, include_key=False)


def _relation(relations: Mapping[str, Relation], changes: Changes) -> Relation:
    relation = relations.get(changes.entity)
    if relation is None:
        raise UnexpectedError(f"there is no table or view {changes.entity!r} that this login may see")
    if changes.mode not in relation.entity.modes:
        raise UnexpectedError(f"{changes.entity} takes no {changes.mode.value}")
    for name in changes.fields:
        if name not in relation.entity.by_name or not relation.entity.by_name[name].writable:
            raise UnexpectedError(f"{changes.entity}.{name} is not writable")
    return relation


def _results(count: int, answers: list[pl.DataFrame]) -> Results:
    frame = pl.concat(answers) if answers else _answers()
    if frame.height < count or not frame["n"].is_sorted():
        numbers = pl.DataFrame({"n": pl.int_range(count, dtype=pl.Int64, eager=True)})
        frame = numbers.join(frame, on="n", how="left", maintain_order="left")
        frame = frame.with_columns(pl.col("state").fill_null(UNKNOWN))
    return Results(frame.select(RESULT_SCHEMA.keys()).cast(dict(RESULT_SCHEMA)))  # type: ignore[arg-type]


def _answers() -> pl.DataFrame:
    return pl.DataFrame(schema={"n": pl.Int64(), **RESULT_SCHEMA})


@dataclass(frozen=True)
class Batch:
    """Some changes on one relation, each key once.

    `rows` has `n`, the key as `k…`, the wanted values as `v…` with `s…` (to be set) and `o…` (as it was read), `seen`
    (whether `o…` is known) and `version`.
    """

    client: Client
    relation: Relation
    mode: Mode
    fields: tuple[str, ...]
    rows: pl.DataFrame

    def apply(self) -> pl.DataFrame:
        """The answers, inside the caller's transaction."""
        if self.relation.side is not None:
            self._refusable(self.rows, self._ensure_side)
        done, refused = _answers(), _answers()
        if self.mode is not Mode.CREATE:
            done, refused = self._update(self.rows)
        rest = self._without(self.rows, done, refused)
        if rest.height:
            standing = self._standing(rest)
            missing = rest.join(standing.filter(~pl.col("there")), on="n", how="semi", maintain_order="left")
            if self.mode is not Mode.UPDATE and missing.height:
                missing = missing.filter(~pl.col("seen"))
                _, more = self._refusable(missing, self._insert)
                refused = pl.concat([refused, more])
                rest = self._without(rest, more)
                standing = self._standing(rest)
            done = pl.concat([done, self._judged(standing)])
        return pl.concat([done, refused]) if refused.height else done

    def answer(self, rows: pl.DataFrame, state: str, reason: str | None, field: str | None = None) -> pl.DataFrame:
        """The same answer for some rows."""
        nothing = pl.lit(None, pl.String)
        told = {"state": pl.lit(state), "field": pl.lit(field, pl.String), "reason": pl.lit(reason, pl.String)}
        return rows.select("n", **told, version=nothing)

    @staticmethod
    def _without(rows: pl.DataFrame, *answered: pl.DataFrame) -> pl.DataFrame:
        number = sum(each.height for each in answered)
        if number in {0, rows.height}:  # each row has one answer at most
            return rows.clear() if number else rows
        return rows.join(pl.concat(answered), on="n", how="anti", maintain_order="left")

    # --- refused rows ------------------------------------------------------------------------------------------

    def _refusable(
        self, rows: pl.DataFrame, run: Callable[[pl.DataFrame], pl.DataFrame]
    ) -> tuple[pl.DataFrame, pl.DataFrame]:
        """What `run` answered, and the rows that the database refuses, found by halving."""
        if not rows.height:
            return _answers(), _answers()
        try:
            with self.client.savepoint():
                return run(rows), _answers()
        except RejectedError as error:
            if rows.height == 1:
                return _answers(), self.answer(rows, REJECTED, error.message, error.field or self._named(error.detail))
        half = rows.height // 2
        left, right = self._refusable(rows.head(half), run), self._refusable(rows.tail(-half), run)
        return pl.concat([left[0], right[0]]), pl.concat([left[1], right[1]])

    def _named(self, rule: str) -> str | None:
        """The one field whose name stands in the name or the text of a rule."""
        found = [name for name in self.fields if re.search(rf"(?<![^\W_]){re.escape(name)}(?![^\W_])", rule)]
        return found[0] if len(found) == 1 else None

    # --- statements --------------------------------------------------------------------------------------------

    def _rowset(self, rows: pl.DataFrame) -> sa.FromClause:
        meta = self.relation.meta
        if not (self.client.conditional or self._counting()) or not rows["seen"].any():
            rows = rows.drop([f"o{i}" for i in range(len(self.fields))], strict=False)
        columns = {f"k{i}": meta(name) for i, name in enumerate(self.relation.entity.key)}
        columns |= {f"{c}{i}": meta(name) for i, name in enumerate(self.fields) for c in "vo"}
        return self.client.rowset(rows, columns)

    def _matched(self, rowset: sa.FromClause, *, side: bool = False) -> Expression:
        home = self.relation.side if side else self.relation.table
        assert home is not None
        parts = []
        for i, name in enumerate(self.relation.entity.key):
            meta = self.relation.meta(name)
            parts.append(self.client.matched(home.column(name), rowset.c[f"k{i}"], meta))
        return sa.and_(*parts)

    def _wanted(self, rowset: sa.FromClause, i: int) -> Expression:
        meta = self.relation.meta(self.fields[i])
        value = self.client.taken(rowset.c[f"v{i}"], meta)
        if f"s{i}" not in rowset.c:
            return value
        return sa.case((rowset.c[f"s{i}"] == sa.true(), value), else_=self.relation.column(self.fields[i]))

    def _update(self, rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        if self.client.conditional:
            return self._refusable(rows, self._update_where)
        if (client := self._counting()) is not None:
            return self._refusable(rows, partial(self._update_counted, client))
        standing = self._standing(rows, lock=True)
        good = rows.join(standing.filter("there", "fresh", ~pl.col("holds")), on="n", how="semi", maintain_order="left")
        return self._refusable(good, self._update_plain)

    def _update_where(self, rows: pl.DataFrame) -> pl.DataFrame:
        """One statement: the condition, the write and who was written."""
        statement, rowset = self._conditional(rows)
        version = self._version()
        found = self.client.rows(statement.returning(rowset.c.n.label("n"), version.label("version")))
        return self._applied(found)

    def _counting(self) -> CountingClient | None:
        """Where one statement may do, whose count tells that every row was written; a version cannot be told so."""
        client, relation = self.client, self.relation
        if not isinstance(client, CountingClient) or relation.side is not None or relation.stamp is not None:
            return None
        known = all(client.holds_any(relation.meta(name)) for name in relation.entity.key)
        return client if known and all(client.countable(relation.meta(name)) for name in self.fields) else None

    def _update_counted(self, client: CountingClient, rows: pl.DataFrame) -> pl.DataFrame:
        """One statement where the product cannot say who was written: all, or whoever holds the values afterwards."""
        statement, _ = self._conditional(rows)
        if client.changed(statement) < rows.height:
            return _answers()
        return self.answer(rows, APPLIED, None)

    def _conditional(self, rows: pl.DataFrame) -> tuple[sa.Update, sa.FromClause]:
        rowset, relation = self._rowset(rows), self.relation
        wanted = [self._wanted(rowset, i) for i in range(len(self.fields))]
        moved = [
            sa.not_(self.client.same(relation.column(name), wanted[i], relation.meta(name)))
            for i, name in enumerate(self.fields)
        ]
        statement = sa.update(relation.target.clause).where(
            self._matched(rowset), self._fresh(rowset), sa.or_(sa.false(), *moved)
        )
        if relation.side is not None:
            statement = statement.where(self._matched(rowset, side=True))
        return statement.values({name: wanted[i] for i, name in enumerate(self.fields)}), rowset

    def _applied(self, found: pl.DataFrame) -> pl.DataFrame:
        told = self.answer(found.cast({"n": pl.Int64}), APPLIED, None).drop("version")
        return told.with_columns(found["version"].cast(pl.String))

    def _version(self) -> Expression:
        stamp = self.relation.stamp
        if stamp is None:
            return sa.cast(sa.null(), sa.Text())
        return self.client.version(self.relation.column(stamp))

    def _fresh(self, rowset: sa.FromClause) -> Expression:
        """Whether version and values are still those that were read."""
        parts: list[Expression] = [sa.true()]
        if self.relation.stamp is not None:
            parts.append(sa.or_(rowset.c.version.is_(None), rowset.c.version == self._version()))
        if "o0" not in rowset.c:
            return sa.and_(*parts)
        known = [
            self.client.same(
                self.relation.column(name),
                self.client.taken(rowset.c[f"o{i}"], self.relation.meta(name)),
                self.relation.meta(name),
            )
            for i, name in enumerate(self.fields)
        ]
        parts.append(sa.or_(rowset.c.seen == sa.false(), sa.and_(sa.true(), *known)))
        return sa.and_(*parts)

    def _update_plain(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Writes rows that were locked and compared, then reads their new version."""
        rowset = self._rowset(rows)
        statement = sa.update(self.relation.target.clause).where(
            self._matched(rowset, side=self.relation.side is not None)
        )
        self.client.execute(statement.values({name: self._wanted(rowset, i) for i, name in enumerate(self.fields)}))
        if self.relation.stamp is None:
            return self._applied(rows.select("n", version=pl.lit(None, pl.String)))
        source = self.relation.source.join(rowset, self._matched(rowset))
        return self._applied(
            self.client.rows(sa.select(rowset.c.n.label("n"), self._version().label("version")).select_from(source))
        )

    def _ensure_side(self, rows: pl.DataFrame) -> pl.DataFrame:
        """A row in the side table for every record that exists."""
        rowset, side = self._rowset(rows), self.relation.side
        assert side is not None
        keys = self.relation.entity.key
        absent = ~sa.exists().where(self._matched(rowset, side=True))
        chosen = sa.select(*(self.relation.table.column(name) for name in keys)).select_from(
            self.relation.table.clause.join(rowset, self._matched(rowset))
        )
        self.client.execute(self.client.insert(side.clause, keys, chosen.where(absent), keys))
        return _answers()

    def _insert(self, rows: pl.DataFrame) -> pl.DataFrame:
        """New records. A value left alone is left out, so that the column's default holds."""
        flags = [f"s{i}" for i in range(len(self.fields)) if f"s{i}" in rows.columns]
        groups = rows.partition_by(flags, maintain_order=True) if flags else [rows]
        for group in groups:
            rowset = self._rowset(group)
            keys = self.relation.entity.key
            given = [i for i in range(len(self.fields)) if f"s{i}" not in group.columns or group[f"s{i}"][0]]
            values = [self.client.taken(rowset.c[f"k{i}"], self.relation.meta(name)) for i, name in enumerate(keys)]
            values += [self.client.taken(rowset.c[f"v{i}"], self.relation.meta(self.fields[i])) for i in given]
            chosen = sa.select(*values).select_from(rowset)
            names = [*keys, *(self.fields[i] for i in given)]
            self.client.execute(self.client.insert(self.relation.target.clause, names, chosen, keys))
        return _answers()

    # --- what stands there now -----------------------------------------------------------------------------------

    def _standing(self, rows: pl.DataFrame, *, lock: bool = False) -> pl.DataFrame:
        """Per row: is the record there, does it hold the wanted values, is it as it was read, its version."""
        keys = self.relation.entity.key
        query = Query.of(self.client, self.relation, Selection(self.relation.entity.name, self.fields))
        found = query.joined(
            self._rowset(rows.select("n", "seen", *(f"k{i}" for i in range(len(keys))))), self._matched, lock=lock
        )
        same_key = pl.all_horizontal(
            pl.col("_key").struct.field(name).eq_missing(pl.col(f"k{i}")) for i, name in enumerate(keys)
        )
        both = rows.join(found, on="n", how="left", maintain_order="left")
        fits = [self.client.fitted(pl.col(f"c{i}"), self.relation.meta(name)) for i, name in enumerate(self.fields)]
        holds = [
            (fits[i].eq_missing(pl.col(f"v{i}")))
            | (~pl.col(f"s{i}") if f"s{i}" in rows.columns else pl.lit(value=False))
            for i in range(len(self.fields))
        ]
        before = [pl.col(f"c{i}").eq_missing(pl.col(f"o{i}")) for i in range(len(self.fields))]
        version = (
            pl.col("version").is_null() | (pl.col("version") == pl.col("_version"))
            if self.relation.stamp
            else pl.lit(value=True)
        )
        there = pl.col("_key").is_not_null() & same_key
        return both.select(
            "n",
            there=there,
            holds=there & pl.all_horizontal(holds),
            fresh=there & version & (~pl.col("seen") | pl.all_horizontal(before)) & pl.col("_invalid").is_null(),
            version=pl.col("_version"),
        ).unique("n", keep="first", maintain_order=True)

    def _judged(self, standing: pl.DataFrame) -> pl.DataFrame:
        """The answers for rows that were not written."""
        gone = REJECTED if self.mode is Mode.UPDATE else CONFLICT
        moved = _EXISTS if self.mode is Mode.CREATE else _MOVED
        return standing.select(
            "n",
            state=pl.when("holds").then(pl.lit(APPLIED)).when("there").then(pl.lit(CONFLICT)).otherwise(pl.lit(gone)),
            field=pl.lit(None, pl.String),
            reason=pl.when("holds").then(None).when("there").then(pl.lit(moved)).otherwise(pl.lit(_GONE)),
            version=pl.when("holds").then("version"),
        )
