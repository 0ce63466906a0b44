"""How changes name their records: by id, or by a unique external id, which alone can name what is not there yet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from connectors.salesforce.schema import KEY_FIELD
from hub.sdk import Changes, Mode, UnexpectedError

OPERATIONS: Mapping[Mode, str] = {Mode.UPDATE: "update", Mode.UPSERT: "upsert", Mode.CREATE: "insert"}
"""What each mode is called by a bulk job."""
_SUFFIX = "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"


@dataclass(frozen=True, slots=True)
class Naming:
    """One way to write to an object: `key` is the field that every record is named by."""

    entity: str
    mode: Mode
    key: str

    @classmethod
    def of(cls, changes: Changes) -> Naming:
        """As the changes have it. UnexpectedError where new records were to be named by the org's own ids."""
        names = [each.name for each in changes.frame.schema["_key"].fields]  # type: ignore[attr-defined]
        made = cls(changes.entity, changes.mode, names[0])
        if len(names) != 1 or (made.by_id and made.mode is not Mode.UPDATE):
            raise UnexpectedError(f"{changes.entity} takes no {changes.mode.value} by {', '.join(names)}")
        return made

    @property
    def by_id(self) -> bool:
        """Whether the org's own id is the key."""
        return self.key == KEY_FIELD

    def collection(self, root: str) -> tuple[str, str]:
        """Method and address of a collection. An external id stands in its record, never in an address."""
        whole = f"{root}/composite/sobjects"
        if self.mode is Mode.UPSERT:
            return "PATCH", f"{whole}/{self.entity}/{self.key}"
        return ("POST" if self.mode is Mode.CREATE else "PATCH"), whole

    def job(self) -> dict[str, str]:
        """What a bulk job is told of it."""
        named = {"externalIdFieldName": self.key} if self.mode is Mode.UPSERT else {}
        return {"object": self.entity, "operation": OPERATIONS[self.mode], **named}

    def same(self, key: str) -> str:
        """Equal for keys that may be one record's: the org may tell external ids apart without regard to case."""
        return key if self.by_id else key.casefold()


def whole_id(text: str) -> str:
    """An id of 15 characters, which differ by case alone, in the form of 18 that the org answers with; else itself."""
    if len(text) != 15 or not (text.isascii() and text.isalnum()):
        return text
    parts = (text[start : start + 5] for start in (0, 5, 10))
    return text + "".join(
        _SUFFIX[sum(1 << place for place, each in enumerate(part) if each.isupper())] for part in parts
    )
