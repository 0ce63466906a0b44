"""Requests gathered into pages: each caller gets its own records' decisions, and nobody is failed by another's."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import polars as pl
import pytest

from hub.audit import Action
from hub.models import FeaturesError, ModelVersion, Registry, Scorer
from hub.runs import Asking, BadRequestError, Gathering, Scoring
from tests.hub.runs.site import Site

Make = Callable[..., Site]


class Number(Asking[int]):
    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


class Doubling:
    """Answers twice the number; counts its batches, holds the first until told, and leaves what is above 100 over."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.entered, self.go = threading.Event(), threading.Event()

    def carry(self, batch: Sequence[Number]) -> Sequence[Number]:
        self.batches.append([each.number for each in batch])
        self.entered.set()
        assert self.go.wait(30)
        if any(each.number == 13 for each in batch):
            raise ValueError("13 is refused")
        chosen, left = batch[:100], batch[100:]
        for each in chosen:
            each.settle(2 * each.number)
        return left


def test_who_comes_while_one_is_at_work_rides_together_and_each_gets_its_own() -> None:
    work = Doubling()
    gathering = Gathering(work.carry, threads=1, name="test")
    first = gathering.ask("a", Number(1))
    assert work.entered.wait(30)
    others = [gathering.ask("a", Number(at)) for at in range(20, 150)]
    assert gathering.waiting("a") == 130
    work.go.set()
    assert first.answer.result(30) == 2
    assert [each.answer.result(30) for each in others] == [2 * at for at in range(20, 150)]
    assert [len(each) for each in work.batches] == [1, 130, 30]
    assert gathering.waiting("a") == 0


def test_what_a_batch_raises_is_told_to_all_in_it_and_to_nobody_after() -> None:
    work = Doubling()
    work.go.set()
    gathering = Gathering(work.carry, threads=1, name="test")
    with pytest.raises(ValueError, match="13"):
        gathering.ask("a", Number(13)).answer.result(30)
    assert gathering.ask("a", Number(14)).answer.result(30) == 28


class Watched:
    """A scorer that counts the rows of its calls, holds the first until told, and refuses a row whose x is 13."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer
        self.calls: list[int] = []
        self.entered, self.go = threading.Event(), threading.Event()

    def predict(self, features: pl.DataFrame) -> pl.DataFrame:
        self.calls.append(features.height)
        self.entered.set()
        assert self.go.wait(30)
        if (features["x"] == 13).any():
            raise FeaturesError("x: 13 is refused")
        return self._scorer.predict(features)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._scorer, name)


@pytest.fixture
def site(make_site: Make, monkeypatch: pytest.MonkeyPatch) -> tuple[Site, Watched]:
    site = make_site(4)
    load = site.hub.registry.load
    watched = Watched(load(site.hub.registry.get("risk")))

    def loaded(_registry: Registry, _version: ModelVersion) -> Any:
        return watched

    monkeypatch.setattr(Registry, "load", loaded)
    return site, watched


def record(key: str, x: float) -> dict[str, Any]:
    return {"ID": key, "X": x, "Y": 1.0, "LIVES": 1}


def _gathered(scoring: Scoring, count: int) -> None:
    pause = threading.Event()
    while scoring._gathering.waiting("records risk") < count:
        pause.wait(0.001)


def test_requests_that_come_while_one_is_scored_ride_together_and_each_gets_its_own_rows(
    site: tuple[Site, Watched],
) -> None:
    made, watched = site
    scoring = Scoring(made.hub)
    first = scoring.score("risk", [record("first", 1)], "service:first")
    assert watched.entered.wait(30)
    wanted = {f"service:{at}": [record(f"{at}/{n}", at + n / 10) for n in range(1 + at % 3)] for at in range(20, 52)}
    others = {actor: scoring.score("risk", records, actor) for actor, records in wanted.items()}
    _gathered(scoring, 32)
    watched.go.set()
    assert first.result(30).rows["_key"].to_list() == [{"ID": "first"}]
    for actor, records in wanted.items():
        answer = others[actor].result(30)
        assert [each["ID"] for each in answer.rows["_key"]] == [each["ID"] for each in records]
        assert answer.rows["f.x"].to_list() == [each["X"] for each in records]
        stored = made.hub.log.frame(answer.segments[0].id)
        for at, (segment, row) in enumerate(answer.places()):
            if at < len(records):
                assert stored[row]["_key"].to_list() == answer.rows[at]["_key"].to_list()
                assert segment.root == made.hub.log.segment(segment.id).root
    assert watched.calls == [1, sum(map(len, wanted.values()))]
    told = {each.event.actor: each.event.detail for each in made.events(Action.SCORE_REQUEST)}
    assert {actor: told[actor]["records"] for actor in wanted} == {actor: len(each) for actor, each in wanted.items()}
    assert {told[actor]["row"] for actor in wanted} == {others[actor].result().first for actor in wanted}
    assert made.hub.audit.verify().ok


def test_a_request_that_fails_fails_alone(site: tuple[Site, Watched]) -> None:
    made, watched = site
    scoring = Scoring(made.hub)
    first = scoring.score("risk", [record("first", 1)], "service:a")
    assert watched.entered.wait(30)
    good = [scoring.score("risk", [record(f"good {at}", at)], "service:a") for at in range(5)]
    bad = scoring.score("risk", [record("bad", 13)], "service:a")
    strange = scoring.score("risk", [record("strange", 1) | {"WEIGHT": 80}], "service:a")
    wrong = scoring.score("risk", [record("wrong", 1) | {"X": "much"}], "service:a")
    more = [scoring.score("risk", [record(f"more {at}", at)], "service:a") for at in range(5)]
    _gathered(scoring, 13)
    watched.go.set()
    first.result(30)
    assert [each.result(30).rows["f.x"].to_list() for each in good] == [[float(at)] for at in range(5)]
    assert [each.result(30).rows["f.x"].to_list() for each in more] == [[float(at)] for at in range(5)]
    with pytest.raises(FeaturesError):
        bad.result(30)
    for each in (strange, wrong):
        with pytest.raises(BadRequestError):
            each.result(30)
    assert made.decisions() == 11


def test_two_requests_for_one_record_are_two_decisions_in_the_order_they_came(site: tuple[Site, Watched]) -> None:
    made, watched = site
    scoring = Scoring(made.hub)
    first = scoring.score("risk", [record("first", 1)], "service:a")
    assert watched.entered.wait(30)
    same = [scoring.score("risk", [record("same", at), record(f"other {at}", at)], "service:a") for at in range(3)]
    _gathered(scoring, 3)
    watched.go.set()
    first.result(30)
    answers = [each.result(30) for each in same]
    assert [each.rows["f.x"].to_list() for each in answers] == [[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]]
    segments = [each.segments[0].id for each in answers]
    assert segments == sorted(set(segments))
    stands = made.standing("same")
    assert stands["segment"] == segments[-1]
    chain = made.hub.log.frame(segments[-1])["_previous"].to_list()[answers[-1].first]
    assert chain["segment"] == segments[1]
