"""What an administrator has set up about writing: validation rules, duplicate rules, triggers; and locks of others."""

from __future__ import annotations

import fnmatch
import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from connectors.salesforce.twin.org.clock import Clock, written
from connectors.salesforce.twin.org.contention import LOCKED
from connectors.salesforce.twin.org.problems import Problem
from connectors.salesforce.twin.org.store import Store
from connectors.salesforce.twin.soql.parser import parse
from connectors.salesforce.twin.soql.periods import days_of
from connectors.salesforce.twin.soql.tree import Both, Comparison, Condition, Not, Period, Value


@dataclass(frozen=True, slots=True)
class Validation:
    """Refuses records that meet a condition, in the words of whoever set it up."""

    when: Condition
    message: str
    fields: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Duplicates:
    """Refuses records that share these values with another: `block` always, `alert` unless the caller says to save."""

    fields: tuple[str, ...]
    action: str


@dataclass(frozen=True, slots=True)
class Trigger:
    """After records were written, the record that `touch` refers to (or with `Id` itself) is stamped anew."""

    touch: str
    sets: Mapping[str, Any]


@dataclass(slots=True)
class Rules:
    """The rules by object, read from the store, and the locks, which end with the process."""

    store: Store
    clock: Clock
    locked: dict[str, float] = field(default_factory=dict)
    """Records that somebody else holds, and until when by the twin's clock."""
    lock_rate: float = 0.0
    """The share of rows that find their record locked by chance."""
    chance: random.Random = field(default_factory=lambda: random.Random(7))  # noqa: S311  (the same luck each time)
    _known: dict[str, dict[str, Any]] = field(default_factory=dict)

    def put(self, kind: str, entity: str, name: str, rule: Mapping[str, Any] | None) -> None:
        """Sets up a rule of a kind (`validation`, `duplicates`, `trigger`) by name, or takes it away."""
        kept: dict[str, Any] = self.store.get(kind, entity) or {}
        if rule is None:
            kept.pop(name, None)
        else:
            kept[name] = dict(rule)
        self.store.put(kind, entity, kept)
        self._known.clear()

    def validations(self, entity: str) -> list[Validation]:
        """The validation rules of an object."""

        def made(rule: Mapping[str, Any]) -> Validation:
            when = parse(" ".join(("SELECT Id FROM", entity, "WHERE", rule["when"]))).where
            assert when is not None
            return Validation(when, rule["message"], tuple(rule.get("fields") or ()))

        return [made(each) for each in self._of("validation", entity)]

    def duplicates(self, entity: str) -> list[Duplicates]:
        """The duplicate rules of an object."""
        return [Duplicates(tuple(each["fields"]), each["action"]) for each in self._of("duplicates", entity)]

    def triggers(self, entity: str) -> list[Trigger]:
        """The triggers of an object."""
        return [Trigger(each["touch"], each.get("sets") or {}) for each in self._of("trigger", entity)]

    def lock_problem(self, record: str, masters: Collection[str]) -> Problem | None:
        """UNABLE_TO_LOCK_ROW where somebody holds the record or a master of it, or where chance has it so."""
        for each in (record, *masters):
            until = self.locked.get(each)
            if until is not None:
                if until > self.clock.seconds():
                    return Problem("UNABLE_TO_LOCK_ROW", LOCKED.format(each))
                del self.locked[each]
        if self.lock_rate and self.chance.random() < self.lock_rate:
            return Problem("UNABLE_TO_LOCK_ROW", LOCKED.format(record))
        return None

    def broken(self, rules: Sequence[Validation], record: Mapping[str, Any]) -> list[Problem]:
        """The validation rules that a record as it would be does not pass."""
        return [
            Problem("FIELD_CUSTOM_VALIDATION_EXCEPTION", each.message, each.fields)
            for each in rules
            if holds(each.when, record, self.clock.now().date())
        ]

    def _of(self, kind: str, entity: str) -> list[dict[str, Any]]:
        known = self._known.get(kind)
        if known is None:
            known = self._known[kind] = self.store.all(kind)
        return list((known.get(entity) or {}).values())


def holds(condition: Condition, record: Mapping[str, Any], today: date) -> bool:
    """Whether a record, by field name, meets a condition over its own fields."""
    if isinstance(condition, Not):
        return not holds(condition.part, record, today)
    if isinstance(condition, Both):
        found = (holds(each, record, today) for each in condition.parts)
        return all(found) if condition.word == "AND" else any(found)
    return _meets(condition, record.get(condition.path.parts[-1]), today)


def _meets(one: Comparison, have: Any, today: date) -> bool:
    if one.operator in {"IN", "NOT IN"}:
        several = one.value if isinstance(one.value, tuple) else ()
        return any(_equal(have, _kept(each)) for each in several) is (one.operator == "IN")
    if isinstance(one.value, Period):
        first, after = (each.isoformat() for each in days_of(one.value, today))
        inside = have is not None and first <= str(have)[:10] < after
        return inside if one.operator == "=" else not inside
    want = _kept(one.value)  # type: ignore[arg-type]
    if one.operator in {"=", "!="}:
        return _equal(have, want) is (one.operator == "=")
    if have is None or want is None:
        return False
    if one.operator == "LIKE":
        pattern = (
            str(want).replace("[", "[[]").replace("*", "[*]").replace("?", "[?]").replace("%", "*").replace("_", "?")
        )
        return fnmatch.fnmatchcase(str(have).casefold(), pattern.casefold())
    signs = {"<": have < want, "<=": have <= want, ">": have > want, ">=": have >= want}
    return bool(signs[one.operator])


def _equal(have: Any, want: Any) -> bool:
    if isinstance(have, str) and isinstance(want, str):
        return have.casefold() == want.casefold()
    return bool(have == want)


def _kept(value: Value) -> Any:
    if isinstance(value, datetime):
        return written(value)
    if isinstance(value, date):
        return value.isoformat()
    return value
