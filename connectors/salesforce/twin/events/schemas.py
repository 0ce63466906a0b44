"""Change events as Avro: the schema of an object's events, and one change as the bytes of an event."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from io import BytesIO
from typing import Any

from fastavro import parse_schema, schemaless_writer

from connectors.salesforce.twin.org.clock import read_moment
from connectors.salesforce.twin.org.schema import COMPOUND, Field, ObjectType
from connectors.salesforce.twin.org.store import Change

KINDS = ("CREATE", "UPDATE", "DELETE", "UNDELETE", "GAP_CREATE", "GAP_UPDATE", "GAP_DELETE", "GAP_UNDELETE")
OVERFLOW = "GAP_OVERFLOW"
NOT_TOLD = frozenset({"Id", "IsDeleted", "SystemModstamp"})
HEADER = "ChangeEventHeader"
_TEXTS: Mapping[str, Any] = {"type": "array", "items": "string"}
_HEADER: Mapping[str, Any] = {
    "type": "record",
    "name": HEADER,
    "fields": [
        {"name": "entityName", "type": "string"},
        {"name": "recordIds", "type": _TEXTS},
        {"name": "changeType", "type": {"type": "enum", "name": "ChangeType", "symbols": [*KINDS, OVERFLOW]}},
        {"name": "changeOrigin", "type": "string"},
        {"name": "transactionKey", "type": "string"},
        {"name": "sequenceNumber", "type": "int"},
        {"name": "commitTimestamp", "type": "long"},
        {"name": "commitNumber", "type": "long"},
        {"name": "commitUser", "type": "string"},
        {"name": "nulledFields", "type": _TEXTS},
        {"name": "diffFields", "type": _TEXTS},
        {"name": "changedFields", "type": _TEXTS},
    ],
}
_TYPES: Mapping[str, str] = {
    "boolean": "boolean",
    "int": "int",
    "long": "long",
    "double": "double",
    "currency": "double",
    "percent": "double",
    "date": "int",
    "datetime": "long",
}


def _moment(text: str) -> int:
    """Milliseconds since 1970."""
    found = read_moment(text)
    assert found is not None
    return int(found.timestamp() * 1000)


_VALUES: Mapping[str, Callable[[Any], Any]] = {
    "boolean": bool,
    "int": int,
    "long": int,
    "double": float,
    "currency": float,
    "percent": float,
    "date": lambda text: (date.fromisoformat(text) - date(1970, 1, 1)).days,
    "datetime": _moment,
}


@dataclass(frozen=True)
class EventSchema:
    """The Avro schema of one object's change events. `places` is field → (place, place inside a compound or None)."""

    text: str
    id: str
    parsed: Any
    places: Mapping[str, tuple[int, int | None]]
    fields: Mapping[str, Field] = field(repr=False)
    compounds: Mapping[int, str] = field(default_factory=dict)

    @classmethod
    def of(cls, kind: ObjectType) -> EventSchema:
        """What is told of an object: its stored fields, those of a compound one inside it."""
        told = [each for each in kind if each.stored and each.name not in NOT_TOLD]
        whole: list[dict[str, Any]] = [{"name": HEADER, "type": _HEADER}]
        places: dict[str, tuple[int, int | None]] = {}
        compounds: dict[int, str] = {}
        named: dict[str, Any] = {}
        for each in (one for one in kind if one in told or _compound(one)):
            parent = each.document.get("compoundFieldName")
            if _compound(each):
                parts = [one for one in kind.parts_of(each.name) if one in told]
                if parts:
                    compounds[len(whole)] = each.name
                    places |= {one.name: (len(whole), place) for place, one in enumerate(parts)}
                    whole.append({"name": each.name, "type": ["null", _record(each, parts, named)], "default": None})
            elif not parent or parent == each.name or not any(one.name == parent and _compound(one) for one in kind):
                places[each.name] = (len(whole), None)
                whole.append(_avro(each.name, each))
        name = f"{kind.name.removesuffix('__c')}{'__' if kind.name.endswith('__c') else ''}ChangeEvent"
        made = {"type": "record", "name": name, "namespace": "com.sforce.eventbus", "fields": whole}
        text = json.dumps(made)
        digest = base64.urlsafe_b64encode(hashlib.md5(text.encode(), usedforsecurity=False).digest()).decode()
        return cls(text, digest.rstrip("="), parse_schema(made), places, {each.name: each for each in told}, compounds)

    def bitmap(self, names: Iterable[str]) -> list[str]:
        """Fields as Salesforce names them in a header: one bitmap for the plain ones, one for each compound."""
        plain, inside = 0, dict.fromkeys(self.compounds, 0)
        for name in names:
            place, part = self.places[name]
            if part is None:
                plain |= 1 << place
            else:
                inside[place] |= 1 << part
        made = [f"0x{_hex(plain)}"] if plain else []
        return made + [f"{place}-0x{_hex(bits)}" for place, bits in inside.items() if bits]

    def event(self, change: Change, sequence: int, hidden: frozenset[str]) -> bytes:
        """A change as the payload of an event; fields that are `hidden` from the subscriber are not told."""
        values = {name: each for name, each in change.values.items() if name in self.places and name not in hidden}
        header = {
            "entityName": change.entity,
            "recordIds": [change.record],
            "changeType": change.kind,
            "changeOrigin": change.origin,
            "transactionKey": change.transaction,
            "sequenceNumber": sequence,
            "commitTimestamp": int(change.moment.timestamp() * 1000),
            "commitNumber": change.replay * 1_000,
            "commitUser": change.user,
            "nulledFields": self.bitmap(name for name, each in values.items() if each is None),
            "diffFields": [],
            "changedFields": self.bitmap(values) if change.kind == "UPDATE" else [],
        }
        out = BytesIO()
        schemaless_writer(out, self.parsed, {HEADER: header, **self._body(values)})
        return out.getvalue()

    def _body(self, values: Mapping[str, Any]) -> dict[str, Any]:
        body: dict[str, Any] = {}
        for name, value in values.items():
            place, part = self.places[name]
            compound = None if part is None else self.compounds[place]
            target = body if compound is None else body.setdefault(compound, {})
            target[name if compound is None else part_name(compound, name)] = (
                None if value is None else _VALUES.get(self.fields[name].type, str)(value)
            )
        return body


def _compound(one: Field) -> bool:
    return one.type in COMPOUND or one.person_name


def part_name(compound: str, name: str) -> str:
    """How a part is called inside: `BillingCity` is `City` of BillingAddress."""
    return name.removeprefix(compound.removesuffix("Address")) if compound.endswith("Address") else name


def _record(compound: Field, parts: Iterable[Field], named: dict[str, Any]) -> Any:
    """The type of a compound; two of one shape share it by name."""
    inside = [_avro(part_name(compound.name, each.name), each) for each in parts]
    name = "PersonName" if compound.person_name else compound.type.capitalize()
    if named.setdefault(name, inside) is inside:
        return {"type": "record", "name": name, "fields": inside}
    if named[name] == inside:
        return name
    return {"type": "record", "name": f"{compound.name}_{name}", "fields": inside}


def _avro(name: str, one: Field) -> dict[str, Any]:
    return {"name": name, "type": ["null", _TYPES.get(one.type, "string")], "default": None}


def _hex(bits: int) -> str:
    """Whole bytes, the highest first."""
    return bits.to_bytes((bits.bit_length() + 7) // 8, "big").hex().upper()
