"""Generated records for a twin that runs alone: accounts with contacts, open leads, and leads of the past."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, time, timedelta
from typing import Any

from connectors.salesforce.twin.funnel import TITLES, Course, open_course, past_course
from connectors.salesforce.twin.org.clock import written
from connectors.salesforce.twin.org.org import Org
from connectors.salesforce.twin.org.schema import ObjectType

_FIRST = (
    "Anna",
    "Ben",
    "Chloé",
    "Dariusz",
    "Elif",
    "Farid",
    "Greta",
    "Hiro",
    "Inês",
    "Jonas",
    "Kofi",
    "Lucía",
    "Mei",
    "Noah",
)
_LAST = (
    "Adler",
    "Bauer",
    "Costa",
    "Dubois",
    "Evans",
    "Fischer",
    "García",
    "Hansen",
    "Ito",
    "Jansen",
    "Kaya",
    "Müller",
    "Novák",
    "O'Brien",
)
_WORDS = (
    "Alpine",
    "Baltic",
    "Cedar",
    "Delta",
    "Ember",
    "Fjord",
    "Granite",
    "Harbor",
    "Indigo",
    "Juniper",
    "Keystone",
    "Lumen",
)
_ENDS = ("GmbH", "Ltd", "Inc.", "S.A.", "AG", "& Söhne")
_SUBJECTS = ("Call", "Email", "Meeting", "Send quote")
_AT_ONCE = 5000
_LOAD = time(2, tzinfo=UTC)
"""When the nightly load goes over what was worked on: many records have the same stamp."""


def seed_records(org: Org, leads: int, *, history: int = 0, seed: int = 1) -> dict[str, int]:
    """So many open leads and past ones with their outcome, the activities of both, and a tenth as many accounts, each
    with a contact; how many of each were made."""
    chance = random.Random(seed)  # noqa: S311  (the same records for the same seed)
    return _Seeding(org, chance).fill(leads, history)


class _Seeding:
    """One filling of an org."""

    def __init__(self, org: Org, chance: random.Random) -> None:
        self._org = org
        self._chance = chance
        self._today = org.clock.now().replace(hour=0, minute=0, second=0, microsecond=0)

    def fill(self, leads: int, history: int) -> dict[str, int]:
        """Accounts and contacts first, since leads name them."""
        chance = self._chance
        count = max(1, (leads + history) // 10) if leads + history else 0
        accounts = [_account(chance, number) for number in range(count)]
        parents = self._add("Account", iter(accounts))
        contacts = self._add(
            "Contact", ({**_person(chance, number), "AccountId": each} for number, each in enumerate(parents))
        )
        customers = [each["Name"] for each in accounts if (each["Type"] or "").startswith("Customer")]
        converted = list(zip(parents, contacts, strict=True))
        activities = 0
        for many, draw in ((leads, open_course), (history, past_course)):
            activities += self._leads(many, draw, customers, converted)
        return {"Account": count, "Contact": count, "Lead": leads + history, "Task": activities}

    def _leads(
        self,
        many: int,
        draw: Callable[[random.Random], Course],
        customers: Sequence[str],
        converted: Sequence[tuple[str, str]],
    ) -> int:
        """Leads of one kind with what was done about them; how many activities there are."""
        courses = [draw(self._chance) for _ in range(many)]
        rows = (self._lead(number, each, customers, converted) for number, each in enumerate(courses))
        ids = self._add("Lead", rows)
        tasks = [self._task(lead, days) for lead, each in zip(ids, courses, strict=True) for days in each.activities]
        self._add("Task", iter(tasks))
        return len(tasks)

    def _add(self, entity: str, rows: Iterator[dict[str, Any]]) -> list[str]:
        kind = self._org.schema.objects[entity.lower()]
        columns = {each.name for each in kind if each.stored}
        ids: list[str] = []
        while chunk := [each for _, each in zip(range(_AT_ONCE), rows, strict=False)]:
            ids.extend(self._store(kind, [{n: v for n, v in each.items() if n in columns} for each in chunk]))
        return ids

    def _store(self, kind: ObjectType, rows: Sequence[dict[str, Any]]) -> list[str]:
        org, chance = self._org, self._chance
        plain = org.new_record(kind, org.users["sales"], org.clock.stamp())
        names = org.store.new_ids(kind.prefix, len(rows))
        made = []
        for name, row in zip(names, rows, strict=True):
            stamps = row if "CreatedDate" in row else self._stamps(chance.randrange(1, 720))
            made.append({**plain, **row, **stamps, "SystemModstamp": stamps["LastModifiedDate"], "Id": name})
        with org.store.writing() as unit:
            org.store.add_rows(unit, kind, made)
        return names

    def _stamps(self, came: int, touched: int | None = None) -> dict[str, str]:
        """Made in working hours so many days ago, and touched last by the load of the night so many days ago."""
        made = self._day(came) + timedelta(seconds=self._chance.randrange(8 * 3600, 16 * 3600))
        last = datetime.combine(self._day(max(1, touched if touched is not None else came // 2)), _LOAD)
        return {"CreatedDate": written(made), "LastModifiedDate": written(max(made, last))}

    def _day(self, ago: int) -> datetime:
        return self._today - timedelta(days=ago)

    def _lead(
        self, number: int, course: Course, customers: Sequence[str], converted: Sequence[tuple[str, str]]
    ) -> dict[str, Any]:
        chance = self._chance
        company = f"{chance.choice(_WORDS)} {chance.choice(_ENDS)}"
        made = {
            **_person(chance, number),
            "Title": course.title,
            "Company": chance.choice(customers) if course.customer and customers else company,
            "LeadSource": course.source,
            "Industry": course.industry,
            "Rating": chance.choice(("Hot", "Warm", "Cold", None)),
            "AnnualRevenue": round(chance.lognormvariate(14, 1.5)) if chance.random() < 0.7 else None,
            # Now and then somebody types a telephone number into the field below it.
            "NumberOfEmployees": 30_000_000 + number if course.ended is None and number % 97 == 41 else course.size,
            "City": chance.choice(("Berlin", "Lyon", "Kraków", "Porto", "Oslo", None)),
            "Country": chance.choice(("Germany", "France", "Poland", "Portugal", "Norway")),
            "Description": 'Asked for a quote.\nCalls back, "soon".' if chance.random() < 0.2 else None,
            "LastActivityDate": self._day(course.activities[-1]).date().isoformat() if course.activities else None,
            "Status": "Working - Contacted" if course.activities else "Open - Not Contacted",
        }
        if course.ended is None:
            return {**made, **self._stamps(course.came, min((course.came, *course.activities)))}
        made |= {"Status": "Closed - Converted" if course.converted else "Closed - Not Converted"}
        if course.converted:
            account, contact = chance.choice(converted)
            made |= {"ConvertedDate": self._day(course.ended).date().isoformat(), "IsConverted": 1}
            made |= {"ConvertedAccountId": account, "ConvertedContactId": contact}
        return {**made, **self._stamps(course.came, course.ended)}

    def _task(self, lead: str, ago: int) -> dict[str, Any]:
        day = self._day(ago).date().isoformat()
        subject = self._chance.choice(_SUBJECTS)
        done = {"WhoId": lead, "Subject": subject, "ActivityDate": day, "Status": "Completed", "IsClosed": 1}
        return {**done, **self._stamps(ago, ago)}


def _account(chance: random.Random, number: int) -> dict[str, Any]:
    name = f"{chance.choice(_WORDS)} {chance.choice(_WORDS)} {chance.choice(_ENDS)}"
    return {
        "Name": name,
        "AccountNumber": f"A-{number:06d}",
        "Industry": chance.choice(("Banking", "Energy", "Retail", "Technology", "Healthcare", None)),
        "AnnualRevenue": round(chance.lognormvariate(15, 1.5)),
        "NumberOfEmployees": int(chance.lognormvariate(4.5, 1.3)) + 1,
        "BillingCity": chance.choice(("Berlin", "Lyon", "Kraków", "Porto", "Oslo")),
        "Type": "Customer - Direct" if number % 3 == 0 else chance.choice(("Prospect", None)),
    }


def _person(chance: random.Random, number: int) -> dict[str, Any]:
    first, last = chance.choice(_FIRST), chance.choice(_LAST)
    address = f"{first}.{last}.{number}".lower().encode("ascii", "ignore").decode().replace("'", "")
    return {
        "FirstName": first,
        "LastName": last,
        "Email": f"{address}@mail{number % 97}.example",
        "Phone": f"+49 30 {chance.randrange(10**6):06d}",
        "Title": chance.choice(tuple(TITLES)),
    }
