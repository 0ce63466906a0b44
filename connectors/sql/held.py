"""What a login needs for a grant, what it holds, and the difference between the two, in the database's own words."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

EVERYTHING = "ALL PRIVILEGES"
NOTHING = "USAGE"
"""MariaDB's word for no right at all."""


@dataclass(frozen=True, slots=True)
class Need:
    """One right on some columns of one table."""

    right: str
    schema: str | None
    table: str
    columns: frozenset[str]


@dataclass(frozen=True, slots=True)
class Holding:
    """One right that is held; where `schema`, `table` or `columns` is None: on all of them."""

    right: str
    schema: str | None = None
    table: str | None = None
    columns: frozenset[str] | None = None

    def covers(self, need: Need) -> bool:
        """Whether it is the right that is needed, on that table; of its columns it says nothing."""
        same = self.right in (need.right, EVERYTHING)
        return same and _named(self.schema, need.schema) and self.table in (None, need.table)

    def __str__(self) -> str:
        return _line(self.right, self.schema, self.table, self.columns)


def missing(needs: Iterable[Need], held: Sequence[Holding]) -> list[str]:
    """What is needed and not held."""
    lines = []
    for need in needs:
        fitting = [each for each in held if each.covers(need)]
        if any(each.columns is None for each in fitting):
            continue
        lacking = need.columns.difference(*(each.columns or () for each in fitting))
        if lacking:
            lines.append(_line(need.right, need.schema, need.table, lacking))
    return lines


def excess(
    needs: Collection[Need], held: Iterable[Holding], known: Mapping[tuple[str | None, str], Collection[str]]
) -> list[str]:
    """What is held and not needed; `known` are the columns of a table, as far as they are known."""
    lines = []
    for each in held:
        if each.table is None:
            lines += [str(each)] if each.right != NOTHING else []
            continue
        needed = frozenset[str]().union(*(need.columns for need in needs if each.covers(need)))
        if each.columns is not None:
            beyond = each.columns - needed
            lines += [_line(each.right, each.schema, each.table, beyond)] if beyond else []
        elif not needed or not needed.issuperset(known.get((each.schema, each.table), ("",))):
            lines.append(f"{each}{', the whole table' if needed else ''}")
    return sorted(set(lines))


def parsed(lines: Iterable[str]) -> tuple[list[Holding], list[str]]:
    """What MariaDB's SHOW GRANTS says, and the forms of it that are not understood; passwords in it go nowhere."""
    held, strange = [], []
    for line in lines:
        if re.match(rf"GRANT {_QUOTED} TO ", line):  # a role: what it holds is told on lines of its own
            continue
        found = _GRANT.match(line)
        if found is None:
            strange.append("PROXY for another account" if line.startswith("GRANT PROXY") else "a right of another form")
            continue
        schema, table = (_plain(name) if name is not None else None for name in (found["schema"], found["table"]))
        for right, columns in _RIGHT.findall(found["rights"]):
            named = frozenset(_plain(name) for name in re.findall(_QUOTED, columns)) if columns else None
            held.append(Holding(right.strip(), schema, table, named))
        if "WITH GRANT OPTION" in line[found.end() :]:
            held.append(Holding("GRANT OPTION", schema, table))
    return held, strange


_QUOTED = r"`(?:[^`]|``)*`"
_RIGHT = re.compile(rf"([A-Z][A-Z ]*[A-Z])(?: (\({_QUOTED}(?:, {_QUOTED})*\)))?")
_GRANT = re.compile(
    rf"GRANT (?P<rights>{_RIGHT.pattern}(?:, {_RIGHT.pattern})*) ON (?:(?:FUNCTION|PROCEDURE|PACKAGE|PACKAGE BODY) )?"
    rf"(?:\*\.\*|(?P<schema>{_QUOTED})\.(?:\*|(?P<table>{_QUOTED}))) TO "
)


def _plain(quoted: str) -> str:
    return quoted[1:-1].replace("``", "`")


def _named(pattern: str | None, schema: str | None) -> bool:
    """MariaDB lets `_` and `%` stand for letters in the name of a schema that rights are granted on."""
    if pattern is None or pattern == schema:
        return True
    letters = re.split(r"(\\[_%]|[_%])", pattern)
    meant = "".join({"_": ".", "%": ".*"}.get(each, re.escape(each.removeprefix("\\"))) for each in letters)
    return schema is not None and re.fullmatch(meant, schema, re.DOTALL) is not None


def _line(right: str, schema: str | None, table: str | None, columns: Iterable[str] | None) -> str:
    listed = f" ({', '.join(sorted(columns))})" if columns is not None else ""
    return f"{right}{listed} on {schema or '*'}.{table or '*'}"
