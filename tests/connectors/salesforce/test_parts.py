"""A bulk write is cut into jobs by rows and bytes, and each job's results are told to its own records."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from connectors.salesforce import ingest, writing
from connectors.salesforce.ingest import MOST_BYTES, MOST_ROWS, parts
from hub.sdk import Mode
from hub.sdk.testing.records import Change, changes, records
from hub.sdk.testing.suite.steps import JournalInMemory, answered, seed, write
from hub.sdk.testing.suite.steps import writing as writing_to
from tests.connectors.salesforce.harness import BAD_AGE, BulkHarness

UPLOAD_LIMIT = 100 * 1_000_000
"""What Salesforce takes of one job, in the smaller reading of a megabyte."""
FIELDS = ("Id", "Story__c", "Note__c")
LONG = "語" * 32_000
"""The longest text of a field, three bytes a letter."""


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[BulkHarness]:
    made = BulkHarness(tmp_path)
    yield made
    made.close()


def rows(part: bytes) -> list[list[str]]:
    return list(csv.reader(io.TextIOWrapper(io.BytesIO(part), encoding="utf-8", newline="")))


def test_more_rows_than_a_job_takes_go_in_several_none_lost_and_in_order() -> None:
    count = 2 * MOST_ROWS + 1

    made = [rows(each) for each in parts(FIELDS, ({"Id": f"{n}", "Note__c": "a\n,b"} for n in range(count)))]

    assert [each[0] for each in made] == [list(FIELDS)] * 3
    assert [len(each) - 1 for each in made] == [MOST_ROWS, MOST_ROWS, 1]
    assert [row for each in made for row in each[1:]] == [[f"{n}", "", "a\n,b"] for n in range(count)]


def test_more_bytes_than_an_upload_takes_go_in_several_none_lost_and_in_order() -> None:
    count, sizes, keys = 1_100, list[int](), list[str]()
    for each in parts(FIELDS, ({"Id": f"{n}", "Story__c": LONG} for n in range(count))):
        head, *found = rows(each)
        assert head == list(FIELDS)
        assert {row[1] for row in found} == {LONG}
        keys += [row[0] for row in found]
        sizes.append(len(each))
    assert keys == [f"{n}" for n in range(count)]
    assert len(sizes) == 2
    assert max(sizes) <= MOST_BYTES <= UPLOAD_LIMIT
    assert sizes[0] > MOST_BYTES - 100_000  # no job more than it takes


def test_a_part_is_filled_to_the_last_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    given = [{"Id": f"{n}", "Note__c": "é" * n} for n in range(9)]
    (whole,) = parts(FIELDS, given)
    monkeypatch.setattr(ingest, "MOST_BYTES", len(whole))
    assert list(parts(FIELDS, given)) == [whole]
    monkeypatch.setattr(ingest, "MOST_BYTES", len(whole) - 1)
    assert [len(rows(each)) - 1 for each in parts(FIELDS, given)] == [8, 1]


def test_a_text_may_hold_any_line_end(harness: BulkHarness) -> None:
    texts = ["a\rb", "a\nb", "a\r\nb", 'a "quoted" one, and more']
    made = seed(harness, records(harness, 5))
    batch = [Change({"Id": each["Id"]}, {"Story__c": text}) for each, text in zip(made, texts, strict=False)]
    # One record is refused, so that the results of all are read.
    batch.append(Change({"Id": made[4]["Id"]}, {"Story__c": "a\rb", "NumberOfEmployees": BAD_AGE}))
    assert [each["state"] for each in write(harness, batch)] == ["applied"] * 4 + ["rejected"]
    assert len(harness.twin.site.jobs.all("ingest")) == 1
    for change in batch[:4]:
        stored = harness.stored("Lead", change.key)
        assert stored is not None
        assert stored["Story__c"] == change.values["Story__c"]


def test_nothing_to_write_is_no_part() -> None:
    assert list(parts(FIELDS, [])) == []


@pytest.mark.parametrize(("limit", "most"), [("MOST_ROWS", 7), ("MOST_BYTES", 240)])
def test_the_results_of_each_part_are_told_to_its_records(
    harness: BulkHarness, monkeypatch: pytest.MonkeyPatch, limit: str, most: int
) -> None:
    monkeypatch.setattr(ingest, limit, most)
    made = seed(harness, records(harness, 40))
    bad = {3, 7, 13, 14, 39}
    batch = [
        Change({"Id": each["Id"]}, {"NumberOfEmployees": BAD_AGE if n in bad else n, "Note__c": f"note {n}"})
        for n, each in enumerate(made)
    ]
    whole = changes(harness.entity, ["NumberOfEmployees", "Note__c"], batch, Mode.UPDATE)
    control = harness.twin.control
    with writing_to(harness) as destination:
        control.fail_job(after=4)  # the first job's other records are left unprocessed
        told = answered(destination.write(whole, journal=JournalInMemory()), len(batch))

    assert [each["state"] for each in told] == ["rejected" if n in bad else "applied" for n in range(40)]
    assert {each["field"] for n, each in enumerate(told) if n in bad} == {"NumberOfEmployees"}
    jobs = harness.twin.site.jobs.all("ingest")
    assert len(jobs) > 5
    assert Counter(each["state"] for each in jobs) == {"Failed": 1, "JobComplete": len(jobs) - 1}
    again = sum(each["detail"].get("records", 0) for each in control.calls(kind="composite"))
    assert sum(each["numberRecordsProcessed"] for each in jobs) + again == 40
    assert again > 0
    for n, change in enumerate(batch):
        stored = harness.stored("Lead", change.key)
        assert stored is not None
        assert (stored["Note__c"] == f"note {n}") is (n not in bad)


def test_a_text_that_is_too_long_for_a_job_goes_by_itself(
    harness: BulkHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "BULK_TEXT", 100)
    made = seed(harness, records(harness, 6))
    batch = [Change({"Id": each["Id"]}, {"Story__c": "x" * (101 if n == 2 else 100)}) for n, each in enumerate(made)]
    assert {each["state"] for each in write(harness, batch)} == {"applied"}
    told = harness.twin.control.calls(kind="composite")
    assert [each["detail"]["records"] for each in told if each["detail"].get("records")] == [1]
    assert [each["numberRecordsProcessed"] for each in harness.twin.site.jobs.all("ingest")] == [5]


def test_a_job_that_is_kept_no_longer_is_made_up_for_by_what_stands(harness: BulkHarness) -> None:
    made = seed(harness, records(harness, 12))
    batch = [Change({"Id": each["Id"]}, {"Note__c": f"note {n}"}) for n, each in enumerate(made)]
    journal = JournalInMemory()
    assert {each["state"] for each in write(harness, batch, journal=journal)} == {"applied"}
    control, jobs = harness.twin.control, harness.twin.site.jobs
    [job] = jobs.all("ingest")
    jobs.drop(job["id"])
    for each in made[:2]:
        control.edit(str(each["Id"]), {"Note__c": "as if the job had not come to it"})
    control.forget_calls()

    told = write(harness, batch, journal=journal)

    assert {each["state"] for each in told} == {"applied"}
    assert jobs.all("ingest") == []
    assert sum(each["detail"].get("records", 0) for each in control.calls(kind="composite")) == 2
    for change in batch:
        stored = harness.stored("Lead", change.key)
        assert stored is not None
        assert stored["Note__c"] == change.values["Note__c"]
