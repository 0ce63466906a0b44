"""What each connector supports and how far it is proven: computed from specs and recorded evidence, never claimed.

The ladder: *listed*, it has a spec; *verified*, some stand-in passed the whole suite of this very hub with this very
code and no undeclared gap; *proven*, that stand-in is a peer or a live account; *hardened*, and it has no gap of ours,
so every fault was thrown and met, or cannot be thrown by the far side's own nature.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from importlib.metadata import entry_points

from hub.sdk import Spec
from hub.sdk.testing.record import Outcomes, code_digest, folder_of, load, suite_folder, suite_tests


class Rung(IntEnum):
    """How far a connector is proven; more is more."""

    LISTED = 0
    VERIFIED = 1
    PROVEN = 2
    HARDENED = 3

    def __str__(self) -> str:
        return self.name.lower()


@dataclass(frozen=True)
class StandIn:
    """What one stand-in shows. `why` says what keeps it from the next rung; `groups` is group → (passed, of how many).

    `gaps` is test → reason; a test that was skipped because the type lacks what it is about is in `lacking`.
    """

    name: str
    kind: str
    rung: Rung
    why: str
    types: tuple[str, ...]
    modes: tuple[str, ...]
    conditional: bool
    incremental: bool
    groups: Mapping[str, tuple[int, int]]
    gaps: Mapping[str, str]
    lacking: Mapping[str, str]


@dataclass(frozen=True)
class Support:
    """One connector: what its spec names and what its stand-ins show. Its rung is that of its best stand-in."""

    name: str
    title: str
    kind: str
    roles: tuple[str, ...]
    rung: Rung
    why: str
    stand_ins: tuple[StandIn, ...]


def matrix(specs: Iterable[Spec] | None = None) -> list[Support]:
    """Every installed connector (entry points, group `hub.connectors`) or the given ones, by name."""
    found = specs if specs is not None else (each.load() for each in entry_points(group="hub.connectors"))
    return [support(each) for each in sorted(found, key=lambda spec: spec.name)]


def support(spec: Spec) -> Support:
    """What one connector shows, its evidence held against the code that is installed."""
    folder = folder_of(spec)
    code, suite = code_digest(folder), code_digest(suite_folder())
    shown = tuple(_stand_in(name, each, code, suite) for name, each in sorted(load(folder).items()))
    best = max(shown, key=lambda each: each.rung, default=None)
    rung, why = (Rung.LISTED, "no stand-in has been recorded") if best is None else (best.rung, best.why)
    return Support(spec.name, spec.title, spec.kind, tuple(sorted(spec.roles)), rung, why, shown)


def _stand_in(name: str, told: Outcomes, code: str, suite: str) -> StandIn:
    rung, why = _rung(told, code, suite)
    gaps = {test: reason for test, (outcome, reason) in sorted(told.tests.items()) if outcome == "gap"}
    lacking = {test: reason for test, (outcome, reason) in sorted(told.tests.items()) if outcome == "skipped"}
    seen = (told.types, told.modes, told.conditional, told.incremental)
    return StandIn(name, told.kind, rung, why, *seen, _groups(told), gaps, lacking)


def _groups(told: Outcomes) -> dict[str, tuple[int, int]]:
    """Passed tests of those that apply; what the type lacks does not count, a gap does."""
    groups: dict[str, tuple[int, int]] = {}
    for test, group in suite_tests().items():
        outcome = told.tests.get(test, ("failed", ""))[0]
        passed, asked = groups.get(group, (0, 0))
        groups[group] = (passed + (outcome == "passed"), asked + (outcome != "skipped"))
    return groups


def _rung(told: Outcomes, code: str, suite: str) -> tuple[Rung, str]:
    if told.code != code:
        return Rung.LISTED, "recorded with other code than is installed: record it again"
    if told.suite != suite:
        return Rung.LISTED, "recorded with another suite than is installed: record it again"
    missing = suite_tests().keys() - told.tests.keys()
    if missing:
        return Rung.LISTED, f"{len(missing)} tests of the suite were not run, {min(missing)} among them"
    failed = [test for test, (outcome, _) in told.tests.items() if outcome == "failed"]
    if failed:
        return Rung.LISTED, f"{len(failed)} tests failed, {min(failed)} among them"
    if not any(outcome == "passed" for outcome, _ in told.tests.values()):
        return Rung.LISTED, "no test passed"
    if told.kind == "fake":
        return Rung.VERIFIED, "a fake of our own is no proof: run the suite on a peer or a live account"
    ours = [test for test, (outcome, reason) in told.tests.items() if outcome == "gap" and reason.startswith("ours:")]
    if ours:
        return Rung.PROVEN, f"{len(ours)} gaps are ours, {min(ours)} among them"
    return Rung.HARDENED, ""
