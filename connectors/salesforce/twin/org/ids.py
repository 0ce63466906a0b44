"""Record ids: three characters name the object, twelve the record, and three keep the case of the rest."""

from __future__ import annotations

import string
from functools import lru_cache

DIGITS = string.digits + string.ascii_uppercase + string.ascii_lowercase
_CHECK = string.ascii_uppercase + "012345"
_ALLOWED = frozenset(DIGITS)
_POD = "Tw"


def make_id(prefix: str, number: int) -> str:
    """The id of the `number`-th record of an object, 18 characters."""
    digits = ""
    while number:
        number, digit = divmod(number, 62)
        digits = DIGITS[digit] + digits
    short = f"{prefix}{_POD}{digits:0>10}"
    return short + _suffix(short)


def whole_id(text: object) -> str | None:
    """The 18-character form of an id of 15 or 18 characters; None for what is no id.

    An id of 15 characters tells records apart by case alone. In one of 18 the last three say which letters are capital,
    so that it survives a system that does not keep case.
    """
    if not isinstance(text, str) or len(text) not in (15, 18) or not _ALLOWED.issuperset(text):
        return None
    if len(text) == 15:
        return text + _suffix(text)
    if _suffix(text[:15]) == text[15:]:
        return text
    marks = [_CHECK.find(each) for each in text[15:].upper()]
    if min(marks) < 0:
        return None
    short = "".join(
        each.upper() if marks[place // 5] >> place % 5 & 1 else each.lower() for place, each in enumerate(text[:15])
    )
    return short + text[15:].upper()


def _suffix(short: str) -> str:
    return _mark(short[:5]) + _mark(short[5:10]) + _mark(short[10:])


@lru_cache(65_536)
def _mark(five: str) -> str:
    return _CHECK[sum(1 << place for place, each in enumerate(five) if "A" <= each <= "Z")]
