"""The kit is itself tested: each faulty copy of the correct connector is caught by the test named for its fault."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hub.sdk import Context
from hub.sdk.testing.record import suite_tests
from hub.sdk.testing.stand_in.harness import StandInHarness
from hub.sdk.testing.suite import ConformanceSuite, faults
from tests.hub.sdk.mutants import MUTANTS, Mutant, let_go


def harness_of(mutant: type[Mutant], folder: Path) -> StandInHarness:
    harness = StandInHarness(folder)
    harness.spec = replace(harness.spec, factory=f"{mutant.__module__}:{mutant.__qualname__}")
    return harness


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(faults, "SLACK", 0.15)
    yield
    let_go()


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda each: each.__name__)
def test_each_mutant_is_caught_by_the_test_named_for_it(
    mutant: type[Mutant], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    test = getattr(ConformanceSuite(), mutant.caught_by)
    given = {"harness": harness_of(mutant, tmp_path), "tmp_path": tmp_path, "monkeypatch": monkeypatch}
    caught: BaseException | None = None
    try:
        test(**{name: given[name] for name in inspect.signature(test).parameters})
    except pytest.skip.Exception as skipped:
        pytest.fail(f"{mutant.caught_by} was skipped: {skipped}")
    except Exception as error:  # noqa: BLE001  whatever the mutant breaks, the named test must not pass
        caught = error
    assert caught is not None, f"{mutant.__name__} got past {mutant.caught_by}"


def test_every_mutant_is_a_working_connector_otherwise(tmp_path: Path) -> None:
    for mutant in MUTANTS:
        made = mutant(StandInHarness(tmp_path).config(), Context())
        assert made.spec.name == "stand_in"


def test_there_are_mutants_for_every_group() -> None:
    groups = {suite_tests()[each.caught_by] for each in MUTANTS}
    assert groups == set(suite_tests().values())
    assert len(MUTANTS) >= 20
