"""The guard: whatever is outside the grant never reaches the far side, and nothing unasked for comes back."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import polars as pl
import pytest

from hub.access import Actor, ActorKind
from hub.connections import Connections, GrantError, GuardedConnection
from hub.sdk import (
    AllOf,
    AnyOf,
    Changes,
    Compare,
    Cursor,
    Field,
    FieldType,
    Grant,
    Mode,
    Operator,
    Secret,
    Selection,
    UnexpectedError,
)
from hub.sdk.types import RESERVED, RESULT_SCHEMA
from tests.hub.connections import memory

GRANT = Grant(
    reads={"Lead": frozenset({"Id", "Email"})},
    writes={"Lead": frozenset({"Score"})},
    modes={"Lead": frozenset({Mode.UPDATE})},
)
GOOD = Selection("Lead", ("Id", "Email"))


class NoJournal:
    """Notes nothing."""

    def note(self, handle: str) -> None: ...

    def last(self) -> str | None:
        return None


@pytest.fixture
def opened(connections: Connections) -> Iterator[GuardedConnection]:
    anna = Actor(ActorKind.HUMAN, "anna")
    connections.create("crm", "memory", {"host": "x"}, {"password": Secret("x")}, anna)
    with connections.open("crm", GRANT) as guarded:
        yield guarded


def changes(*fields: str, mode: Mode = Mode.UPDATE, entity: str = "Lead", **more: pl.Series) -> Changes:
    frame = pl.DataFrame(
        {
            "_key": [{"Id": 1}, {"Id": 2}],
            "_version": pl.Series([None, None], dtype=pl.String),
            "_before": [{"Score": 1}, {"Score": 2}],
            "_clear": pl.Series([[], []], dtype=pl.List(pl.String)),
            **{name: [5, 6] for name in fields},
        }
    )
    return Changes(entity, mode, fields, frame.with_columns(**more))


READS = {
    "another entity": (Selection("Contact", ("Id",)), "to read Contact"),
    "a field not granted": (Selection("Lead", ("Id", "Salary")), "to read Salary of Lead"),
    "a field that does not exist": (Selection("Lead", ("Id", "Email; drop table")), "to read Email; drop table of"),
    "a filter on a field not granted": (
        Selection("Lead", ("Id",), where=Compare("Salary", Operator.GT, 1000)),
        "to read Salary of Lead",
    ),
    "a filter hidden in a tree": (
        Selection(
            "Lead",
            ("Id",),
            where=AllOf((Compare("Id", Operator.GT, 0), AnyOf((Compare("Salary", Operator.IS_NULL),)))),
        ),
        "to read Salary of Lead",
    ),
    "an order by a field not granted": (Selection("Lead", ("Id",), changed_by="Salary"), "to read Salary of Lead"),
    "two fields not granted": (Selection("Lead", ("Salary", "Band")), "to read Band, Salary of Lead"),
}
CALLS: dict[str, Callable[[GuardedConnection, Selection], object]] = {
    "read": lambda guarded, selection: guarded.source().read(selection),  # type: ignore[union-attr]
    "lookup": lambda guarded, selection: guarded.source().lookup(selection, pl.DataFrame({"Id": [1]})),  # type: ignore[union-attr]
    "split": lambda guarded, selection: guarded.source().split(selection, 2),  # type: ignore[union-attr]
    "follow": lambda guarded, selection: guarded.live().follow(selection, after=None),  # type: ignore[union-attr]
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("wrong", READS)
def test_a_read_outside_the_grant_is_refused_before_the_far_side_hears_of_it(
    opened: GuardedConnection, far: memory.Far, call: str, wrong: str
) -> None:
    selection, missing = READS[wrong]
    with pytest.raises(GrantError, match=f"the grant on connection crm lacks the right {missing}"):
        CALLS[call](opened, selection)
    assert far.calls == []


def test_a_lookup_by_a_field_not_granted_is_refused(opened: GuardedConnection, far: memory.Far) -> None:
    source = opened.source()
    assert source is not None
    with pytest.raises(GrantError, match="to read Salary of Lead"):
        source.lookup(GOOD, pl.DataFrame({"Salary": [1]}))
    assert far.calls == []


WRITES = {
    "another entity": (changes("Score", entity="Contact"), "to write Contact"),
    "a field not granted": (changes("Band"), "to write Band of Lead"),
    "a field that may only be read": (changes("Score", "Email"), "to write Email of Lead"),
    "a mode not granted": (changes("Score", mode=Mode.UPSERT), "the mode upsert on Lead"),
    "a creation": (changes("Score", mode=Mode.CREATE), "the mode create on Lead"),
    "a column smuggled into the frame": (changes("Score", Band=pl.Series(["a", "b"])), "to write Band of Lead"),
    "a field cleared that is not granted": (
        changes("Score", _clear=pl.Series([["Score"], ["Band"]])),
        "to write Band of Lead",
    ),
    "a condition on a field not granted": (
        changes("Score", _before=pl.Series([{"Salary": 1}, {"Salary": 2}])),
        "to write Salary of Lead",
    ),
}


@pytest.mark.parametrize("wrong", WRITES)
def test_a_write_outside_the_grant_is_refused_before_the_far_side_hears_of_it(
    opened: GuardedConnection, far: memory.Far, wrong: str
) -> None:
    destination = opened.destination()
    assert destination is not None
    asked, missing = WRITES[wrong]
    with pytest.raises(GrantError, match=f"lacks the right {missing}"):
        destination.write(asked, journal=NoJournal())
    assert far.calls == []


def test_only_fields_that_may_be_written_are_made(opened: GuardedConnection, far: memory.Far) -> None:
    provisioner = opened.provisioner()
    assert provisioner is not None
    with pytest.raises(GrantError, match="to write Email of Lead"):
        provisioner.provision("Lead", [Field("Email", FieldType.TEXT)])
    assert far.calls == []
    provisioner.provision("Lead", [Field("Score", FieldType.INTEGER)])
    assert far.calls == [("provision", ["Score"])]


def test_an_empty_grant_opens_nothing(connections: Connections, far: memory.Far) -> None:
    anna = Actor(ActorKind.HUMAN, "anna")
    connections.create("crm", "memory", {"host": "x"}, {"password": Secret("x")}, anna)
    with connections.open("crm", Grant()) as guarded:
        source, destination = guarded.source(), guarded.destination()
        assert source is not None
        assert destination is not None
        with pytest.raises(GrantError):
            source.read(GOOD)
        with pytest.raises(GrantError):
            destination.write(changes("Score"), journal=NoJournal())
    assert far.calls == []


def test_what_is_granted_passes(opened: GuardedConnection, far: memory.Far) -> None:
    source, destination, live = opened.source(), opened.destination(), opened.live()
    assert source is not None
    assert destination is not None
    assert live is not None
    assert len(list(source.read(GOOD))) == 1
    assert len(list(source.lookup(GOOD, pl.DataFrame({"Email": ["a"]})))) == 1
    assert len(source.split(GOOD, 3)) == 3
    assert len(list(live.follow(GOOD, after=None))) == 1
    live.acknowledge(Cursor({"at": 1}))
    cleared = changes("Score", _clear=pl.Series([["Score"], []], dtype=pl.List(pl.String)))
    assert destination.write(cleared, journal=NoJournal()).frame["state"].to_list() == ["applied"] * 2
    unknown_before = changes("Score", _before=pl.Series([None, None], dtype=pl.Null))
    assert len(destination.write(unknown_before, journal=NoJournal())) == 2
    assert opened.plan() == "grant ['Lead']"
    assert opened.plan("hub_scores") == "grant ['Lead'] to hub_scores"
    far.excess = ("delete Lead",)
    assert opened.verify().excess == ("delete Lead",)
    assert opened.check().product == "Memory 1.0"
    assert opened.entities() == (memory.LEAD,)
    assert {name for name, _ in far.calls} == {"read", "lookup", "split", "follow", "acknowledge", "write"}


@pytest.mark.parametrize("call", ["read", "lookup", "follow"])
def test_fields_that_were_not_asked_for_are_dropped(opened: GuardedConnection, far: memory.Far, call: str) -> None:
    far.extra = True
    (page,) = list(CALLS[call](opened, GOOD))  # type: ignore[call-overload]
    assert page.frame.columns == ["Id", "Email", *RESERVED]
    assert page.cursor == Cursor({"at": 2})
    assert page.gap == (call == "follow")


@pytest.mark.parametrize("lacking", ["Email", "_key", "_invalid"])
def test_a_page_that_lacks_a_column_is_refused(opened: GuardedConnection, far: memory.Far, lacking: str) -> None:
    far.lack = lacking
    source = opened.source()
    assert source is not None
    with pytest.raises(UnexpectedError, match=f"a page of Lead lacks {lacking}"):
        list(source.read(GOOD))


@pytest.mark.parametrize(
    "parts",
    [
        [Selection("Lead", ("Id", "Email", "Salary"))],
        [Selection("Contact", ("Id", "Email"))],
        [Selection("Lead", ("Id", "Email"), where=Compare("Id", Operator.GT, 1))],
        [GOOD] * 3,
    ],
)
def test_a_part_is_the_whole_but_for_its_part(
    opened: GuardedConnection, far: memory.Far, parts: list[Selection]
) -> None:
    far.parts = parts
    source = opened.source()
    assert source is not None
    with pytest.raises(UnexpectedError):
        source.split(GOOD, 2)


RESULT = pl.DataFrame({"state": ["applied"], "field": [None], "reason": [None], "version": [None]}, RESULT_SCHEMA)


@pytest.mark.parametrize(
    ("results", "said"),
    [
        (RESULT, "2 changes of Lead have 1 results"),
        (pl.concat([RESULT] * 3), "2 changes of Lead have 3 results"),
        (pl.concat([RESULT] * 2).drop("version"), "do not have the columns"),
        (pl.concat([RESULT] * 2).with_columns(state=pl.lit("fine")), "a state that is none of"),
        (pl.concat([RESULT] * 2).with_columns(state=pl.lit(None, pl.String)), "a state that is none of"),
    ],
)
def test_results_that_do_not_fit_the_changes_are_refused(
    opened: GuardedConnection, far: memory.Far, results: pl.DataFrame, said: str
) -> None:
    far.results = results
    destination = opened.destination()
    assert destination is not None
    with pytest.raises(UnexpectedError, match=said):
        destination.write(changes("Score"), journal=NoJournal())
