"""The harness of the stand-in: what an author's own looks like at its fullest."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

from hub.sdk import Secret, Value
from hub.sdk.testing.harness import Fault, Harness, Record
from hub.sdk.testing.stand_in.connector import SPEC, StandInConfig
from hub.sdk.testing.stand_in.far_side import ENTITY, FAR_SIDES, HIDDEN, FarSide, Row


class StandInHarness(Harness):
    """Every fault, every type, every role that the suite asks for."""

    spec = SPEC
    stand_in = "memory"
    kind = "fake"
    faults = frozenset(Fault)
    entity = ENTITY
    secret = "s3cr3t-token/of the stand-in"
    bad = ("band", "Lukewarm")
    withheld = "notes.view"
    hidden = HIDDEN
    tells_deletes = True
    retry_after = 7.0
    patience = 0.05
    beat = 1.0
    arrives = 1.5

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.far = FarSide(uuid4().hex, self.secret)
        FAR_SIDES[self.far.name] = self.far

    def config(self, fault: Fault | None = None) -> StandInConfig:
        address = f"{self.far.name}#{fault.value if fault else ''}"
        return StandInConfig(address=address, token=Secret(self.secret))

    def seed(self, entity: str, records: Sequence[Record]) -> None:
        assert entity == self.far.entity.name
        self.far.rows = {self._key(each): Row(dict(each)) for each in records}

    def stored(self, entity: str, key: Record) -> Record | None:
        row = self.far.rows.get(self._key(key))
        return None if row is None or row.deleted else row.values

    def count(self, entity: str) -> int:
        return sum(not row.deleted for row in self.far.rows.values())

    def edit(self, entity: str, key: Record, values: Record) -> None:
        self.far.put(self._key(key), values)

    def remove(self, entity: str, key: Record) -> None:
        self.far.remove(self._key(key))

    def forget(self, entity: str) -> None:
        self.far.forget()

    def touched(self, entity: str, key: Record) -> int | None:
        return self.far.rows[self._key(key)].touched

    def close(self) -> None:
        FAR_SIDES.pop(self.far.name, None)

    def _key(self, record: Record) -> tuple[Value, ...]:
        return tuple(record[name] for name in ENTITY.key)
