"""How a row of a compiled query becomes a record again: nested by relationship, values as REST or Bulk writes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from connectors.salesforce.twin.org.clock import bulk_form
from connectors.salesforce.twin.org.schema import Field

Row = Sequence[Any]


@dataclass(slots=True)
class Leaf:
    """One value: where it stands in the row, and its type by describe."""

    name: str
    place: int
    type: str


@dataclass(slots=True)
class Compound:
    """An address: where each of its parts stands."""

    name: str
    parts: dict[str, int]


@dataclass(slots=True)
class Node:
    """One record, or a parent of it: where its id and the name of its object stand in the row."""

    name: str
    entity: str | None
    """None where the object differs from row to row: then `place_of_type` tells it."""
    place: int
    place_of_type: int | None = None
    parts: list[Leaf | Compound | Node | Nested] = field(default_factory=list)

    def child(self, name: str) -> Node | None:
        """The parent record of that relationship, where it is part of this one already."""
        return next((each for each in self.parts if isinstance(each, Node) and each.name == name), None)


@dataclass(slots=True)
class Nested:
    """The children of a record, answered by a query of their own."""

    name: str
    answer: Callable[[str], dict[str, Any] | None]


def as_record(node: Node, row: Row, version: str) -> dict[str, Any]:
    """One record as REST answers it, `attributes` first."""
    entity = node.entity or row[node.place_of_type or 0]
    url = f"/services/data/v{version}/sobjects/{entity}/{row[node.place]}"
    made: dict[str, Any] = {"attributes": {"type": entity, "url": url}}
    for each in node.parts:
        if isinstance(each, Leaf):
            value = row[each.place]
            made[each.name] = bool(value) if each.type == "boolean" and value is not None else value
        elif isinstance(each, Node):
            made[each.name] = None if row[each.place] is None else as_record(each, row, version)
        elif isinstance(each, Compound):
            made[each.name] = _address({name: row[place] for name, place in each.parts.items()})
        else:
            made[each.name] = each.answer(row[node.place])
    return made


def leaves(node: Node, prefix: str = "") -> list[tuple[str, Leaf]]:
    """Every value with its path, in the order it was asked for."""
    made: list[tuple[str, Leaf]] = []
    for each in node.parts:
        if isinstance(each, Leaf):
            made.append((f"{prefix}{each.name}", each))
        elif isinstance(each, Node):
            made.extend(leaves(each, f"{prefix}{each.name}."))
    return made


def as_line(columns: Sequence[tuple[int, Callable[[Any], str] | None]], row: Row) -> list[str]:
    """The values of a row as a Bulk file has them; `columns` come from `writers`."""
    return [
        "" if (value := row[place]) is None else value if write is None else write(value) for place, write in columns
    ]


def writers(found: Sequence[tuple[str, Leaf]]) -> list[tuple[int, Callable[[Any], str] | None]]:
    """Where each value stands and how it is written into a file; None where it is text already."""
    return [(leaf.place, _WRITERS.get(leaf.type)) for _, leaf in found]


def java_number(value: float) -> str:
    """A double as Java writes it, which is how Bulk files have it: 1.2E7 from ten million on."""
    size = abs(value)
    if size == 0 or 1e-3 <= size < 1e7:
        return repr(float(value))
    mantissa, _, exponent = f"{value:.16e}".partition("e")
    shortest = repr(float(mantissa))
    if float(f"{shortest}e{exponent}") != value:
        shortest = mantissa
    return f"{shortest}E{int(exponent)}"


def _boolean(value: Any) -> str:
    return "true" if value else "false"


_WRITERS: dict[str, Callable[[Any], str]] = {
    "boolean": _boolean,
    "int": str,
    "double": java_number,
    "currency": java_number,
    "percent": java_number,
    "datetime": bulk_form,
}


def _address(parts: dict[str, Any]) -> dict[str, Any] | None:
    names = {
        "City": "city",
        "Country": "country",
        "GeocodeAccuracy": "geocodeAccuracy",
        "Latitude": "latitude",
        "Longitude": "longitude",
        "PostalCode": "postalCode",
        "State": "state",
        "Street": "street",
    }
    made = {shown: parts.get(name) for name, shown in names.items()}
    return made if any(each is not None for each in made.values()) else None


def address_part(compound: str, one: Field) -> str:
    """Which part of an address a field is: `PostalCode` of MailingPostalCode."""
    return one.name.removeprefix(compound.removesuffix("Address"))
