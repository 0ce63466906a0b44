"""Reading: keyset pages, incremental pages, lookups and slices, each a typed frame with the cursor behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, cast

import polars as pl
import sqlalchemy as sa

from connectors.sql import slicing
from connectors.sql.client import Client, Expression
from connectors.sql.filters import condition
from connectors.sql.tables import MOMENTS, Column, Relation
from hub.sdk import Cursor, FieldType, Limits, Page, Selection, UnexpectedError


class SqlSource:
    """The source role over one client."""

    def __init__(self, client: Client, relations: Callable[[], Mapping[str, Relation]], limits: Limits) -> None:
        self._client = client
        self._relations = relations
        self._limits = limits

    def read(self, selection: Selection, *, after: Cursor | None = None) -> Iterator[Page]:
        """Pages in the order of the key, or of (changed_by, key): records whose changed_by is null come first."""
        query = Query.of(self._client, self._relation(selection), selection)
        state = after.state if after is not None else {}
        if selection.changed_by is None:
            yield from query.pages(_marks(state))
            return
        stamp = query.relation.column(selection.changed_by)
        if not state or state.get("null"):
            yield from replace(query, extra=stamp.is_(None)).pages(_marks(state), {"null": True})
            state = {}
        start: Expression = stamp.is_not(None)
        if state.get("from") is not None:
            start = stamp >= self._client.place(str(state["from"]), query.relation.meta(selection.changed_by))
        keys = (selection.changed_by, *query.keys)
        yield from replace(query, keys=keys, extra=start).pages(_marks(state))

    def lookup(self, selection: Selection, match: pl.DataFrame) -> Iterator[Page]:
        """Pages of the records that equal some row of `match`; keys beyond the limit go in further reads."""
        relation = self._relation(selection)
        query = Query.of(self._client, relation, replace(selection, changed_by=None))
        wanted = query.possible(match)
        for chunk in wanted.iter_slices(self._limits.lookup_keys):
            with self._client.matches(*query.rows_of(chunk)) as rowset:
                yield from query.matching(chunk, rowset).pages(None)

    def split(self, selection: Selection, parts: int) -> Sequence[Selection]:
        """Slices of about equal size, cut by the key."""
        query = Query.of(self._client, self._relation(selection), replace(selection, changed_by=None))
        bounds = slicing.bounds(query, parts)
        if not bounds:
            return [selection]
        given = dict(selection.part or {})
        edges = [given.get("after"), *bounds, given.get("until")]
        return [replace(selection, part={"after": low, "until": high}) for low, high in pairwise(edges)]

    def head(self, selection: Selection) -> Cursor | None:
        """The last stamp that stands, itself included, or earlier by what a transaction in flight may take."""
        if selection.changed_by is None:
            return None
        query = Query.of(self._client, self._relation(selection), selection)
        last = replace(query, keys=(selection.changed_by, *query.keys)).last_marks()
        if last is None:
            return None
        late = self._client.config.late_seconds
        moment = query.relation.meta(selection.changed_by).field.type in MOMENTS
        return Cursor({"from": self._client.earlier(last[0], late) if late and moment else last[0]})

    def _relation(self, selection: Selection) -> Relation:
        relation = self._relations().get(selection.entity)
        if relation is None:
            raise UnexpectedError(f"there is no table or view {selection.entity!r} that this login may see")
        if not relation.entity.key:
            raise UnexpectedError(f"{selection.entity} has no key; declare one in the connection's setting `keys`")
        return relation


def _marks(state: Mapping[str, Any]) -> list[str] | None:
    marks: list[str] | None = state.get("at")
    return marks


@dataclass(frozen=True)
class Query:
    """One selection on one relation: what to select, how to order it, and how to type what comes back."""

    client: Client
    relation: Relation
    selection: Selection
    keys: tuple[str, ...]
    extra: Expression | None = None
    match: pl.DataFrame | None = None
    plain: frozenset[str] = frozenset()
    """Fields whose columns are selected as they stand."""

    @classmethod
    def of(cls, client: Client, relation: Relation, selection: Selection) -> Query:
        """The query of a selection in the order of the key."""
        keys = {*relation.entity.key, selection.changed_by}
        plain = frozenset(
            each.name
            for each in relation.entity.fields
            if not relation.home(each.name).view and client.plain(relation.meta(each.name), key=each.name in keys)
        )
        return cls(client, relation, selection, relation.entity.key, plain=plain)

    def possible(self, match: pl.DataFrame) -> pl.DataFrame:
        """The rows that some record can equal, in the types of the fields; a value that a cast would change is none."""
        kept = match
        for name in match.columns:
            meta = self.relation.meta(name)
            value = pl.col(name).cast(meta.field.dtype, strict=False)
            if match.schema[name] != meta.field.dtype:
                kept = kept.filter(value.cast(match.schema[name], strict=False) == pl.col(name))
            kept = kept.with_columns(value).drop_nulls(name)
            impossible = self.client.impossible(pl.col(name), meta)
            kept = kept if impossible is None else kept.filter(~impossible)
        return kept

    def rows_of(self, match: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, Column | None]]:
        """What a lookup looks for, under names of our own, and the columns it stands for."""
        names = {name: f"m{i}" for i, name in enumerate(match.columns)}
        return match.rename(names), {short: self.relation.meta(name) for name, short in names.items()}

    def matching(self, match: pl.DataFrame, rowset: sa.FromClause) -> Query:
        """The same, only records that equal some row."""
        metas = [self.relation.meta(name) for name in match.columns]
        sought = [self.client.sought(rowset.c[f"m{i}"], meta) for i, meta in enumerate(metas)]
        left = [self.client.keyed(self.relation.column(meta.name), meta) for meta in metas]
        found = (left[0] if len(left) == 1 else sa.tuple_(*left)).in_(sa.select(*sought).select_from(rowset))
        return replace(self, extra=found, match=match)

    def pages(self, marks: list[str] | None, also: Mapping[str, bool] | None = None) -> Iterator[Page]:
        """Pages from behind the marks on. A key that is not unique, or null, stops the read."""
        size, query = max(1, self.selection.page_rows), self
        self._check_null(marks)
        while not self.client.context.cancelled():
            raw, query = query._brought(marks, size + 1)
            if raw.height == 0:
                return
            query._check_unique(raw)
            last, full = raw.height <= size, raw.head(size)
            marks = query._marks(full)
            frame = query.typed(full)
            if self.match is not None:
                frame = frame.join(self.match, on=self.match.columns, how="semi", maintain_order="left")
                frame = frame.select(list(self.relation.entity.page_schema(self.selection.fields)))
            yield Page(frame, Cursor({"at": marks, **(also or {})}))
            if last:
                return

    def _brought(self, marks: list[str] | None, rows: int) -> tuple[pl.DataFrame, Query]:
        """One page as the driver brought it, and the query that asks for each value of the columns that need it."""
        statement = self._statement(marks, rows)
        plain = not any(self.relation.meta(name).field.type is FieldType.BYTES for name in (*self._fields, *self.keys))
        raw = self.client.many_rows(statement) if plain else self.client.rows(statement)
        mixed = [
            name
            for i, name in enumerate(self._fields)
            if name in self.plain
            and raw[f"c{i}"].null_count() < raw.height
            and not self.client.plain(self.relation.meta(name), raw.schema[f"c{i}"])
        ]
        if not mixed:
            return raw, self
        careful = replace(self, plain=self.plain - frozenset(mixed))
        return careful._brought(marks, rows)

    def _marks(self, page: pl.DataFrame) -> list[str]:
        """Where the page ends."""
        found = []
        for label, name in zip(self._marked(), self.keys, strict=True):
            value = page[label][-1]
            found.append(str(value) if label.startswith("k") else self.client.mark_of(value, self.relation.meta(name)))
        return found

    def _statement(self, marks: list[str] | None, rows: int) -> sa.Select[Any]:
        ordered = self.ordered(self.keys)
        statement = sa.select(*self._selected()).select_from(self.relation.source).where(*self.conditions())
        if marks is not None:
            statement = statement.where(self._after(self.keys, marks))
        return cast("sa.Select[Any]", statement.order_by(*ordered).limit(rows))

    @property
    def _fields(self) -> list[str]:
        """The fields to bring: those asked for, the key, and what a lookup compares."""
        match = self.match.columns if self.match is not None else []
        return list(dict.fromkeys((*self.selection.fields, *self.relation.entity.key, *match)))

    def _selected(self) -> list[sa.Label[object]]:
        client, relation = self.client, self.relation
        listed = []
        for i, name in enumerate(self._fields):
            meta, column = relation.meta(name), relation.column(name)
            if name in self.plain:
                listed.append(column.label(f"c{i}"))
                continue
            listed.append(client.read(column, meta).label(f"c{i}"))
            bad = client.unreadable(column, meta)
            if bad is not None:
                listed.append(bad.label(f"x{i}"))
        for label, name in zip(self._marked(), self.keys, strict=True):
            mark = client.mark(relation.column(name), relation.meta(name))
            if label.startswith("k"):
                listed.append(
                    (client.read(relation.column(name), relation.meta(name)) if mark is None else mark).label(label)
                )
        if relation.stamp is not None:
            listed.append(client.version(relation.column(relation.stamp)).label("version"))
        return listed

    def _marked(self) -> list[str]:
        """Where each key's mark stands in what comes back; a field whose text is its mark is not brought twice."""
        fields, found = self._fields, []
        for i, name in enumerate(self.keys):
            meta = self.relation.meta(name)
            own = name not in fields or (
                name not in self.plain and self.client.mark(self.relation.column(name), meta) is not None
            )
            found.append(f"k{i}" if own else f"c{fields.index(name)}")
        return found

    def conditions(self) -> list[Expression]:
        """What a record must meet to be of the selection."""
        part, found = self.selection.part or {}, []
        if self.selection.where is not None:
            found.append(condition(self.client, self.relation, self.selection.where))
        if part.get("after") is not None:
            found.append(self._after(self.relation.entity.key, part["after"]))
        if part.get("until") is not None:
            found.append(sa.not_(self._after(self.relation.entity.key, part["until"])))
        return [*found, self.extra] if self.extra is not None else found

    def ordered(self, keys: Sequence[str]) -> list[Expression]:
        """What to sort by."""
        relation = self.relation
        return [
            self.client.ordered(relation.column(name), relation.meta(name), declared=relation.declared) for name in keys
        ]

    def _after(self, keys: Sequence[str], marks: Any) -> Expression:
        places = [self.client.place(mark, self.relation.meta(name)) for mark, name in zip(marks, keys, strict=True)]
        return self.client.after(self.ordered(keys), places)

    def _check_null(self, marks: list[str] | None) -> None:
        """A record without a key has no place in the order: it would be left out of later pages without a word."""
        entity = self.relation.entity
        nullable = [self.relation.column(name) for name in entity.key if entity.by_name[name].nullable]
        part = self.selection.part or {}
        if not nullable or part.get("after") is not None:
            return
        whole = replace(self, selection=replace(self.selection, part=None))
        found = [*whole.conditions(), sa.or_(*(each.is_(None) for each in nullable))]
        if marks is not None and self.keys != entity.key:
            stamp = self.keys[0]
            found.append(self.relation.column(stamp) >= self.client.place(marks[0], self.relation.meta(stamp)))
        first: sa.Select[Any] = (
            sa.select(sa.literal_column("1")).select_from(self.relation.source).where(*found).limit(1)
        )
        if self.client.rows(first).height:
            raise UnexpectedError(
                f"{entity.name}: the key ({', '.join(entity.key)}) of a record holds null; declare another"
            )

    def _check_unique(self, raw: pl.DataFrame) -> None:
        if not self.relation.declared:
            return
        marks = self._marked()
        if raw.select(pl.struct(marks).is_duplicated().any()).item():
            raise UnexpectedError(
                f"{self.relation.entity.name}: the declared key {self.keys} is not unique; declare another"
            )

    def typed(self, raw: pl.DataFrame) -> pl.DataFrame:
        """A page from what the driver brought: typed columns, `_key`, and `_invalid` where a value has no place."""
        entity, reasons, columns = self.relation.entity, [], {}
        for i, name in enumerate(self._fields):
            meta, field = self.relation.meta(name), entity.by_name[name]
            value = self.client.decode(pl.col(f"c{i}"), meta)
            lost = pl.col(f"c{i}").is_not_null() & value.is_null()
            if f"x{i}" in raw.columns:
                bad = pl.col(f"x{i}").cast(pl.Boolean).fill_null(value=False)
                value, lost = pl.when(~bad).then(value), lost | bad
            columns[name] = value.cast(field.dtype)
            reasons.append(pl.when(lost).then(pl.lit(f"{name}: the stored value is no {field.type.value}")))
        version = pl.col("version").cast(pl.String) if "version" in raw.columns else pl.lit(None, pl.String)
        invalid = pl.concat_str(reasons, separator="; ", ignore_nulls=True)
        match = self.match.columns if self.match is not None else []
        return raw.select(
            *(columns[name].alias(name) for name in dict.fromkeys((*self.selection.fields, *match))),
            pl.struct(*(columns[name].alias(name) for name in entity.key)).alias("_key"),
            version.alias("_version"),
            pl.lit(value=False).alias("_deleted"),
            pl.when(invalid != "").then(invalid).alias("_invalid"),
        )

    def joined(
        self, rowset: sa.FromClause, matched: Callable[[sa.FromClause], Expression], *, lock: bool
    ) -> pl.DataFrame:
        """The typed records that a rowset names, with the row's own `n` and the fields as `c…`; locked if asked."""
        query = replace(self, keys=(), plain=frozenset())
        source = sa.join(rowset, self.relation.table.clause, matched(rowset))
        if self.relation.side is not None:
            source = source.outerjoin(self.relation.side.clause, self.relation.beside())
        statement = sa.select(rowset.c.n.label("n"), *query._selected()).select_from(source)
        raw = self.client.rows(statement.with_for_update() if lock else statement)
        typed = query.typed(raw)
        fields = [pl.col(name).alias(f"c{i}") for i, name in enumerate(self.selection.fields)]
        return typed.select(raw["n"].cast(pl.Int64), *fields, "_key", "_version", "_invalid")

    def last_marks(self) -> list[str] | None:
        """The marks of the last record that has a stamp."""
        statement = sa.select(*self.labelled()).select_from(self.relation.source)
        statement = statement.where(*self.conditions(), self.relation.column(self.keys[0]).is_not(None))
        found = self.client.rows(statement.order_by(*(each.desc() for each in self.ordered(self.keys))).limit(1))
        return [str(each) for each in found.row(0)] if found.height else None

    def labelled(self) -> list[sa.Label[object]]:
        """The mark of each key."""
        found = []
        for i, name in enumerate(self.keys):
            column, meta = self.relation.column(name), self.relation.meta(name)
            mark = self.client.mark(column, meta)
            found.append((self.client.read(column, meta) if mark is None else mark).label(f"k{i}"))
        return found
