"""One comparison of WHERE: the value checked against the field's type, and the condition that it makes."""

from __future__ import annotations

import operator as operators
from collections.abc import Callable
from datetime import date, datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, func, or_

from connectors.salesforce.twin.org.clock import day_start, written
from connectors.salesforce.twin.org.documents import NUMBERS
from connectors.salesforce.twin.org.ids import whole_id
from connectors.salesforce.twin.org.problems import RefusedError
from connectors.salesforce.twin.org.schema import Field
from connectors.salesforce.twin.soql.lexer import pointed
from connectors.salesforce.twin.soql.periods import days_of
from connectors.salesforce.twin.soql.tree import Comparison, Operator, Period, Query, Value

_SIGNS: dict[str, Callable[[Any, Any], ColumnElement[bool]]] = {
    "=": operators.eq,
    "<": operators.lt,
    "<=": operators.le,
    ">": operators.gt,
    ">=": operators.ge,
}
_NAMES = {"int": "int", "datetime": "dateTime", "reference": "reference", "currency": "double", "percent": "double"}


def compared(text: str, one: Comparison, of: Field, column: ColumnElement[Any], today: date) -> ColumnElement[bool]:
    """The condition; a null field meets no comparison but `= null`, `!=` and NOT IN. `text` is for messages."""
    if one.operator in {"INCLUDES", "EXCLUDES"}:
        return _chosen(text, one, of, column)
    if one.operator in {"IN", "NOT IN"}:
        values = one.value if isinstance(one.value, tuple) else ()
        return _among(text, one, of, column, values, today)
    assert not isinstance(one.value, tuple | Query)
    if isinstance(one.value, Period):
        return _within(text, one, of, column, one.value, today)
    if one.operator == "LIKE":
        return _like(text, one, of, column, one.value)
    return _ordered(one.operator, of, column, _checked(text, one, of, one.value))


def _ordered(operator: Operator, of: Field, column: ColumnElement[Any], value: Any) -> ColumnElement[bool]:
    if value is None:
        return column.is_(None) if operator == "=" else column.is_not(None)
    left, right = _sides(of, column, value)
    if operator == "!=":
        return or_(column.is_(None), left != right)
    return _SIGNS[operator](left, right)


def _sides(of: Field, column: ColumnElement[Any], value: Any) -> tuple[ColumnElement[Any], Any]:
    """Text is compared without regard to case; letters beyond ASCII take a slower way to that."""
    if not isinstance(value, str) or not _is_text(of):
        return column, value
    if value.isascii():
        return column.collate("NOCASE"), value
    return func.folded(column), value.casefold()


def _among(
    text: str, one: Comparison, of: Field, column: ColumnElement[Any], values: tuple[Value, ...], today: date
) -> ColumnElement[bool]:
    plain = [_checked(text, one, of, each) for each in values if not isinstance(each, Period)]
    periods = [
        _within(text, Comparison(one.path, "=", each), of, column, each, today)
        for each in values
        if isinstance(each, Period)
    ]
    told = [each for each in plain if each is not None]
    simple = [each for each in told if not (isinstance(each, str) and not each.isascii())]
    parts = [*periods, *(_ordered("=", of, column, each) for each in told if each not in simple)]
    if simple:
        left = column.collate("NOCASE") if _is_text(of) else column
        parts.append(left.in_(simple))
    if None in plain:
        parts.append(column.is_(None))
    made = or_(*parts) if parts else column != column
    return made if one.operator == "IN" else func.coalesce(made, 0) == 0


def _within(
    text: str, one: Comparison, of: Field, column: ColumnElement[Any], period: Period, today: date
) -> ColumnElement[bool]:
    if of.type not in {"date", "datetime"}:
        raise _wrong_type(text, one, of)
    days = days_of(period, today)
    first, after = (each.isoformat() if of.type == "date" else day_start(each) for each in days)
    if one.operator == "=":
        return and_(column >= first, column < after)
    if one.operator == "!=":
        return or_(column.is_(None), column < first, column >= after)
    if one.operator in {"<", ">="}:
        return column < first if one.operator == "<" else column >= first
    return column < after if one.operator == "<=" else column >= after


def _like(text: str, one: Comparison, of: Field, column: ColumnElement[Any], value: Value) -> ColumnElement[bool]:
    if not _is_text(of):
        raise RefusedError("INVALID_FIELD", pointed(text, one.path.column, f"invalid operator on {_kind(of)} field"))
    if not isinstance(value, str):
        raise _wrong_type(text, one, of)
    if value.isascii():
        return column.like(value, escape="\\")
    return func.folded(column).like(value.casefold(), escape="\\")


def _chosen(text: str, one: Comparison, of: Field, column: ColumnElement[Any]) -> ColumnElement[bool]:
    if of.type != "multipicklist" or not isinstance(one.value, tuple):
        raise RefusedError("INVALID_FIELD", pointed(text, one.path.column, f"invalid operator on {_kind(of)} field"))
    whole = func.coalesce(";" + column + ";", "")
    several = [and_(*(func.instr(whole, f";{part};") > 0 for part in str(each).split(";"))) for each in one.value]
    made = or_(*several)
    return made if one.operator == "INCLUDES" else func.coalesce(made, 0) == 0


def _checked(text: str, one: Comparison, of: Field, value: Value) -> Any:
    """The value as the column keeps it. RefusedError where it is not of the field's type."""
    if value is None:
        return None
    if of.type in {"id", "reference"}:
        if not isinstance(value, str):
            raise _wrong_type(text, one, of)
        whole = whole_id(value)
        if whole is None:
            words = f"invalid ID field: {value}"
            raise RefusedError("INVALID_QUERY_FILTER_OPERATOR", pointed(text, one.path.column, words))
        return whole
    made = _plain(of, value)
    if made is None:
        raise _wrong_type(text, one, of)
    return made


def _plain(of: Field, value: Value) -> Any:
    if of.type == "boolean":
        return int(value) if isinstance(value, bool) else None
    if of.type in NUMBERS:
        return value if isinstance(value, int | float) and not isinstance(value, bool) else None
    if of.type == "datetime":
        return written(value) if isinstance(value, datetime) else None
    if of.type == "date":
        return value.isoformat() if isinstance(value, date) and not isinstance(value, datetime) else None
    return value if isinstance(value, str) else None


def _wrong_type(text: str, one: Comparison, of: Field) -> RefusedError:
    quoted = "should be" if _is_text(of) or of.type in {"id", "reference"} else "should not be"
    told = f"value of filter criterion for field '{one.path.text}' must be of type {_kind(of)}"
    words = f"{told} and {quoted} enclosed in quotes"
    return RefusedError("INVALID_FIELD", pointed(text, one.path.column, words))


def _kind(of: Field) -> str:
    return _NAMES.get(of.type, of.type if not _is_text(of) else "string")


def _is_text(of: Field) -> bool:
    return of.type not in {*NUMBERS, "boolean", "date", "datetime", "id", "reference"}
