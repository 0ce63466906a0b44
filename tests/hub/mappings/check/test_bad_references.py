"""A drawer of documents that name what does not exist or does not fit: each gives its own sentence and line."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hub.mappings.check import compile_mapping
from hub.mappings.document import read_document
from hub.mappings.types import Compiled, MappingError, Problem
from hub.models import ModelVersion
from hub.sdk import Entity

Problems = Callable[..., list[str]]

UPSERT = """\
write:
  mode: upsert
  connection: erp
  entity: ScoreTable
  key: { System: "'crm'", Customer: Id }
  set: { Value: score }
"""

DRAWER: dict[str, tuple[str, str, list[str]]] = {
    "an unknown connection": (
        "connection: crm",
        "connection: cmr",
        ["line 8: read.connection: there is no connection cmr; did you mean crm?"],
    ),
    "an unknown entity": (
        "entity: Lead",
        "entity: Leads",
        ["line 9: read.entity: connection crm has no entity Leads; did you mean Lead?"],
    ),
    "a field that cannot tell what changed": (
        "changed_by: Modified",
        "changed_by: CreatedDate",
        ["line 11: read.changed_by: CreatedDate cannot tell what changed; use Modified"],
    ),
    "an unknown cursor field": (
        "changed_by: Modified",
        "changed_by: Modifed",
        ["line 11: read.changed_by: Lead has no field Modifed; did you mean Modified?"],
    ),
    "a where that is no condition": (
        '"IsConverted = false"',
        '"Employees + 1"',
        [("line 10: read.where: the expression gives integer, but boolean is wanted here: compare it with something")],
    ),
    "an unknown field": (
        "coalesce(Employees,",
        "coalesce(Employes,",
        ["line 29: features.company_size: unknown field Employes: did you mean Employees? (at character 10)"],
    ),
    "an unknown function": (
        "coalesce(Industry,",
        "coalesc(Industry,",
        ["line 30: features.industry: unknown function coalesc: did you mean coalesce? (at character 1)"],
    ),
    "an unknown field of a lookup": (
        "account.Seats",
        "account.Seat",
        ["line 29: features.company_size: unknown field account.Seat: did you mean account.Seats? (at character 29)"],
    ),
    "an unknown entity of a lookup, and no shadow of it": (
        "entity: Account",
        "entity: Acount",
        ["line 17: lookups.account.entity: connection crm has no entity Acount; did you mean Account?"],
    ),
    "an unknown field matched": (
        "match: { CustomerNo: AccountNo }",
        "match: { Customer: AccountNo }",
        ["line 24: lookups.orders.match.Customer: SalesOrder has no field Customer; did you mean CustomerNo?"],
    ),
    "a match of unlike types": (
        "match: { CustomerNo: AccountNo }",
        "match: { CustomerNo: Employees }",
        [
            (
                "line 24: lookups.orders.match.CustomerNo: the expression gives integer, but CustomerNo holds text;"
                " cast one of them"
            )
        ],
    ),
    "an aggregate of an unknown field": (
        "sum(Amount)",
        "sum(Amout)",
        ["line 26: lookups.orders.aggregate.spent: unknown field Amout: did you mean Amount? (at character 5)"],
    ),
    "an order over an unknown field": (
        "take: one",
        'take: first\n    order: "Sinze desc"',
        [
            (
                "line 20: lookups.account.order: order takes fields such as CreatedDate desc, and Sinze is none:"
                " did you mean Since?"
            )
        ],
    ),
    "an unknown model": (
        "name: lead_conversion",
        "name: lead_conversions",
        ["line 39: model.name: there is no model lead_conversions champion; registered are: lead_conversion"],
    ),
    "a feature that the model does not know": (
        "  spent:",
        "  spend:",
        [
            "line 28: features: lead_conversion 3 needs an input that no feature gives: spent",
            "line 32: features.spend: is no input of lead_conversion 3; did you mean spent?",
        ],
    ),
    "text where the model takes a number": (
        '"coalesce(orders.spent, 0)"',
        "Country",
        [
            (
                "line 32: features.spent: the expression gives text, but real is wanted here:"
                " use cast(… as real) if that is meant"
            )
        ],
    ),
    "a fraction where the model takes a whole number": (
        "coalesce(Employees, account.Seats, 0)",
        "Employees / 2",
        [
            (
                "line 29: features.company_size: the expression gives real, but integer is wanted here:"
                " use round(…), floor(…) or ceil(…)"
            )
        ],
    ),
    "an expectation of no feature": (
        "  industry: { in:",
        "  industri: { in:",
        ["line 36: expect.industri: there is no feature industri; did you mean industry?"],
    ),
    "a category that the model cannot score": (
        "[Banking, Retail, Unknown]",
        "[Banking, Retial]",
        ["line 36: expect.industry.in[1]: the model cannot score 'Retial'; did you mean Retail?"],
    ),
    "a number among text": (
        "[Banking, Retail, Unknown]",
        "[1, 2]",
        [
            "line 36: expect.industry.in[0]: industry is text, never the number 1",
            "line 36: expect.industry.in[1]: industry is text, never the number 2",
        ],
    ),
    "a decided name that is a feature": (
        '  band: "case',
        '  spent: "1"\n  band: "case',
        ["line 43: decide.spent: spent is the name of a feature already; choose another"],
    ),
    "a decided name that is an output": (
        '  band: "case',
        '  label: "1"\n  band: "case',
        ["line 43: decide.label: label is the name of an output of the model already; choose another"],
    ),
    "a name decided later": (
        '"round(100 * probability)"',
        '"round(100 * probability) + length(band)"',
        ["line 42: decide.score: unknown field band (at character 35)"],
    ),
    "a fallback of another type": (
        "set: { band: \"'Review'\" }",
        'set: { band: "1" }',
        [
            (
                "line 44: decide.fallback.set.band: the expression gives integer, but text is wanted here:"
                " use cast(… as text) if that is meant"
            )
        ],
    ),
    "a target field that does not exist": (
        "Band: band }",
        "Bund: band }",
        ["line 49: write.set.Bund: Lead has no field Bund; did you mean Band?"],
    ),
    "a read-only target": (
        "Band: band }",
        "Band: band, Locked: band }",
        [
            (
                "line 49: write.set.Locked: Locked of Lead is read-only for this connection; "
                "ask its administrator for the right to edit Lead.Locked"
            )
        ],
    ),
    "the key as a target": (
        "Band: band }",
        "Band: band, Id: band }",
        ["line 49: write.set.Id: Id is part of the key of Lead and is never written"],
    ),
    "text into a number": (
        "{ Score: score, Band: band }",
        "{ Score: band, Band: band }",
        ["line 49: write.set.Score: the expression gives text, but Score holds integer; use cast(… as …)"],
    ),
    "a value that the list of a field lacks": (
        "else 'Cold' end",
        "else 'Frozen' end",
        [
            (
                "line 49: write.set.Band: Band does not take 'Frozen', only Hot, Warm, Cold, Review; "
                "ask its administrator for this value, or give another"
            )
        ],
    ),
    "a text longer than its field": (
        "Band: band }",
        "Band: band, Grade: \"case when probability > 0.5 then 'A' else 'Unclear' end\" }",
        [
            (
                "line 49: write.set.Grade: 'Unclear' is longer than the 4 characters that Grade holds; "
                "ask its administrator for a longer field, or shorten the text"
            )
        ],
    ),
    "a number with more digits than its field": (
        "Band: band }",
        'Band: band, Ratio: "case when probability > 0.5 then 1 else 10 end" }',
        ["line 49: write.set.Ratio: 10 has more than the 1 digits that Ratio holds before the point"],
    ),
    "a fraction into a whole number": (
        "{ Score: score,",
        '{ Score: "case when probability > 0.5 then 0.5 else 1 end",',
        ["line 49: write.set.Score: 0.5 is no whole number, which Score holds; use round(…)"],
    ),
    "a difference of text": (
        "when_changed: { Score: 1 }",
        "when_changed: { Band: 1 }",
        ["line 51: write.when_changed.Band: Band holds text; a difference needs a number"],
    ),
    "a score that feeds itself": (
        '"coalesce(orders.spent, 0)"',
        '"coalesce(orders.spent, Score, 0)"',
        ["line 32: features.spent: reads Score, which this mapping writes: a score must not feed itself"],
    ),
    "a score that feeds itself through a lookup's key": (
        "match: { CustomerNo: AccountNo }",
        "match: { CustomerNo: Band }",
        [
            (
                "line 24: lookups.orders.match.CustomerNo: reads Band, which this mapping writes:"
                " a score must not feed itself"
            )
        ],
    ),
    "a selection that its own score moves": (
        '  where: "IsConverted = false"',
        '  where: "Score is null"\n  leaves: clear',
        ["line 10: read.where: reads Score, which this mapping writes: a score must not feed itself"],
    ),
}


@pytest.mark.parametrize("name", DRAWER)
def test_each_wrong_reference_gives_its_own_sentence_and_line(name: str, good: str, problems_of: Problems) -> None:
    old, new, expected = DRAWER[name]
    assert good.count(old) == 1
    assert problems_of(good.replace(old, new)) == expected


def test_the_column_of_an_expression_error_is_that_of_the_wrong_word(good: str, compiled_of: Problems) -> None:
    with pytest.raises(MappingError) as caught:
        compiled_of(good.replace("coalesce(Employees,", "coalesce(Employes,"))
    (problem,) = caught.value.problems
    line = good.replace("coalesce(Employees,", "coalesce(Employes,").splitlines()[problem.line - 1]
    assert line[problem.column - 1 :].startswith("Employes,")


def test_bounds_are_for_numbers(good: str, problems_of: Problems) -> None:
    text = good.replace("{ in: [Banking, Retail, Unknown], else: hold }", "{ min: 0 }")
    assert problems_of(text) == ["line 36: expect.industry.min: bounds are for numbers; industry is text"]


def test_a_lookup_of_the_same_entity_must_not_read_the_score(good: str, problems_of: Problems) -> None:
    text = (
        good.replace("entity: Account", "entity: Lead")
        .replace("match: { Domain:", "match: { Email:")
        .replace("account.Seats", "account.Score")
    )
    assert problems_of(text) == [
        "line 16: lookups.account: reads Score, which this mapping writes: a score must not feed itself"
    ]


def test_a_deadline_needs_a_fallback_that_does_without_the_model(good: str, problems_of: Problems) -> None:
    timed = good.replace("run:\n", "run:\n  deadline: 100ms\n")
    assert problems_of(timed) == []
    without = "".join(line for line in timed.splitlines(keepends=True) if "fallback" not in line)
    assert problems_of(without) == [
        "line 54: run.deadline: needs decide.fallback, which answers when the model has not in time"
    ]
    asking = timed.replace("set: { band: \"'Review'\" }", 'set: { band: "cast(label as text)" }')
    assert problems_of(asking) == [
        (
            "line 44: decide.fallback.set.band: uses label of the model, which has not answered at run.deadline;"
            " use features only"
        )
    ]


def test_a_field_of_another_published_mapping_is_refused(good: str, problems_of: Problems) -> None:
    taken = {("crm", "Lead", "Band"): "segment", ("crm", "Lead", "Score"): "lead_score"}
    assert problems_of(good, taken) == [
        "line 49: write.set.Band: Band of Lead is written by the published mapping segment already"
    ]


def test_reasons_belong_to_what_is_written(good: str, problems_of: Problems) -> None:
    (said,) = problems_of(good.replace('"round(100 * probability)"', '"length(reasons(2))"'))
    assert said.startswith("line 42: decide.score: reasons(n) is allowed only where outputs are written")


def test_an_entity_without_a_key_cannot_be_mapped(
    good: str, systems: Mapping[str, Sequence[Entity]], version: ModelVersion
) -> None:
    keyless = {**systems, "crm": [replace(each, key=()) for each in systems["crm"]]}
    with pytest.raises(MappingError) as caught:
        compile_mapping(read_document(good), keyless.__getitem__, lambda _name, _use: version)
    assert [str(each) for each in caught.value.problems] == [
        (
            "line 9: read.entity: Lead has no key, so a score could not find its record again;"
            " declare one on the connection"
        )
    ]


def upserting(good: str) -> str:
    """The good document with the score in a table of its own."""
    head, _, rest = good.partition("write:\n")
    return head + UPSERT + rest[rest.index("\nrun:") :]


def test_a_score_table_is_written_by_its_whole_key(good: str, compiled_of: Callable[..., Compiled]) -> None:
    compiled = compiled_of(upserting(good))
    assert not compiled.in_place
    assert compiled.key is not None
    assert list(compiled.key) == ["System", "Customer"]
    assert "Id" in compiled.fields
    assert "Score" not in compiled.fields
    assert compiled.grants["erp"].writes == {"ScoreTable": frozenset({"System", "Customer", "Value"})}
    assert compiled.grants["crm"].writes == {}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "{ System: \"'crm'\", Customer: Id }",
            "{ Customer: Id }",
            "line 51: write.key: lacks System of the key of ScoreTable",
        ),
        (
            "Customer: Id }",
            "Customer: Id, Note: Id }",
            "line 51: write.key.Note: Note is no key field of ScoreTable; its key is System, Customer",
        ),
        (
            "Customer: Id }",
            "Customer: IsConverted }",
            ("line 51: write.key.Customer: the expression gives boolean, but Customer holds text; use cast(… as …)"),
        ),
        (
            "mode: upsert",
            "mode: create",
            "line 48: write.mode: ScoreTable of connection erp takes update, upsert only, not create",
        ),
        (
            "entity: ScoreTable",
            "entity: ScoresTable",
            "line 50: write.entity: connection erp has no entity ScoresTable; did you mean ScoreTable?",
        ),
    ],
)
def test_a_target_of_its_own_is_judged_as_well(good: str, problems_of: Problems, old: str, new: str, said: str) -> None:
    text = upserting(good)
    assert text.count(old) == 1
    assert problems_of(text.replace(old, new)) == [said]


def test_problems_of_all_sections_are_told_at_once(good: str, problems_of: Problems) -> None:
    text = (
        good.replace("changed_by: Modified", "changed_by: Modifed")
        .replace("entity: Account", "entity: Acount")
        .replace("coalesce(Industry,", "coalesc(Industry,")
        .replace("Band: band }", "Bund: band }")
    )
    assert [each.partition(":")[0] for each in problems_of(text)] == ["line 11", "line 17", "line 30", "line 49"]


NAMES = ["Lead", "Id", "Email", "account.Seats", "score", "probability", "crm", "erp", "band", "Score", "(", "'", "1"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # constants and pure functions
@given(data=st.data())
def test_no_document_makes_the_check_fail_otherwise(
    good: str, compiled_of: Callable[..., Compiled], data: st.DataObject
) -> None:
    words = good.split(" ")
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(words) - 1))
        words[at] = data.draw(st.sampled_from(NAMES) | st.text(max_size=6) | st.sampled_from(words))
    problems: Sequence[Problem] = ()
    try:
        compiled_of(" ".join(words))
    except MappingError as error:
        problems = error.problems
    assert all(each.line >= 1 and each.path and each.message for each in problems)
