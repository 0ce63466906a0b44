"""What a change event says of itself: which records, by whom, and which fields moved."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from typing import Any

from fastavro import schemaless_reader

HEADER = "ChangeEventHeader"
OVERFLOW = "GAP_OVERFLOW"
_NO_RECORD = "000000000000000"


@dataclass(frozen=True)
class Header:
    """The header of one event. `moved` are the fields that changed, `told` those that such an event can tell of.

    `at` is when the change was committed.
    """

    kind: str
    records: tuple[str, ...]
    user: str
    moved: frozenset[str]
    told: frozenset[str]
    at: datetime

    @classmethod
    def of(cls, payload: bytes, schema: Any) -> Header:
        """The header in an event's bytes; whatever error Avro has for bytes that are not of this schema."""
        found: Any = schemaless_reader(BytesIO(payload), schema, None)
        header = found[HEADER]
        fields, named = schema["fields"], dict(_named(schema))
        return cls(
            str(header["changeType"]),
            tuple(each for each in header["recordIds"] if not each.startswith(_NO_RECORD)),
            str(header["commitUser"]),
            frozenset(_names(header["changedFields"], fields, named)),
            frozenset(name for each in fields for name in (each["name"], *_parts(each, named))),
            datetime.fromtimestamp(header["commitTimestamp"] / 1000, UTC),
        )

    @property
    def deleted(self) -> bool:
        """Whether its records are gone."""
        return self.kind in {"DELETE", "GAP_DELETE"}

    def made_by(self, user: str) -> bool:
        """Whether this user made the change. A gap stands for changes that are not told one by one: anybody's."""
        return self.user[:15] == user[:15] and not self.kind.startswith("GAP_")

    def touches(self, wanted: Iterable[str]) -> bool:
        """Whether one of the fields may have moved; those no event tells of (formulas, stamps) may have with any."""
        return self.kind != "UPDATE" or any(self._moved(each) for each in wanted)

    def _moved(self, name: str) -> bool:
        relation, dot, _ = name.partition(".")
        own = name if not dot else f"{relation[:-1]}c" if relation.endswith("__r") else f"{relation}Id"
        return own in self.moved or own not in self.told


def _names(bitmaps: Sequence[str], fields: Sequence[Any], named: Mapping[str, Any]) -> Iterator[str]:
    """The fields that bitmaps name: `0x…` those of the event itself, `7-0x…` the parts of its field number 7.

    The lowest bit of the hexadecimal number is the first field of the schema.
    https://developer.salesforce.com/docs/platform/pub-sub-api/guide/event-deserialization-considerations.html
    """
    for each in bitmaps:
        place, dash, bits = each.rpartition("-")
        if not dash:
            yield from (fields[bit]["name"] for bit in _bits(bits))
            continue
        compound = fields[int(place)]
        inside = _inside(compound, named)
        for bit in _bits(bits):
            yield from _spellings(compound["name"], inside[bit]["name"])


def _bits(text: str) -> Iterator[int]:
    number = int(text, 16)
    return (bit for bit in range(number.bit_length()) if number >> bit & 1)


def _parts(field: Any, named: Mapping[str, Any]) -> Iterator[str]:
    for each in _inside(field, named):
        yield from _spellings(field["name"], each["name"])


def _spellings(compound: str, part: str) -> tuple[str, ...]:
    """The fields that a part may be in a query: `City` of BillingAddress is BillingCity, `Latitude` of Place__c is
    Place__Latitude__s, `LastName` of Name is itself."""
    stem = compound.removesuffix("__c")
    return compound, part, f"{compound.removesuffix('Address')}{part}", f"{stem}__{part}__s"


def _inside(field: Any, named: Mapping[str, Any]) -> Sequence[Any]:
    """The fields of a compound one; none for a plain one."""
    kinds = field["type"] if isinstance(field["type"], list) else [field["type"]]
    for each in kinds:
        found = named.get(each) if isinstance(each, str) else each
        if isinstance(found, Mapping) and found.get("type") == "record":
            inside: Sequence[Any] = found["fields"]
            return inside
    return ()


def _named(schema: Any) -> Iterator[tuple[str, Any]]:
    """Every record type by its full name, wherever it is first spelled out."""
    if isinstance(schema, list):
        for each in schema:
            yield from _named(each)
    elif isinstance(schema, Mapping):
        if schema.get("type") == "record":
            yield str(schema["name"]), schema
            for each in schema["fields"]:
                yield from _named(each["type"])
        elif "items" in schema:
            yield from _named(schema["items"])
