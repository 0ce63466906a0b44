"""A pytest plugin: makes declared gaps strict, refuses gaps that name no test, and records what each stand-in did.

`--conformance-record` writes the outcomes of this session beside each connector (see `record`).
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from hub.sdk import Entity, RejectedError, UnauthorizedError, UnavailableError, UnexpectedError
from hub.sdk.testing.harness import Harness
from hub.sdk.testing.record import Outcome, Outcomes, code_digest, describe, folder_of, load, save, suite_folder

pytest.register_assert_rewrite("hub.sdk.testing.suite")

ALLOWED = (AssertionError, UnavailableError, UnauthorizedError, RejectedError, UnexpectedError)
"""All that a gap may fail by: anything else is a fault of the connector or the harness that no gap covers."""
PREFIXES = ("ours:", "theirs:")
GAP = pytest.StashKey[str]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("conformance").addoption(
        "--conformance-record", action="store_true", help="write conformance.json beside each connector under test"
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--conformance-record"):
        config.pluginmanager.register(Recorder(), "conformance-recorder")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks each gap as a strict expected failure; a gap that is not one stops the session."""
    for each in {id(cls): cls for cls in map(_class_of, items) if cls is not None}.values():
        _refuse_bad_gaps(each)
    for item in items:
        cls = _class_of(item)
        reason = None if cls is None else cls.harness_class.gaps.get(_name_of(item))
        if reason is not None:
            item.stash[GAP] = reason
            item.add_marker(pytest.mark.xfail(reason=reason, strict=True, raises=ALLOWED))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A gap covers the test alone: not its set-up, and not a test that is skipped anyway."""
    report = yield
    cls = _class_of(item)
    if cls is None:
        return report
    if GAP in item.stash and report.skipped:
        expected = hasattr(report, "wasxfail")
        if expected and report.when != "call":
            report.outcome = "failed"
            report.longrepr = f"the stand-in itself failed, which no gap covers: {report.longrepr}"
            del report.wasxfail
        elif not expected and report.when == "call":
            report.outcome = "failed"
            report.longrepr = "this gap is declared for a test that is skipped anyway: take the entry out"
    if report.when == "call" or report.failed:
        report.user_properties.append(("conformance", _told(item, cls, report)))
    return report


def _class_of(item: pytest.Item) -> Any:
    """The author's class, of which the item is a test of the suite; None for any other test."""
    cls = getattr(item, "cls", None)
    harness = getattr(cls, "harness_class", None)
    return cls if isinstance(harness, type) and issubclass(harness, Harness) else None


def _name_of(item: pytest.Item) -> str:
    return str(getattr(item, "originalname", None) or item.name)


def _refuse_bad_gaps(cls: Any) -> None:
    where = f"{cls.harness_class.__name__}.gaps"
    for name, reason in cls.harness_class.gaps.items():
        if not name.startswith("test_") or not callable(getattr(cls, name, None)):
            raise pytest.UsageError(f"{where} names {name!r}, which is no test of the suite")
        if not reason.startswith(PREFIXES) or not reason.partition(":")[2].strip():
            raise pytest.UsageError(f"{where}[{name!r}] needs a reason that begins with 'ours: ' or 'theirs: '")


def _told(item: pytest.Item, cls: Any, report: pytest.TestReport) -> dict[str, Any]:
    """What crosses from a worker of a parallel session to the one who writes it down: plain texts."""
    harness: type[Harness] = cls.harness_class
    gap = report.skipped and hasattr(report, "wasxfail")
    outcome: Outcome = "gap" if gap else report.outcome
    reason = item.stash[GAP] if gap else (str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else "")
    folder = str(folder_of(harness.spec))
    entity = getattr(getattr(item, "funcargs", {}).get("harness"), "entity", None)
    return {
        "folder": folder,
        "stand_in": harness.stand_in,
        "kind": harness.kind,
        "entity": describe(entity) if isinstance(entity, Entity) else {},
        "test": _name_of(item),
        "outcome": outcome,
        "reason": reason.removeprefix("Skipped: "),
    }


@dataclass
class Recorder:
    """Gathers the outcomes of a session and writes them once, in the process that leads it."""

    told: dict[tuple[str, str], list[dict[str, Any]]] = field(default_factory=dict)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        for name, each in report.user_properties:
            if name == "conformance" and isinstance(each, dict):
                self.told.setdefault((each["folder"], each["stand_in"]), []).append(each)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if hasattr(session.config, "workerinput"):
            return
        for (folder, stand_in), told in sorted(self.told.items()):
            before = load(Path(folder)).get(stand_in)
            save(Path(folder), {stand_in: self._outcomes(Path(folder), told, before)})

    def _outcomes(self, folder: Path, told: list[dict[str, Any]], before: Outcomes | None) -> Outcomes:
        """What this session saw; beside it, where the suite was run in parts, what the same code showed before."""
        code, suite = code_digest(folder), code_digest(suite_folder())
        kept = before if before is not None and (before.code, before.suite) == (code, suite) else None
        made = self._of_session(told, code, suite)
        return made if kept is None else replace(made, tests={**kept.tests, **made.tests})

    def _of_session(self, told: list[dict[str, Any]], code: str, suite: str) -> Outcomes:
        tests: dict[str, tuple[Outcome, str]] = {}
        for each in told:
            known = tests.get(each["test"])
            if known is None or known[0] != "failed":
                tests[each["test"]] = (each["outcome"], each["reason"])
        seen: dict[str, Any] = next((each["entity"] for each in told if each["entity"]), {})
        return Outcomes(kind=told[0]["kind"], code=code, suite=suite, tests=tests, **seen)
