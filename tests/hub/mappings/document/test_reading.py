"""A document means what it says: values keep their kind, and its digest follows meaning, not layout."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from io import StringIO

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from hub.mappings.document import read_document
from hub.mappings.types import MappingError, Problem


def test_every_part_of_the_document_arrives(good: str) -> None:
    document = read_document(good)
    assert document.read.refresh == timedelta(days=1)
    assert [each.name for each in document.lookups] == ["account", "orders"]
    account, orders = document.lookups
    assert (account.connection, account.take, account.missing, account.aggregate) == ("crm", "one", "null", None)
    assert (orders.connection, orders.take) == ("erp", None)
    assert [(each.name, each.title) for each in document.features] == [
        ("company_size", "Company size"),
        ("industry", "Industry"),
        ("days_open", "Days since first contact"),
        ("spent", "Spent"),
    ]
    assert document.expect[1].among == ("Banking", "Retail", "Unknown")
    assert document.expect[1].otherwise == "hold"
    assert document.model.use == "champion"
    assert list(document.decide.set) == ["score", "band"]
    assert document.decide.fallback is not None
    assert document.decide.fallback.because == "low confidence"
    assert (document.write.connection, document.write.entity, document.write.key) == ("crm", "Lead", None)
    assert document.write.expires is not None
    assert document.write.expires.after == timedelta(days=30)
    assert (document.run.changed, document.run.rejected) == (20_000, 0.01)


def test_words_that_yaml_1_1_turns_into_other_things_stay_text(good: str) -> None:
    changed = good.replace("[Banking, Retail, Unknown]", "[NO, Yes, on, 12:30, 2026-01-01, 1_000, 'null']")
    among = read_document(changed).expect[1].among
    assert among == ("NO", "Yes", "on", "12:30", "2026-01-01", "1_000", "null")


def test_a_version_number_is_a_use(good: str) -> None:
    assert read_document(good.replace("name: lead_conversion", "name: lead_conversion\n  use: 3")).model.use == "3"


def test_marks_tell_where_each_value_stands(good: str) -> None:
    mark = read_document(good).marks["decide", "hold"]
    line = good.splitlines()[mark.value[0] - 1]
    assert mark.inset == 1
    assert line[mark.value[1] :].startswith("probability > 0.95")


def digest(text: str) -> str:
    """The digest of a text's document."""
    return read_document(text).digest


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("title: Lead score", "title:   'Lead score'   # for people"),
        ("  timezone: Europe/Berlin", "  timezone: Europe/Berlin\n  leaves: keep"),
        ("  refresh: 1d", "  refresh: 24h"),
        ("connection: crm\n  entity: Lead", "entity: Lead\n  connection: crm"),
        ("limits: { changed: 20000, rejected: 1% }", "limits:\n    rejected: 1%\n    changed: 20000"),
        ("{ min: 0, max: 1000000 }", "{ max: 1000000.0, min: 0 }"),
        ("    missing: null\n", ""),
        ('schedule: "*/15 * * * *"', "schedule: '*/15  *  * * *'"),
    ],
)
def test_layout_defaults_and_key_order_leave_the_digest(good: str, old: str, new: str) -> None:
    assert good.count(old) == 1
    assert digest(good.replace(old, new)) == digest(good)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("title: Lead score", "title: Lead Score"),
        ("refresh: 1d", "refresh: 2d"),
        ("coalesce(orders.spent, 0)", "coalesce(orders.spent,  0)"),
        ("changed: 20000", "changed: 20001"),
        ("then: clear", "then: keep"),
    ],
)
def test_whatever_means_something_moves_the_digest(good: str, old: str, new: str) -> None:
    assert good.count(old) == 1
    assert digest(good.replace(old, new)) != digest(good)


def test_the_order_of_decided_names_and_features_counts(good: str) -> None:
    lines = good.splitlines(keepends=True)
    first = next(index for index, line in enumerate(lines) if line.startswith("  score:"))
    swapped = [*lines[:first], lines[first + 1], lines[first], *lines[first + 2 :]]
    assert digest("".join(swapped)) != digest(good)


def test_the_digest_is_the_same_on_every_machine(good: str) -> None:
    assert digest(good) == "67f1f9750297ba811c408bd82c775d9fac2f04459309aa71c174d5c197aa0a40"


words = st.sampled_from(
    [
        "format",
        "mapping",
        "read",
        "features",
        "decide",
        "write",
        "run",
        "model",
        "set",
        "x",
        "1",
        "a b",
        "=",
        "null",
        "~",
    ]
)
leaves = st.one_of(
    words, st.integers(-5, 2**60), st.floats(allow_nan=True), st.booleans(), st.none(), st.text(max_size=8)
)
trees = st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=4))


def reads_or_refuses(text: str) -> None:
    """A text is a document, or is refused with problems that have a place."""
    problems: Sequence[Problem] = (Problem(1, 1, "document", "is read"),)
    try:
        read_document(text)
    except MappingError as error:
        problems = error.problems
    assert problems
    assert all(each.line >= 1 and each.column >= 1 and each.message for each in problems)


@given(st.text(max_size=200))
@example("%YAML 1.1\n---\na: yes")
@example("? [a]\n: b")
@example("- - - -\n\t")
@example("a: !<tag> b")
@example("%TAG ! x")
@example("\ufeffa: |\n  x")
@example("<<: {a: 1}")
def test_any_text_is_read_or_refused(text: str) -> None:
    reads_or_refuses(text)


@given(st.text(alphabet="ab:-?|>*&!%@[]{},#'\" \n\t~0.", max_size=60))
def test_any_punctuation_is_read_or_refused(text: str) -> None:
    reads_or_refuses(text)


@given(trees)
def test_any_tree_is_read_or_refused(tree: object) -> None:
    out = StringIO()
    YAML(typ="safe", pure=True).dump(tree, out)
    reads_or_refuses(out.getvalue())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # a constant text
@given(data=st.data())
def test_a_good_document_with_any_part_replaced_is_read_or_refused(good: str, data: st.DataObject) -> None:
    lines = good.splitlines()
    at = data.draw(st.integers(0, len(lines) - 1))
    escape = st.sampled_from(['"\\ud800"', '"\\0"', "'\\x'", '"\\U0010FFFF"', "1e999", "0x1F", ".nan", "9" * 40])
    lines[at] = lines[at][: data.draw(st.integers(0, len(lines[at])))] + data.draw(st.text(max_size=12) | escape)
    reads_or_refuses("\n".join(lines))
