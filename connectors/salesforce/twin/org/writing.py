"""Writing records: create, update, upsert, delete, some hundred at a time, each refused or carried out for itself."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from connectors.salesforce.twin.org.checks import Checks
from connectors.salesforce.twin.org.contention import Contention
from connectors.salesforce.twin.org.intake import Column, Intake, Row
from connectors.salesforce.twin.org.problems import Problem, RefusedError
from connectors.salesforce.twin.org.schema import Field, ObjectType
from connectors.salesforce.twin.org.standard import SETUP
from connectors.salesforce.twin.org.store import Unit

if TYPE_CHECKING:
    from connectors.salesforce.twin.org.org import Org

Told = tuple[str, str, str, dict[str, Any]]
"""Object, record, kind of change, and the fields that changed."""
CHUNK = 200
"""Records that share one transaction."""
ROLLED_BACK = Problem(
    "ALL_OR_NONE_OPERATION_ROLLED_BACK",
    "Record rolled back because not all records were valid and the request was using AllOrNone header",
)
_NO_RIGHT = Problem("INSUFFICIENT_ACCESS_OR_READONLY", "insufficient access rights on object id")
_DELETED = Problem("ENTITY_IS_DELETED", "entity is deleted")
_UNKNOWN = Problem("INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id")
_UPDATED = ("LastModifiedDate", "LastModifiedById", "SystemModstamp")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one record."""

    id: str | None
    created: bool = False
    problems: tuple[Problem, ...] = ()

    @property
    def done(self) -> bool:
        """Whether it was written."""
        return not self.problems


