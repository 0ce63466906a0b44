"""The formula fields that the twin computes; they are worked out when they are read, so they move without a stamp.

`TODAY() - DATEVALUE(CreatedDate)` is an age in days, `Account.Industry` a value of the parent, and
`SUM(Opportunity.AccountId.Amount)` a roll-up over the records whose reference leads here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from connectors.salesforce.twin.org.problems import RefusedError

_AGE = re.compile(r"TODAY\(\)\s*-\s*DATEVALUE\((\w+)\)")
_PARENT = re.compile(r"(\w+)\.(\w+)")
_ROLL_UP = re.compile(r"(COUNT|SUM|MIN|MAX)\((\w+)\.(\w+)\.(\w+)\)")


@dataclass(frozen=True, slots=True)
class Formula:
    """What is computed, and over which names."""

    kind: Literal["age", "parent", "roll-up"]
    path: tuple[str, ...]
    function: str = ""


def read_formula(text: str) -> Formula:
    """The formula of one of the three shapes. RefusedError for any other."""
    if found := _AGE.fullmatch(text.strip()):
        return Formula("age", (found[1],))
    if found := _PARENT.fullmatch(text.strip()):
        return Formula("parent", (found[1], found[2]))
    if found := _ROLL_UP.fullmatch(text.strip()):
        return Formula("roll-up", (found[2], found[3], found[4]), found[1])
    raise RefusedError("FIELD_INTEGRITY_EXCEPTION", f"the twin does not compute the formula {text}")
