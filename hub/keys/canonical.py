"""Canonical JSON: one byte sequence per document, the same on every machine (RFC 8785)."""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal

import rfc8785

from hub.sdk import Json

MAX_SAFE = 2**53 - 1


def canonical(document: object) -> bytes:
    """RFC 8785 bytes of a document, text in NFC.

    What JSON cannot hold exactly becomes text: integers beyond 2^53 and decimals as digits, NaN and infinities as
    `{"real": text}`, dates as ISO 8601. TypeError for anything else, ValueError where two keys become the same in NFC.
    """
    plain = _plain(document)
    # What C writes is the same byte for byte, at a tenth of the time, but for reals and for the order of other keys.
    return _FAST(plain).encode("utf-8") if _is_simple(plain) else rfc8785.dumps(plain)


_FAST = json.JSONEncoder(ensure_ascii=False, check_circular=False, separators=(",", ":"), sort_keys=True).encode


def _is_simple(value: Json) -> bool:
    """Whether there is no real number in it, and every key is ASCII."""
    if isinstance(value, dict):
        return all(map(str.isascii, value)) and all(map(_is_simple, value.values()))
    if isinstance(value, list):
        return all(map(_is_simple, value))
    return not isinstance(value, float)


def _plain(value: object) -> Json:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return unicodedata.normalize("NFC", str(value))
    if isinstance(value, int):
        return int(value) if -MAX_SAFE <= value <= MAX_SAFE else str(int(value))
    if isinstance(value, float):
        return value if math.isfinite(value) else {"real": repr(value)}
    if isinstance(value, Mapping):
        return _plain_mapping(value)
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray | memoryview):
        return [_plain(each) for each in value]
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, datetime | date):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no place in canonical JSON")


def _plain_mapping(value: Mapping[object, object]) -> dict[str, Json]:
    plain: dict[str, Json] = {}
    for key, each in value.items():
        if not isinstance(key, str):
            raise TypeError(f"a key of canonical JSON is text, not {type(key).__name__}")
        plain[unicodedata.normalize("NFC", str(key))] = _plain(each)
    if len(plain) != len(value):
        raise ValueError("two keys of the document are the same text")
    return plain
