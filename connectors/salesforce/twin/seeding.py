"""Generated records for a twin that runs alone: accounts with contacts, leads with some history."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

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
_TITLES = ("CEO", "Head of Sales", "Buyer", "IT Manager", "Assistant", None)
_AT_ONCE = 5000


def seed_records(org: Org, leads: int, *, seed: int = 1) -> dict[str, int]:
    """So many leads, a tenth as many accounts, and a contact for each account; how many of each were made."""
    chance = random.Random(seed)  # noqa: S311  (the same records for the same seed)
    accounts = max(1, leads // 10) if leads else 0
    made = {"Account": accounts, "Contact": accounts, "Lead": leads}
    parents = _add(org, "Account", (_account(chance, number) for number in range(accounts)), chance)
    _add(
        org, "Contact", ({**_person(chance, number), "AccountId": each} for number, each in enumerate(parents)), chance
    )
    _add(org, "Lead", (_lead(chance, number) for number in range(leads)), chance)
    return made


def _add(org: Org, entity: str, rows: Iterator[dict[str, Any]], chance: random.Random) -> list[str]:
    kind = org.schema.objects[entity.lower()]
    columns = {each.name for each in kind if each.stored}
    ids: list[str] = []
    while chunk := [each for _, each in zip(range(_AT_ONCE), rows, strict=False)]:
        ids.extend(_store(org, kind, [{n: v for n, v in each.items() if n in columns} for each in chunk], chance))
    return ids


def _store(org: Org, kind: ObjectType, rows: Sequence[dict[str, Any]], chance: random.Random) -> list[str]:
    user, now = org.users["sales"], org.clock.now()
    plain = org.new_record(kind, user, org.clock.stamp())
    names = org.store.new_ids(kind.prefix, len(rows))
    made = []
    for name, row in zip(names, rows, strict=True):
        created = now - timedelta(days=chance.randrange(1, 720), seconds=chance.randrange(86_400))
        # Several records are changed within the same second, as a data load does it.
        changed = created + (now - created) * (chance.randrange(20) / 20)
        stamps = {"CreatedDate": _second(created), "LastModifiedDate": _second(changed)}
        made.append({**plain, **row, **stamps, "SystemModstamp": stamps["LastModifiedDate"], "Id": name})
    with org.store.writing() as unit:
        org.store.add_rows(unit, kind, made)
    return names


def _second(moment: Any) -> str:
    return written(moment.replace(microsecond=0))


def _account(chance: random.Random, number: int) -> dict[str, Any]:
    name = f"{chance.choice(_WORDS)} {chance.choice(_WORDS)} {chance.choice(_ENDS)}"
    return {
        "Name": name,
        "AccountNumber": f"A-{number:06d}",
        "Industry": chance.choice(("Banking", "Energy", "Retail", "Technology", "Healthcare", None)),
        "AnnualRevenue": round(chance.lognormvariate(15, 1.5)),
        "NumberOfEmployees": int(chance.lognormvariate(4.5, 1.3)) + 1,
        "BillingCity": chance.choice(("Berlin", "Lyon", "Kraków", "Porto", "Oslo")),
        "Type": chance.choice(("Prospect", "Customer - Direct", None)),
    }


def _person(chance: random.Random, number: int) -> dict[str, Any]:
    first, last = chance.choice(_FIRST), chance.choice(_LAST)
    address = f"{first}.{last}.{number}".lower().encode("ascii", "ignore").decode().replace("'", "")
    return {
        "FirstName": first,
        "LastName": last,
        "Email": f"{address}@mail{number % 97}.example",
        "Phone": f"+49 30 {chance.randrange(10**6):06d}",
        "Title": chance.choice(_TITLES),
    }


def _lead(chance: random.Random, number: int) -> dict[str, Any]:
    return {
        **_person(chance, number),
        "Company": f"{chance.choice(_WORDS)} {chance.choice(_ENDS)}",
        "LeadSource": chance.choice(("Web", "Phone Inquiry", "Partner Referral", "Purchased List", None)),
        "Status": chance.choice(("Open - Not Contacted", "Working - Contacted", "Closed - Not Converted")),
        "Industry": chance.choice(("Banking", "Energy", "Retail", "Technology", None)),
        "Rating": chance.choice(("Hot", "Warm", "Cold", None)),
        "AnnualRevenue": round(chance.lognormvariate(14, 1.5)) if chance.random() < 0.7 else None,
        "NumberOfEmployees": int(chance.lognormvariate(4, 1.4)) + 1 if chance.random() < 0.9 else None,
        "City": chance.choice(("Berlin", "Lyon", "Kraków", "Porto", "Oslo", None)),
        "Country": chance.choice(("Germany", "France", "Poland", "Portugal", "Norway")),
        "Description": 'Asked for a quote.\nCalls back, "soon".' if chance.random() < 0.2 else None,
    }
