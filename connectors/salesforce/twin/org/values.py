"""One value on its way into a record: read from JSON or CSV, checked against its field, in the form records keep."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import Any

from connectors.salesforce.twin.org.clock import read_date, read_moment, written
from connectors.salesforce.twin.org.documents import NUMBERS
from connectors.salesforce.twin.org.ids import whole_id
from connectors.salesforce.twin.org.problems import Problem
from connectors.salesforce.twin.org.schema import Field

Reader = Callable[[Any], Any]
"""Gives the value as records keep it, or a Problem of this record alone."""

NULL = "#N/A"
"""How a CSV of the Bulk API says null; an empty cell leaves the field alone."""
_EMAIL = re.compile(r"[^@\s,;<>()\[\]\\\"]+@[^@\s.,;<>()\[\]\\\"]+(\.[^@\s.,;<>()\[\]\\\"]+)+")
_TRUE, _FALSE = frozenset({"true", "1", "yes", "y"}), frozenset({"false", "0", "no", "n", ""})


class WrongTypeError(Exception):
    """The value is not of the field's type at all: a JSON call as a whole is refused, in a CSV the row is."""


def reader(of: Field) -> Reader:
    """How values for this field are read; made once for many records."""
    if of.type == "boolean":
        return _boolean
    if of.type in NUMBERS:
        return _number(of)
    if of.type in {"id", "reference"}:
        return _reference(of)
    if of.type in {"date", "datetime"}:
        return _moment if of.type == "datetime" else _day
    return _text(of)


def wrong_value(of: Field, value: Any) -> Problem:
    """How a CSV row is refused whose value is not of the field's type."""
    words = f"{of.document.get('label') or of.name}: value not of required type: {value}"
    return Problem("INVALID_TYPE_ON_FIELD_IN_RECORD", words, (of.name,))


def wrong_json(of: Field, value: Any) -> str:
    """What is said of a JSON value that is not of the field's type."""
    given = (
        "VALUE_STRING" if isinstance(value, str) else "VALUE_NUMBER_FLOAT" if isinstance(value, float) else "VALUE_TRUE"
    )
    wanted = {"int": "int", "boolean": "boolean", "datetime": "datetime", "date": "date"}.get(of.type, "double")
    told = f"Cannot deserialize instance of {wanted} from {given} value {value}"
    return f"{told} or request may be missing a required field at [line:1, column:1]"


def _boolean(value: Any) -> Any:
    if value is None:
        return 0
    if isinstance(value, bool):
        return int(value)
    text = str(value).strip().lower()
    if text in _TRUE or text in _FALSE:
        return int(text in _TRUE)
    raise WrongTypeError


def _number(of: Field) -> Reader:
    whole = of.type == "int"
    scale = 0 if whole else int(of.document.get("scale") or 0)
    digits = int(of.document.get("digits") or 9) if whole else int(of.document.get("precision") or 18) - scale
    step, bound = Decimal(1).scaleb(-scale), Decimal(10) ** digits
    label = of.document.get("label") or of.name

    def read(value: Any) -> Any:
        if value is None or value == "":
            return None
        if isinstance(value, bool) or (whole and isinstance(value, float) and not value.is_integer()):
            raise WrongTypeError
        try:
            number = Decimal(str(value).strip().replace(",", ""))
        except InvalidOperation:
            raise WrongTypeError from None
        if not number.is_finite():
            raise WrongTypeError
        number = number.quantize(step, ROUND_HALF_UP) if number.adjusted() < 30 else number
        if abs(number) >= bound:
            words = f"{label}: value outside of valid range on numeric field: {value}"
            return Problem("NUMBER_OUTSIDE_VALID_RANGE", words, (of.name,))
        return int(number) if whole else float(number)

    return read


def _reference(of: Field) -> Reader:
    label = of.document.get("label") or of.name

    def read(value: Any) -> Any:
        if value is None or value == "":
            return None
        whole = whole_id(value)
        if whole is None:
            return Problem("MALFORMED_ID", f"{label}: id value of incorrect type: {value}", (of.name,))
        return whole

    return read


def _day(value: Any) -> Any:
    if value is None or value == "":
        return None
    day = read_date(value) if isinstance(value, str) else None
    if day is None or not 1700 <= day.year <= 4000:
        raise WrongTypeError
    return day.isoformat()


def _moment(value: Any) -> Any:
    if value is None or value == "":
        return None
    moment = read_moment(value) if isinstance(value, str) else None
    if moment is None:
        day = read_date(value) if isinstance(value, str) else None
        moment = read_moment(f"{day.isoformat()}T00:00:00Z") if day else None
    if moment is None:
        raise WrongTypeError
    return written(moment.replace(microsecond=0))


def _text(of: Field) -> Reader:
    label, name, length = of.document.get("label") or of.name, of.name, of.length
    allowed, email, several = of.picklist, of.type == "email", of.type == "multipicklist"

    def read(value: Any) -> Any:
        if value is None:
            return None
        if isinstance(value, dict | list):
            raise WrongTypeError
        # Spaces around a text are cut off, and an empty text is no text.
        text = value.strip() if isinstance(value, str) else str(value)
        if not text:
            return None
        if length and len(text) > length:
            words = f"{label}: data value too large: {text[:255]} (max length={length})"
            return Problem("STRING_TOO_LONG", words, (name,))
        if allowed is not None and not allowed.issuperset(text.split(";") if several else (text,)):
            words = f"{label}: bad value for restricted picklist field: {text}"
            return Problem("INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST", words, (name,))
        if email and not _EMAIL.fullmatch(text):
            return Problem("INVALID_EMAIL_ADDRESS", f"{label}: invalid email address: {text}", (name,))
        return text

    return read
