"""The demo's sales team: reads and edits the twin through simple-salesforce, as any script of the org's own would.

It works beside the hub and by none of its ways.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from datetime import date, datetime
from math import log
from typing import Any, cast
from zoneinfo import ZoneInfo

import requests
from simple_salesforce.api import Salesforce, SFType

VERSION = "62.0"
SCORES = ("Score__c", "Score_Band__c", "Score_Reasons__c", "Scored_At__c")
STAMPS = ("SystemModstamp", "LastModifiedDate", "LastModifiedById")
OPEN = "IsConverted = false AND Status IN ('Open - Not Contacted', 'Working - Contacted')"
PAST = "(IsConverted = true OR Status = 'Closed - Not Converted')"
KNOWN = "Id, CreatedDate, LastActivityDate, LeadSource, Industry, Title, Company, NumberOfEmployees"
ZONE = ZoneInfo("Europe/Berlin")
MIDDLE_SIZE = 50
PATIENCE = 60.0
"""Seconds after which a score that was to come will not."""
Row = Mapping[str, Any]


def opened(told: Row, user: str | None = None) -> Salesforce:
    """A session as the integration user, or as one of the org's people."""
    session = requests.Session()
    session.trust_env = False
    session.verify = told["authority"]
    grant = {"grant_type": "client_credentials"}
    if user is not None:
        people = control(told, "credentials")["users"][user]
        grant = {"grant_type": "password", "username": people["username"]}
        grant["password"] = people["password"] + people["security_token"]
    keys = {"client_id": told["consumer_key"], "client_secret": told["consumer_secret"]}
    answer = session.post(f"{told['url']}/services/oauth2/token", data={**grant, **keys}, timeout=30)
    answer.raise_for_status()
    token = answer.json()["access_token"]
    return Salesforce(instance_url=told["url"], session_id=token, session=session, version=VERSION)


def control(told: Row, name: str, **given: Any) -> Any:
    """Asks the twin itself, by its control port."""
    with requests.Session() as session:
        session.trust_env = False
        answer = session.post(f"{told['control']}/{name}", json=given, timeout=30)
    answer.raise_for_status()
    return answer.json()["result"]


def rows(salesforce: Salesforce, soql: str) -> Iterator[dict[str, Any]]:
    """All records of a query."""
    for each in salesforce.query_all_iter(soql):
        yield {name: value for name, value in each.items() if name != "attributes"}


def _lead(salesforce: Salesforce) -> SFType:
    return cast("SFType", salesforce.Lead)


def customers(salesforce: Salesforce) -> set[str]:
    """Names of the accounts that buy already."""
    found = rows(salesforce, "SELECT Name FROM Account WHERE Type IN ('Customer - Direct', 'Customer - Channel')")
    return {each["Name"] for each in found}


def day_of(moment: str) -> date:
    """The day of a moment, by the sales team's own clock."""
    return datetime.fromisoformat(moment.replace("+0000", "+00:00")).astimezone(ZONE).date()


def features(lead: Row, buyers: set[str], today: date, last: date | None) -> dict[str, Any]:
    """The model's inputs for a lead as it was on a day, worked out here by Python rather than by the hub."""
    title, size = (lead["Title"] or "").lower(), lead["NumberOfEmployees"]
    came = day_of(lead["CreatedDate"])
    return {
        "industry": lead["Industry"] or "Unknown",
        "source": lead["LeadSource"] or "Unknown",
        "company_size": log(1 + (MIDDLE_SIZE if size is None else size)),
        "seniority": 2 if re.match(r"(ceo$|head of )", title) else 1 if re.search(r"(manager|buyer)$", title) else 0,
        "customer": int(lead["Company"].strip() in buyers),
        "days_open": (today - came).days,
        "days_idle": (today - (last or came)).days,
    }


class Crm:
    """What the sales team sees and does, in one session of its own."""

    def __init__(self, told: Row) -> None:
        self._told = told
        self._salesforce = opened(told)

    def look(self) -> list[dict[str, Any]]:
        """The open leads with what stands on them, best first."""
        names = ", ".join(("Id", "Name", "Company", *SCORES))
        found = rows(self._salesforce, f"SELECT {names} FROM Lead WHERE {OPEN}")  # noqa: S608  (names of this file)
        return sorted(found, key=lambda each: (-(each["Score__c"] or 0), each["Id"]))

    def expect(self, model: str, at: str) -> dict[str, float]:
        """What the estimator itself says of each open lead at a moment, called directly."""
        import pandas as pd
        import skops.io

        today, buyers = day_of(at), customers(self._salesforce)
        found = list(rows(self._salesforce, f"SELECT {KNOWN} FROM Lead WHERE {OPEN}"))  # noqa: S608
        last = [date.fromisoformat(each["LastActivityDate"]) if each["LastActivityDate"] else None for each in found]
        inputs = [features(each, buyers, today, day) for each, day in zip(found, last, strict=True)]
        answers = skops.io.load(model).predict_proba(pd.DataFrame(inputs))[:, 1].tolist()
        return {each["Id"]: answer for each, answer in zip(found, answers, strict=True)}

    def fields(self) -> list[str]:
        """The fields of a lead that a score stands in, by describe."""
        return [each["name"] for each in _lead(self._salesforce).describe()["fields"] if each["name"] in SCORES]

    def stamps(self) -> dict[str, list[Any]]:
        """When each lead was last written, and the score on it."""
        names = ("SystemModstamp", *SCORES)
        found = rows(self._salesforce, f"SELECT Id, {', '.join(names)} FROM Lead")  # noqa: S608
        return {each["Id"]: [each[name] for name in names] for each in found}

    def dump(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Every value of every lead: its scores, and the rest but for the stamps."""
        described = _lead(self._salesforce).describe()["fields"]
        names = ", ".join(each["name"] for each in described if each["type"] not in {"address", "location"})
        found = {each["Id"]: each for each in rows(self._salesforce, f"SELECT {names} FROM Lead")}  # noqa: S608
        apart = {*SCORES, *STAMPS}
        return {
            "scores": {key: {name: each[name] for name in SCORES} for key, each in found.items()},
            "rest": {key: {n: v for n, v in each.items() if n not in apart} for key, each in found.items()},
        }

    def edit(self, lead: str, values: Row) -> int:
        """Changes a lead as the salesperson does; the status of the answer."""
        return int(_lead(opened(self._told, "sales")).update(lead, dict(values)))

    def rescored(self, lead: str, before: float | None) -> bool:
        """Waits until another score stands on a lead; False where none comes."""
        end = time.monotonic() + PATIENCE
        while _lead(self._salesforce).get(lead)["Score__c"] == before:
            if time.monotonic() > end:
                return False
            time.sleep(0.05)
        return True

    def told(self, after: int) -> Any:
        """The events on leads since a number, by the twin's own list."""
        return control(self._told, "told", entity="Lead", after=after)

    def calls(self, after: int) -> Any:
        """The calls that the twin counted since a number."""
        return control(self._told, "summary", after=after)
