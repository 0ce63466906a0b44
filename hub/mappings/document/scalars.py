"""The single values of a mapping document: durations, shares, schedules, time zones, names and expressions."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError
from pydantic import AfterValidator, BeforeValidator, PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from hub.mappings.nearest import near

UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
NAME = r"[a-z][a-z0-9_]*"
_DURATION = r"[1-9][0-9]{0,8}(ms|s|m|h|d|w)"
_SHARE = r"[0-9]{1,3}(\.[0-9]{1,6})?%"
_LONGEST = timedelta(days=3660)
MAX_NAME, MAX_TEXT, MAX_EXPRESSION = 63, 500, 4_000
NAME_RULE = f"small letters, digits and _, a letter first, at most {MAX_NAME} characters"
RESERVED = frozenset({"_key", "_version", "_deleted", "_invalid", "_before", "_clear", "_state", "_reason"})


def wrong(message: str) -> PydanticCustomError:
    """A finished sentence as pydantic carries it."""
    return PydanticCustomError("sentence", "{sentence}", {"sentence": message})


def _text(check: Callable[[str], Any]) -> Callable[[Any], Any]:
    """A check that sees text only; the sentence for anything else says what was found."""

    def checked(value: Any) -> Any:
        if isinstance(value, str):
            return check(value)
        raise wrong(f"expected text, found {found(value)}; put it in quotes" if _single(value) else _not_text(value))

    return checked


def _not_text(value: Any) -> str:
    return f"expected text, found {found(value)}"


def _single(value: Any) -> bool:
    return isinstance(value, bool | int | float)


def found(value: Any) -> str:
    """What a value is, in words an admin knows, without repeating long ones."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return f"the number {value}"
    if isinstance(value, str):
        return f"'{value}'" if len(value) <= 40 else "text"
    return "a list" if isinstance(value, list) else "a map"


def parse_duration(text: str) -> timedelta:
    """`30d`, `15m`, `100ms`: a whole number above 0 and a unit."""
    match = re.fullmatch(_DURATION, text)
    if match is None:
        raise wrong(f"expected a duration such as 15m, 1d or 100ms, found {found(text)}")
    span = float(text[: -len(match[1])]) * UNITS[match[1]]
    if span > _LONGEST.total_seconds():
        raise wrong("a duration is at most ten years")
    return timedelta(seconds=span)


def _duration(value: Any) -> timedelta:
    if not isinstance(value, str):
        raise wrong(f"expected a duration with its unit, such as 15m, 1d or 100ms, found {found(value)}")
    return parse_duration(value)


def _share(value: Any) -> float:
    if not isinstance(value, str) or not re.fullmatch(_SHARE, value) or not 0 < float(value[:-1]) <= 100:
        raise wrong(f"expected a share above 0% and up to 100%, such as 1% or 0.5%, found {found(value)}")
    return float(value[:-1]) / 100


def _schedule(value: str) -> str:
    if len(value.split()) != 5:
        raise wrong("expected a cron schedule of five fields, such as '*/15 * * * *'")
    try:
        next(CronSim(value, datetime(2026, 1, 1, tzinfo=UTC)))
    except CronSimError as error:
        raise wrong(f"is no cron schedule: {str(error).lower()}; expected such as '*/15 * * * *'") from error
    except StopIteration as error:
        raise wrong("is a cron schedule that never comes due") from error
    return " ".join(value.split())


def _zone(value: str) -> str:
    if value not in available_timezones():
        hint = near(value, available_timezones()) or "; expected such as Europe/Berlin"
        raise wrong(f"{found(value)} is no time zone{hint}")
    ZoneInfo(value)
    return value


def is_name(value: str) -> bool:
    """Whether a text can name a mapping, a lookup or a decided value."""
    return len(value) <= MAX_NAME and re.fullmatch(NAME, value) is not None


def _name(value: str) -> str:
    if not is_name(value):
        raise wrong(f"{found(value)} is no name: {NAME_RULE}")
    return value


def _alias(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return str(value)
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", value):
        return value
    raise wrong(f"expected an alias such as champion, or a version number, found {found(value)}")


def _line(value: str) -> str:
    if not value.strip() or len(value) > MAX_TEXT:
        raise wrong(f"expected between 1 and {MAX_TEXT} characters of text")
    return value.strip()


def _field_name(value: str) -> str:
    if not value.strip() or len(value) > 255 or not value.isprintable():
        raise wrong("expected a name of 1 to 255 printable characters")
    if value in RESERVED:
        raise wrong(f"{value} is a name of the hub's own; choose another")
    return value


def _expression(value: str) -> str:
    if not value.strip() or len(value) > MAX_EXPRESSION:
        raise wrong(f"expected an expression of 1 to {MAX_EXPRESSION} characters")
    return value.rstrip()  # what stands in front stays, so that a place in the text is a place in the line


def _single_value(value: Any) -> Any:
    if isinstance(value, bool | int | float | str):
        return value
    raise wrong(f"expected text, a number, true or false, found {found(value)}")


def _spec(**schema: Any) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", **schema})


Name = Annotated[str, BeforeValidator(_text(_name)), _spec(pattern=f"^{NAME}$", maxLength=MAX_NAME)]
Line = Annotated[str, BeforeValidator(_text(_line)), _spec(minLength=1, maxLength=MAX_TEXT)]
FieldName = Annotated[str, BeforeValidator(_text(_field_name)), _spec(minLength=1, maxLength=255)]
ExpressionText = Annotated[str, BeforeValidator(_text(_expression)), _spec(minLength=1, maxLength=MAX_EXPRESSION)]
Zone = Annotated[str, BeforeValidator(_text(_zone)), _spec(examples=["UTC", "Europe/Berlin"])]
Schedule = Annotated[str, BeforeValidator(_text(_schedule)), _spec(examples=["*/15 * * * *"])]
Duration = Annotated[timedelta, BeforeValidator(_duration), _spec(pattern=f"^{_DURATION}$", examples=["1d", "100ms"])]
Share = Annotated[float, BeforeValidator(_share), _spec(pattern=f"^{_SHARE}$", examples=["1%"])]
Alias = Annotated[
    str,
    BeforeValidator(_alias),
    WithJsonSchema({"type": ["string", "integer"], "minimum": 1, "examples": ["champion", 3]}),
]


Single = Annotated[
    bool | int | float | str,
    PlainValidator(_single_value),
    WithJsonSchema({"type": ["string", "number", "boolean"]}),
]


def _count(value: int) -> int:
    if value < 1:
        raise wrong("expected a whole number above 0")
    return value


Count = Annotated[int, AfterValidator(_count), WithJsonSchema({"type": "integer", "minimum": 1})]