@dataclass(slots=True)
class Writer:
    """Writes records of one object for one user."""

    org: Org
    kind: ObjectType
    user: str
    all_or_none: bool = False
    save_duplicates: bool = False
    origin: str = "com/salesforce/api/rest"
    contention: Contention | None = None
    intake: Intake = field(init=False)
    _checks: Checks = field(init=False)

    def __post_init__(self) -> None:
        rights = self.org.access.of(self.user)
        self.intake = Intake(self.org.schema, rights, self.kind)
        self._checks = Checks(self.org, self.kind, save_duplicates=self.save_duplicates, contention=self.contention)
        self._allowed = rights.on(self.kind)
        if self.kind.name in SETUP and not rights.administrator:
            self._allowed = frozenset({"read"})

    _allowed: frozenset[str] = frozenset()

    def create(self, given: Sequence[Mapping[str, Any]]) -> list[Outcome]:
        """New records from JSON."""
        return self._json(given, "create")

    def update(self, given: Sequence[Mapping[str, Any]]) -> list[Outcome]:
        """Records by Id from JSON."""
        return self._json(given, "update")

    def upsert(self, given: Sequence[Mapping[str, Any]], key: Field) -> list[Outcome]:
        """Records by an external id, or by Id, from JSON."""
        return self._json(given, "upsert", key)

    def lines(
        self, operation: str, columns: Sequence[Column], lines: Sequence[Sequence[str]], key: Field | None
    ) -> list[Outcome]:
        """Records from lines of CSV; `operation` is insert, update or upsert."""
        rows = [self.intake.from_csv(columns, each) for each in lines]
        names = {"insert": "create"}
        return self._carry(rows, [columns] * len(rows), names.get(operation, operation), key)

    def delete(self, ids: Sequence[str | None]) -> list[Outcome]:
        """Deletes records: they stay readable by queryAll."""
        made: list[Outcome] = []
        for start in range(0, len(ids), CHUNK):
            with self.org.store.writing() as unit:
                made.extend(self._delete(unit, ids[start : start + CHUNK]))
        return made

    def _json(self, given: Sequence[Mapping[str, Any]], operation: str, key: Field | None = None) -> list[Outcome]:
        rows = [self.intake.from_json(each) for each in given]
        return self._carry(rows, [self.intake.columns_of(each) for each in given], operation, key)

    def _carry(
        self, rows: list[Row], columns: Sequence[Sequence[Column]], operation: str, key: Field | None
    ) -> list[Outcome]:
        made: list[Outcome] = []
        # With all or none, what is written is decided over all of them.
        size = len(rows) or 1 if self.all_or_none else CHUNK
        for start in range(0, len(rows), size):
            with self.org.store.writing() as unit:
                chunk = rows[start : start + size]
                self._decide(chunk, operation, key)
                for row, one in zip(chunk, columns[start : start + size], strict=True):
                    self.intake.forbid(row, one, key=key.name if key and not row.creates else None)
                self._checks.judge(chunk)
                if self.all_or_none and any(each.problems for each in chunk):
                    for row in chunk:
                        row.problems = row.problems or [ROLLED_BACK]
                self._write(unit, [each for each in chunk if not each.problems])
                made.extend(Outcome(self._shown(each), each.creates, tuple(each.problems)) for each in chunk)
        return made

    @staticmethod
    def _shown(row: Row) -> str | None:
        return row.id if not row.problems or not row.creates else None

    def _decide(self, rows: Sequence[Row], operation: str, key: Field | None) -> None:
        """Which rows create and which update, and the records that the latter find."""
        if operation == "upsert" and key is not None and key.type != "id":
            self._match(rows, key)
        else:
            for row in rows:
                row.creates = operation == "create" or (operation == "upsert" and row.id is None)
                if operation == "create" and row.id is not None:
                    words = "cannot specify Id in an insert call"
                    row.problems.append(Problem("INVALID_FIELD_FOR_INSERT_UPDATE", words, ("Id",)))
        self._find(rows)

    def _match(self, rows: Sequence[Row], key: Field) -> None:
        wanted = [row.values[key.name] for row in rows if row.values.get(key.name) is not None]
        found: dict[Any, list[str]] = {}
        for stored in self.org.store.rows(self.kind, wanted, by=key.name).values():
            if not stored["IsDeleted"]:
                found.setdefault(_same(stored[key.name], key), []).append(stored["Id"])
        seen: set[Any] = set()
        for row in rows:
            row.key = row.values.get(key.name)
            if row.key is None:
                words = f"{key.name} not specified"
                row.problems.append(Problem("MISSING_ARGUMENT", words, ()))
                continue
            value = _same(row.key, key)
            ids = found.get(value, [])
            if value in seen:
                words = f"Duplicate external id specified: {row.key}"
                row.problems.append(Problem("DUPLICATE_VALUE", words, (key.name,)))
            elif len(ids) > 1:
                words = f"{key.name}: more than one record found for external id field: [{', '.join(ids)}]"
                row.problems.append(Problem("DUPLICATE_EXTERNAL_ID", words, ()))
            seen.add(value)
            row.id = ids[0] if ids else None
            row.creates = not ids

    def _find(self, rows: Sequence[Row]) -> None:
        """The stored records of rows that update."""
        if any(row.creates for row in rows) and ("create" not in self._allowed or not self.kind.document["createable"]):
            words = f"entity type cannot be inserted: {self.kind.document['label']}"
            for row in rows:
                if row.creates:
                    row.problems.append(Problem("CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY", words))
        ids = [row.id for row in rows if row.id is not None and not row.creates]
        stored = self.org.store.rows(self.kind, ids)
        for row in rows:
            if row.creates:
                continue
            if row.id is None:
                if not row.problems:
                    row.problems.append(Problem("MISSING_ARGUMENT", "Id not specified in an update call", ("Id",)))
                continue
            row.before = stored.get(row.id)
            problem = self._reachable(row.id, row.before)
            if problem:
                row.problems.append(problem)

    def _reachable(self, record: str, stored: Mapping[str, Any] | None) -> Problem | None:
        if stored is None:
            if not record.startswith(self.kind.prefix):
                words = f"{self.kind.document['label']} ID: id value of incorrect type: {record}"
                return Problem("MALFORMED_ID", words, ("Id",))
            return _UNKNOWN
        if stored["IsDeleted"]:
            return _DELETED
        return None if "edit" in self._allowed else _NO_RIGHT

    def _write(self, unit: Unit, rows: Sequence[Row]) -> None:
        if not rows:
            return
        stamp = self.org.clock.stamp()
        told = [
            *self._insert(unit, [each for each in rows if each.creates], stamp),
            *self._change(unit, [each for each in rows if not each.creates], stamp),
            *self._touch(unit, rows, stamp),
        ]
        self._tell(unit, told)
        if self.kind.name in SETUP:
            self.org.access.forget()

    def _insert(self, unit: Unit, rows: Sequence[Row], stamp: str) -> list[Told]:
        if not rows:
            return []
        plain = self.org.new_record(self.kind, self.user, stamp)
        made = []
        for row, name in zip(rows, self.org.store.new_ids(self.kind.prefix, len(rows)), strict=True):
            row.id = name
            made.append({**plain, **row.values, "Id": name})
        self.org.store.add_rows(unit, self.kind, made)
        hidden = {"Id", "IsDeleted", "SystemModstamp"}
        return [
            (self.kind.name, each["Id"], "CREATE", {n: v for n, v in each.items() if v is not None and n not in hidden})
            for each in made
        ]

    def _change(self, unit: Unit, rows: Sequence[Row], stamp: str) -> list[Told]:
        stamps = dict(zip(_UPDATED, (stamp, self.user, stamp), strict=True))
        told: list[Told] = []
        groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
        for row in rows:
            before = row.before or {}
            changed = {name: value for name, value in row.values.items() if before.get(name) != value}
            told.append((self.kind.name, row.id or "", "UPDATE", {**changed, "LastModifiedDate": stamp}))
            groups.setdefault(tuple(row.values), []).append({**row.values, **stamps, "Id": row.id})
        for group in groups.values():
            self.org.store.change_rows(unit, self.kind, group)
        return told

    def _touch(self, unit: Unit, rows: Sequence[Row], stamp: str) -> Iterable[Told]:
        """What triggers do after the write."""
        for trigger in self.org.rules.triggers(self.kind.name):
            touched: dict[str, None] = {}
            for row in rows:
                now = {**(row.before or {}), **row.values, "Id": row.id}
                if now.get(trigger.touch):
                    touched[now[trigger.touch]] = None
            yield from self.org.touch(unit, list(touched), dict(trigger.sets), stamp)

    def _tell(self, unit: Unit, told: Iterable[Told]) -> None:
        together, moment = str(uuid.uuid4()), self.org.clock.seconds()
        rows = [
            {
                "entity": entity,
                "record": record,
                "kind": kind,
                "user": self.user,
                "moment": moment,
                "transaction": together,
                "origin": self.origin,
                "values": values,
            }
            for entity, record, kind, values in told
        ]
        self.org.store.note_changes(unit, rows)

    def _delete(self, unit: Unit, ids: Sequence[str | None]) -> list[Outcome]:
        stored = self.org.store.rows(self.kind, [each for each in ids if each])
        stamp = self.org.clock.stamp()
        made: list[Outcome] = []
        gone: list[dict[str, Any]] = []
        for record in ids:
            problem = self._deletable(record, stored.get(record or ""))
            if problem is None and record:
                gone.append({"Id": record, "IsDeleted": 1, "LastModifiedDate": stamp, "SystemModstamp": stamp})
                stored[record]["IsDeleted"] = 1
            made.append(Outcome(record, problems=(problem,) if problem else ()))
        if self.all_or_none and any(not each.done for each in made):
            return [each if not each.done else Outcome(each.id, problems=(ROLLED_BACK,)) for each in made]
        if gone:
            self.org.store.change_rows(unit, self.kind, gone)
            self._tell(unit, [(self.kind.name, each["Id"], "DELETE", {}) for each in gone])
            if self.kind.name in SETUP:
                self.org.access.forget()
        return made

    def _deletable(self, record: str | None, stored: Mapping[str, Any] | None) -> Problem | None:
        if record is None:
            return Problem("MALFORMED_ID", "malformed id", ("Id",))
        if stored is None:
            return _UNKNOWN
        if stored["IsDeleted"]:
            return _DELETED
        if "delete" not in self._allowed or not self.kind.document["deletable"]:
            return _NO_RIGHT
        return self.org.rules.lock_problem(record, self._checks.masters(stored))


def _same(value: Any, key: Field) -> Any:
    return value.casefold() if isinstance(value, str) and not key.document.get("caseSensitive") else value


def refuse_alone(outcome: Outcome) -> None:
    """RefusedError for a call that was about one record alone and did not go through."""
    if outcome.problems:
        raise RefusedError.of(outcome.problems[0])
