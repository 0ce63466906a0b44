"""What a twin that runs alone is filled with: the same each time, told apart by outcome, with something to learn."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from connectors.salesforce.twin import Twin
from connectors.salesforce.twin.funnel import Course, open_course, past_course


def leads(twin: Twin) -> list[Mapping[str, Any]]:
    return [
        each
        for state in ("Open - Not Contacted", "Working - Contacted", "Closed - Converted", "Closed - Not Converted")
        for each in twin.control.find("Lead", "Status", [state])
    ]


def test_the_same_seed_makes_the_same_records(tmp_path: Path) -> None:
    with Twin(tmp_path / "one", records=20, history=60) as one, Twin(tmp_path / "two", records=20, history=60) as two:
        first, second = leads(one), leads(two)
        two.control.seed(20, seed=2)
        other = leads(two)[: len(second)]
    assert [{**each, "OwnerId": 0} for each in first] == [{**each, "OwnerId": 0} for each in second]
    assert [each["Company"] for each in other] != [each["Company"] for each in first]


def test_open_leads_have_no_outcome_and_past_ones_have_one(tmp_path: Path) -> None:
    with Twin(tmp_path / "twin", records=50, history=200) as twin:
        found = leads(twin)
        tasks = twin.control.find("Task", "WhoId", [each["Id"] for each in found])
    still = [each for each in found if each["Status"].startswith(("Open", "Working"))]
    converted = [each for each in found if each["IsConverted"]]
    assert len(still) == 50
    assert len(found) == 250
    assert 20 < len(converted) < 120
    assert all(each["ConvertedDate"] is None and not each["IsConverted"] for each in still)
    assert all(each["ConvertedDate"][:10] > each["CreatedDate"][:10] for each in converted)
    assert all(each["ConvertedAccountId"] and each["ConvertedContactId"] for each in converted)
    last = {each["WhoId"]: each["ActivityDate"] for each in sorted(tasks, key=lambda each: each["ActivityDate"])}
    assert {each["Id"]: each["LastActivityDate"] for each in found if each["LastActivityDate"]} == last
    assert {each["Status"] for each in still if each["Id"] in last} == {"Working - Contacted"}


def known(course: Course) -> float:
    """What a colleague who knows the business would say of it: larger for what is more likely to convert."""
    hint = {"Partner Referral": 1.0, "Purchased List": -1.0}.get(course.source or "", 0.0)
    hint += {"Technology": 0.7, "Retail": -0.7}.get(course.industry or "", 0.0)
    hint += (1.0 if course.customer else 0.0) + (0.7 if course.title in {"CEO", "Head of Sales"} else 0.0)
    return hint + 0.4 * math.log(course.size or 50)


def test_what_is_known_of_a_lead_says_something_of_its_outcome_and_not_all() -> None:
    chance = random.Random(5)
    courses = [past_course(chance) for _ in range(3000)]
    pairs = [
        (known(one), known(other))
        for one, other in zip(
            [each for each in courses if each.converted], [each for each in courses if not each.converted], strict=False
        )
    ]
    share = sum(one > other for one, other in pairs) / len(pairs)
    assert len(pairs) > 500
    assert 0.7 < share < 0.9


def test_nothing_is_done_about_a_lead_before_it_came_or_after_it_ended() -> None:
    chance = random.Random(6)
    for course in [*(past_course(chance) for _ in range(500)), *(open_course(chance) for _ in range(500))]:
        assert all(course.came >= each >= (course.ended or 1) for each in course.activities)
        assert list(course.activities) == sorted(course.activities, reverse=True)
