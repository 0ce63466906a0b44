"""What a record must pass before it is written: required fields, unique values, references, locks and the rules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, or_, select

from connectors.salesforce.twin.org.contention import Contention
from connectors.salesforce.twin.org.intake import Row
from connectors.salesforce.twin.org.problems import Problem
from connectors.salesforce.twin.org.rules import Duplicates
from connectors.salesforce.twin.org.schema import Field, ObjectType
from connectors.salesforce.twin.org.setup import setup_problem
from connectors.salesforce.twin.org.standard import SETUP

if TYPE_CHECKING:
    from connectors.salesforce.twin.org.org import Org

_BAD_REFERENCE = Problem("INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id")


class Checks:
    """The checks on one object, made ready once for many rows."""

    def __init__(
        self, org: Org, kind: ObjectType, *, save_duplicates: bool, contention: Contention | None = None
    ) -> None:
        self._contention = contention
        self._org = org
        self._kind = kind
        self._required = [each.name for each in kind if each.required]
        self._never_null = {each.name for each in kind if each.stored and not each.nillable and each.type != "boolean"}
        self._unique = [each for each in kind if each.unique and each.stored]
        self._references = [each for each in kind if each.type == "reference" and (each.createable or each.updateable)]
        self._masters = [each.name for each in self._references if _holds_master(each)]
        self._validations = org.rules.validations(kind.name)
        rules = org.rules.duplicates(kind.name)
        self._duplicates = [each for each in rules if each.action == "block" or not save_duplicates]

    def masters(self, record: Mapping[str, Any]) -> list[str]:
        """The records that are locked along with this one."""
        return [record[name] for name in self._masters if record.get(name)]

    def judge(self, rows: Sequence[Row]) -> None:
        """Adds to each row why it must not be written."""
        self._resolve(rows)
        for row in rows:
            if not row.problems:
                self._alone(row)
        standing = [each for each in rows if not each.problems]
        self._referred(standing)
        for one in self._unique:
            self._once(one, standing)
        for rule in self._duplicates:
            self._alike(rule, [each for each in standing if not each.problems])
        for row in standing:
            if not row.problems:
                self._ruled(row)

    def _alone(self, row: Row) -> None:
        if row.creates:
            missing = [name for name in self._required if row.values.get(name) is None]
        else:
            missing = [name for name, value in row.values.items() if value is None and name in self._never_null]
        if missing:
            words = f"Required fields are missing: [{', '.join(missing)}]"
            row.problems.append(Problem("REQUIRED_FIELD_MISSING", words, tuple(missing)))
        elif self._kind.name in SETUP:
            problem = setup_problem(self._org, self._kind, row)
            row.problems.extend([problem] if problem else [])
        elif row.before and self._kind.name == "Lead" and row.before.get("IsConverted"):
            row.problems.append(Problem("CANNOT_UPDATE_CONVERTED_LEAD", "cannot reference converted lead"))

    def _ruled(self, row: Row) -> None:
        now = {**(row.before or {}), **row.values}
        if self._validations:
            row.problems.extend(self._org.rules.broken(self._validations, now))
        if not row.problems:
            masters = self.masters(now)
            problem = self._org.rules.lock_problem(row.id or "", masters)
            if problem is None and self._contention is not None:
                problem = self._contention.problem(masters)
            row.problems.extend([problem] if problem else [])

    def _resolve(self, rows: Sequence[Row]) -> None:
        """Parents that are named by an external id."""
        for row in rows:
            for column, key, value in row.by_key:
                assert column.parent is not None
                if value is None:
                    row.values[column.field.name] = None
                    continue
                stored = self._org.store.rows(column.parent, [value], by=key.name).values()
                found = [each["Id"] for each in stored if not each["IsDeleted"]]
                if len(found) == 1:
                    row.values[column.field.name] = found[0]
                else:
                    where = f"field {key.name} in entity {column.parent.name}"
                    words = f"Foreign key external ID: {value} not found for {where}"
                    row.problems.append(Problem("INVALID_FIELD", words))

    def _referred(self, rows: Sequence[Row]) -> None:
        """Records that a row refers to are there, and of an object that the field takes."""
        for one in self._references:
            mine = [row for row in rows if row.values.get(one.name)]
            if not mine:
                continue
            kinds = [kind for kind in (self._org.schema.get(name) for name in one.references) if kind]
            by_prefix = {kind.prefix: kind for kind in kinds}
            wanted: dict[str, set[str]] = {}
            for row in mine:
                wanted.setdefault(row.values[one.name][:3], set()).add(row.values[one.name])
            there = self._there(by_prefix, wanted)
            for row in mine:
                value = row.values[one.name]
                if kinds and value[:3] not in by_prefix:
                    words = f"{one.document.get('label') or one.name}: id value of incorrect type: {value}"
                    row.problems.append(Problem("FIELD_INTEGRITY_EXCEPTION", words, (one.name,)))
                elif value not in there:
                    row.problems.append(_BAD_REFERENCE)

    def _there(self, kinds: Mapping[str, ObjectType], wanted: Mapping[str, Iterable[str]]) -> set[str]:
        found: set[str] = set()
        for prefix, ids in wanted.items():
            kind = kinds.get(prefix)
            if kind is not None:
                table = self._org.store.table(kind)
                with self._org.store.reading() as connection:
                    chosen = select(table.c.Id).where(table.c.Id.in_(list(ids)), table.c.IsDeleted == 0)
                    found.update(connection.execute(chosen).scalars())
        return found

    def _once(self, one: Field, rows: Sequence[Row]) -> None:
        mine = [row for row in rows if row.values.get(one.name) is not None and not row.problems]
        stored = self._org.store.rows(self._kind, [row.values[one.name] for row in mine], by=one.name)
        owners = {_folded(each[one.name], one): each["Id"] for each in stored.values() if not each["IsDeleted"]}
        for row in mine:
            value = _folded(row.values[one.name], one)
            owner = owners.get(value)
            if owner is not None and owner != row.id:
                words = f"duplicate value found: {one.name} duplicates value on record with id: {owner}"
                row.problems.append(Problem("DUPLICATE_VALUE", words))
            else:
                owners[value] = row.id or "another record of this call"

    def _alike(self, rule: Duplicates, rows: Sequence[Row]) -> None:
        table = self._org.store.table(self._kind)
        wanted: dict[tuple[Any, ...], list[Row]] = {}
        for row in rows:
            now = {**(row.before or {}), **row.values}
            if all(now.get(name) is not None for name in rule.fields) and any(n in row.values for n in rule.fields):
                wanted.setdefault(tuple(str(now[name]).casefold() for name in rule.fields), []).append(row)
        columns = [table.c[name] for name in rule.fields]
        for values, mine in wanted.items():
            same = and_(*(column == value for column, value in zip(columns, values, strict=True)))
            others = or_(*(table.c.Id != row.id for row in mine)) if mine[0].id else table.c.Id.is_not(None)
            with self._org.store.reading() as connection:
                found = connection.execute(select(table.c.Id).where(same, others, table.c.IsDeleted == 0)).scalars()
                known = list(found)
            for row in mine:
                if [each for each in known if each != row.id]:
                    row.problems.append(_detected(self._kind.name, rule, known))


def _detected(entity: str, rule: Duplicates, known: Sequence[str]) -> Problem:
    # The name of the member is misspelt by Salesforce itself.
    result = {
        "allowSave": rule.action == "alert",
        "duplicateRule": f"{entity}_Duplicates",
        "duplicateRuleEntityType": entity,
        "errorMessage": "Use one of these records?",
        "matchResults": [{"entityType": entity, "size": len(known), "success": True}],
    }
    return Problem("DUPLICATES_DETECTED", "Use one of these records?", (), (("duplicateResut", result),))


def _holds_master(one: Field) -> bool:
    return one.name == "AccountId" or one.document.get("relationshipOrder") is not None


def _folded(value: Any, one: Field) -> Any:
    return value.casefold() if isinstance(value, str) and not one.document.get("caseSensitive") else value
