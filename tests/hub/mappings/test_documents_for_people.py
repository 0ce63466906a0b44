"""What people are given to read: the specification, the explanation, differences and rights."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from hub.mappings import diff, diff_grants, explain, grant_text, read_document, spec
from hub.mappings.specification import duration_text
from hub.mappings.types import Compiled
from hub.sdk import Mode

Compile = Callable[..., Compiled]
NOW = datetime(2026, 4, 1, 12, tzinfo=UTC)


def test_the_grant_is_exact(good: str, compiled_of: Compile) -> None:
    grants = compiled_of(good).grants
    assert grants["crm"].reads == {
        "Lead": {
            *("Id", "IsConverted", "Modified", "Email", "AccountNo", "Employees", "Industry", "CreatedDate"),
            *("Score", "Band", "Why", "ScoredAt"),
        },
        "Account": {"Id", "Domain", "Seats"},
    }
    assert grants["crm"].writes == {"Lead": {"Score", "Band", "Why", "ScoredAt"}}
    assert grants["crm"].modes == {"Lead": {Mode.UPDATE}}
    assert grants["erp"].reads == {"SalesOrder": {"OrderNo", "CustomerNo", "Ordered", "Amount"}}
    assert grants["erp"].writes == {}


def test_only_used_columns_of_a_lookup_are_read(good: str, compiled_of: Compile) -> None:
    compiled = compiled_of(good)
    account, orders = compiled.lookups
    assert account.fields == ("Domain", "Seats")
    assert list(account.columns) == ["account.Seats"]
    assert orders.fields == ("CustomerNo", "Amount", "Ordered")
    assert list(orders.columns) == ["orders.n", "orders.spent"]


def test_lineage_follows_decisions_outputs_features_and_lookups(good: str, compiled_of: Compile) -> None:
    small = good.replace('"round(100 * probability)"', '"company_size + 1"').replace(
        '{ when: "confidence < 0.55", set: { band: "\'Review\'" }, because: low confidence }',
        '{ when: "days_open > 3", set: { band: "\'Review\'" }, because: old }',
    )
    lineage = compiled_of(small).lineage
    assert lineage["Score"] == {"crm/Lead.Employees", "crm/Lead.Email", "crm/Account.Seats", "crm/Account.Domain"}
    assert "crm/Lead.CreatedDate" in lineage["Band"]
    assert "erp/SalesOrder.Ordered" in lineage["Why"]
    assert lineage["ScoredAt"] == frozenset()


def test_the_specification_says_what_each_side_signs(good: str, compiled_of: Compile) -> None:
    compiled = compiled_of(good)
    told = spec(compiled)
    for line in (
        "# Integration specification: Lead score",
        "| model | lead_conversion version 3 (binary), used as champion |",
        "| crm | Lead | Employees | integer | feature company_size |",
        "| crm | Lead | AccountNo | text | lookup orders |",
        "`coalesce(Employees, account.Seats, 0)` | at least 0, at most 1,000,000 (else invalid) |",
        "| industry | Industry | `coalesce(Industry, 'Unknown')` | one of Banking, Retail, Unknown (else held) |",
        "Where `confidence < 0.55`, `band` is `'Review'` instead, because: low confidence.",
        "A score holds for 30 days; after that it is cleared.",
        "A run stops when more than 1 % of the last 1,000 written were rejected.",
        "- update `Lead`: `Band`, `Score`, `ScoredAt`, `Why`",
        "| ScoredAt | none: set by the hub |",
        f"The SHA-256 of this mapping's canonical form is `{compiled.document.digest}`.",
    ):
        assert line in told
    assert told == spec(compiled_of(good))


def test_a_pipe_in_an_expression_does_not_break_a_table(good: str, compiled_of: Compile) -> None:
    told = spec(compiled_of(good.replace("coalesce(Industry,", "coalesce(Industry || '',")))
    row = next(line for line in told.splitlines() if line.startswith("| industry |"))
    assert row.replace("\\|", "").count("|") == 5


def test_the_explanation_tells_who_filters_what(good: str, compiled_of: Compile) -> None:
    text = good.replace('"IsConverted = false"', "\"IsConverted = false and lower(Country) = 'de'\"")
    told = explain(compiled_of(text), NOW)
    system = [line for line in told.splitlines() if "the system filters" in line]
    hub = [line for line in told.splitlines() if "the hub filters" in line]
    assert any("IsConverted" in line for line in system)
    assert not any("Country" in line for line in system[:1])
    assert any("Country" in line for line in hub)
    assert "  days_open: integer = datediff('day', CreatedDate, now())  (moves with time)" in told
    assert "     expects one; a second match makes the record invalid" in told


def test_the_explanation_warns_of_what_moves_without_a_stamp(good: str, compiled_of: Compile) -> None:
    assert "refresh would catch that" not in explain(compiled_of(good), NOW)
    told = explain(compiled_of(good.replace("  refresh: 1d\n", "")), NOW)
    assert "note: days_open (time), lookup account, lookup orders can change without Modified" in told


def test_equal_documents_do_not_differ(good: str) -> None:
    assert diff(read_document(good), read_document("# the same\n" + good)) == ()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("title: Lead score", "title: Lead rank", ('title: was "Lead score"; is "Lead rank"',)),
        ("refresh: 1d", "refresh: 2d", ('read.refresh: was "P1D"; is "P2D"',)),
        ("  refresh: 1d\n", "", ('read.refresh: removed, was "P1D"',)),
        ("take: one", 'take: one\n    where: "Seats > 0"', ('lookups.account.where: added "Seats > 0"',)),
        ("Score: 1 }", "Score: 2 }", ("write.when_changed.Score: was 1.0; is 2.0",)),
        (
            "coalesce(Industry, 'Unknown')",
            "coalesce(Industry, 'None')",
            ("features.industry: was \"coalesce(Industry, 'Unknown')\"; is \"coalesce(Industry, 'None')\"",),
        ),
    ],
)
def test_a_difference_names_its_path(good: str, old: str, new: str, said: tuple[str, ...]) -> None:
    assert diff(read_document(good), read_document(good.replace(old, new))) == said


def test_a_changed_order_of_decided_names_is_a_difference(good: str) -> None:
    lines = good.splitlines(keepends=True)
    first = next(index for index, line in enumerate(lines) if line.startswith("  score:"))
    swapped = "".join([*lines[:first], lines[first + 1], lines[first], *lines[first + 2 :]])
    assert diff(read_document(good), read_document(swapped)) == ("decide: order was score, band; is band, score",)


def test_rights_that_come_and_go_are_named(good: str, compiled_of: Compile) -> None:
    other = good.replace("account.Seats", "length(account.Tier)")
    before, after = compiled_of(good), compiled_of(other)
    assert diff_grants(before.grants, after.grants) == ("+ read crm/Account.Tier", "- read crm/Account.Seats")
    assert "- read `Account`: `Domain`, `Id`, `Tier`" in grant_text(after.grants)


@pytest.mark.parametrize(
    ("span", "said"),
    [
        (timedelta(days=1), "1 day"),
        (timedelta(days=30), "30 days"),
        (timedelta(minutes=90), "90 minutes"),
        (timedelta(milliseconds=100), "100 milliseconds"),
        (timedelta(hours=12), "12 hours"),
    ],
)
def test_durations_are_told_in_their_largest_unit(span: timedelta, said: str) -> None:
    assert duration_text(span) == said
