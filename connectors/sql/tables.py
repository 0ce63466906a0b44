"""Tables and columns as the catalogue tells them, and the relation that one entity is read from and written to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import polars as pl
import sqlalchemy as sa
from sqlalchemy.sql import quoted_name
from sqlalchemy.types import UserDefinedType

from connectors.sql.config import SqlConfig
from hub.sdk import Entity, Field, FieldType, Mode, UnexpectedError

MOMENTS = frozenset({FieldType.TIMESTAMP, FieldType.INSTANT})


class Native(UserDefinedType[object]):
    """A type by the name the catalogue gave it; never a text from outside."""

    cache_ok = True

    def __init__(self, spec: str) -> None:
        self.spec = spec

    def get_col_spec(self, **_: object) -> str:
        """The name, for CAST and for columns of a side table."""
        return self.spec


@dataclass(frozen=True)
class Column:
    """One column. `native` is its full type, `family` the type without length, which a compared value is cast to.

    `insertable` tells of the INSERT right. `defaulted`: the database fills it when left out. `exact`: equal texts are
    equal bytes. `digits`: fractions of a second kept. `low`, `high`: the bounds of an integer.
    """

    field: Field
    native: str
    family: str
    insertable: bool = False
    defaulted: bool = False
    exact: bool = True
    digits: int = 6
    low: int | None = None
    high: int | None = None
    charset: str | None = None
    collation: str | None = None

    @property
    def name(self) -> str:
        return self.field.name


@dataclass(frozen=True)
class Table:
    """One table or view; `primary` is its key, `unique` every set of columns that a unique index covers.

    `hidden` are the columns that this login may not SELECT, where the catalogue tells of them.
    """

    schema: str | None
    name: str
    columns: tuple[Column, ...]
    primary: tuple[str, ...] = ()
    unique: tuple[frozenset[str], ...] = ()
    view: bool = False
    hidden: tuple[str, ...] = ()

    @cached_property
    def by_name(self) -> Mapping[str, Column]:
        """Columns by their exact name."""
        return {each.name: each for each in self.columns}

    @cached_property
    def clause(self) -> sa.TableClause:
        """What statements name; every name is quoted."""
        schema = quoted_name(self.schema, True) if self.schema is not None else None
        columns = [sa.column(quoted_name(each.name, True), Native(each.native)) for each in self.columns]
        return sa.table(quoted_name(self.name, True), *columns, schema=schema)

    def column(self, name: str) -> sa.ColumnElement[Any]:
        """The named column, qualified by the table."""
        return self.clause.c[name]


@dataclass(frozen=True)
class Relation:
    """An entity and where it lives: its table, and the side table that holds its scores where there is one.

    `side` is None also while a configured side table does not exist yet; `side_name` then says where it is to be.
    """

    entity: Entity
    table: Table
    side: Table | None = None
    side_name: str | None = None
    declared: bool = False

    @property
    def target(self) -> Table:
        """The table that is written to."""
        return self.side or self.table

    def home(self, name: str) -> Table:
        """The table that holds the named field."""
        return self.table if name in self.table.by_name or self.side is None else self.side

    def meta(self, name: str) -> Column:
        """What the catalogue says of the named field."""
        found = self.home(name).by_name.get(name)
        if found is None:
            raise UnexpectedError(f"{self.entity.name} has no field {name!r} that this login may see")
        return found

    def column(self, name: str) -> sa.ColumnElement[Any]:
        """The named field in a statement."""
        self.meta(name)
        return self.home(name).column(name)

    @property
    def source(self) -> sa.FromClause:
        """What is read from: the table, with its side table at its side."""
        if self.side is None:
            return self.table.clause
        return self.table.clause.outerjoin(self.side.clause, self.beside())

    def beside(self) -> sa.ColumnElement[bool]:
        """How the side table is joined."""
        assert self.side is not None
        return sa.and_(*(self.table.column(name) == self.side.column(name) for name in self.entity.key))

    @property
    def stamp(self) -> str | None:
        """The one column whose text is the version of a record, or None."""
        return self.entity.changed_by[0] if self.version_known else None

    version_known: bool = False


def relations(tables: Sequence[Table], config: SqlConfig, default_schema: str | None) -> dict[str, Relation]:
    """Every table as an entity by its name; side tables are part of theirs and not listed alone."""
    named = {_name(each, default_schema): each for each in tables}
    hidden = {side for entity, side in config.side_tables.items() if entity in named}
    for setting, names in (
        ("keys", config.keys),
        ("changed_by", config.changed_by),
        ("side_tables", config.side_tables),
    ):
        for name in names:
            if name not in named:
                raise UnexpectedError(f"{setting}: there is no table or view {name!r} that this login may see")
    return {name: _relation(name, each, named, config) for name, each in named.items() if name not in hidden}


def visible(tables: Sequence[Table], config: SqlConfig, default_schema: str | None) -> SqlConfig:
    """The settings as far as they speak of what this login may see: what it may not is then missing, and no error."""
    named = {_name(each, default_schema): each for each in tables}

    def seen(told: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        return {name: each for name, each in told.items() if name in named and named[name].by_name.keys() >= {*each}}

    sides = {name: side for name, side in config.side_tables.items() if name in named}
    told = {"keys": seen(config.keys), "changed_by": seen(config.changed_by), "side_tables": sides}
    return config.model_copy(update=told)


def _name(table: Table, default_schema: str | None) -> str:
    if table.schema is None or table.schema == default_schema:
        return _part(table.name)
    return f"{_part(table.schema)}.{_part(table.name)}"


def _part(name: str) -> str:
    return '"' + name.replace('"', '""') + '"' if "." in name or '"' in name else name


def _relation(name: str, table: Table, named: Mapping[str, Table], config: SqlConfig) -> Relation:
    key = config.keys.get(name) or table.primary
    for each in (*config.keys.get(name, ()), *config.changed_by.get(name, ())):
        if each not in table.by_name:
            raise UnexpectedError(f"keys, changed_by: {name} has no column {each!r} that this login may see")
    if not config.keys.get(name) and any(each not in table.by_name for each in key):
        key = ()
    side_name = config.side_tables.get(name)
    side = named.get(side_name) if side_name is not None else None
    fields = [_plain(each, key, side_name is not None or config.read_only) for each in table.columns]
    if side is not None:
        fields += [each.field for each in side.columns if each.name not in table.by_name and each.name not in key]
    target = side or table
    sided = side_name is not None
    entity = Entity(
        name=name,
        fields=tuple(fields),
        key=key,
        changed_by=config.changed_by.get(name) or tuple(f.name for f in fields if f.type in MOMENTS),
        modes=_modes(fields, key, target, sided)
        if not config.read_only and (side is not None) == sided
        else frozenset(),
        conditional=any(each.writable for each in fields),
    )
    return Relation(
        entity, table, side, side_name, set(key) != set(table.primary), len(config.changed_by.get(name, ())) == 1
    )


def _plain(column: Column, key: tuple[str, ...], frozen: bool) -> Field:
    return replace(
        column.field,
        writable=column.field.writable and not frozen and column.name not in key,
        required=not column.field.nullable and not column.defaulted and column.insertable and column.name not in key,
    )


def _modes(fields: Sequence[Field], key: tuple[str, ...], target: Table, sided: bool) -> frozenset[Mode]:
    if not key or not any(each.writable for each in fields):
        return frozenset()
    insertable = all(name in target.by_name and target.by_name[name].insertable for name in key)
    unique = frozenset(key) in target.unique
    if sided:
        return frozenset({Mode.UPDATE}) if insertable and unique else frozenset()
    return frozenset(Mode) if insertable and unique else frozenset({Mode.UPDATE})


def raw_frame(names: Sequence[str], rows: Sequence[Sequence[object]]) -> pl.DataFrame:
    """Rows of texts or bytes as a driver gave them, one column per name, all-null columns as text."""
    columns = list(zip(*rows, strict=True)) if rows else [() for _ in names]
    made = {}
    for name, values in zip(names, columns, strict=True):
        binary = any(isinstance(value, bytes) for value in values)
        made[name] = pl.Series(values, dtype=pl.Binary if binary else pl.String, strict=False)
    return pl.DataFrame(made)
