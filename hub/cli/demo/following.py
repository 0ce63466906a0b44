"""The second act's events: the org tells of an edit, and a new score stands on that lead moments later."""

from __future__ import annotations

import time
from datetime import date
from pathlib import Path
from typing import Any

from hub.cli.demo.crm import SCORES, STAMPS
from hub.cli.demo.story import Ask, DemoError, Story

TOWNS = ("Kiel", "Jena")
CHANGE = {"Title": "CEO", "LeadSource": "Partner Referral", "Industry": "Technology", "NumberOfEmployees": 900}
FOLLOWER = "service:follower"


def begin(story: Story, ask: Ask, mapping: str, approver: str) -> str:
    """Publishes a version that asks to be followed and waits until it is; the run that follows."""
    story.step("Following: the org tells of each edit, and nobody has to ask it")
    print("In the org, Lead is selected under Setup > Change Data Capture")
    _ask_to_be_followed(mapping)
    story.hub(f"mappings preview {mapping} --records 1")
    digest = story.hub(f"mappings submit {mapping}")["digest"]
    story.hub(f"mappings approve {mapping} {digest}", person=approver)
    story.hub(f"mappings publish {mapping}")
    _until_followed(story, mapping)
    lead = _cold(ask)["Id"]
    towns = iter(TOWNS * 100)
    # A quiet org names no place to follow from before its first event, which may be one that concerns no feature.
    print("A colleague corrects a town, which no feature reads: the first event, from which on none is missed")
    seen = story.until(
        f"runs list --mapping {mapping}",
        lambda runs: any(_reconciled(each) for each in runs),
        nudge=lambda: ask("edit", lead, {"City": next(towns)}),
    )
    counts = next(each for each in seen if _reconciled(each))["counts"]
    nothing = counts["read"] > 0 and not counts.get("applied")
    story.claim(f"following begins with a run over all {counts['read']} leads, which finds nothing to write", nothing)
    _until_followed(story, mapping)
    return str(next(each["run"] for each in seen if each["kind"] == "follow"))


def edit(story: Story, ask: Ask, run: str) -> tuple[str, int]:
    """The id of the lead that was edited, and the number of the last event before."""
    story.step("A salesperson edits one lead")
    lead, before, last = _cold(ask), ask("stamps"), ask("told", 0)["last"]
    if story.hub(f"runs show {run}")["counts"]["read"]:
        raise DemoError("a town is read by no feature, and still a lead was scored for it")
    began = time.monotonic()
    ask("edit", lead["Id"], CHANGE)
    there = ask("rescored", lead["Id"], lead["Score__c"])
    seconds = time.monotonic() - began
    shown = story.until(f"runs show {run}", lambda told: told["counts"].get("applied", 0) > 0)
    now = next(each for each in ask("look") if each["Id"] == lead["Id"])
    print(
        f"{now['Name']}: {lead['Score__c']:.0f} {lead['Score_Band__c']} → {now['Score__c']:.0f} {now['Score_Band__c']}"
    )
    once = there and _once(shown) and _is_edit_and_score(ask("told", last)["events"], lead["Id"])
    story.claim(f"one edit, one event, one score, one write: {seconds:.1f} seconds from the edit to its score", once)
    after = ask("stamps")
    alone = [key for key in after if after[key] != before[key]] == [lead["Id"]]
    story.claim("the new score is a higher one, and on that lead alone", alone and now["Score__c"] > lead["Score__c"])
    return str(lead["Id"]), int(last)


def end(story: Story, ask: Ask, run: str, lead: str, last: int) -> None:
    """Ends the run that follows, and looks once more at all that it did."""
    story.step("Following ends, until somebody begins it again")
    story.hub(f"runs cancel {run}")
    shown = story.hub(f"runs show {run}")
    once = shown["state"] == "cancelled" and shown["adds_up"] and _once(shown)
    still = _is_edit_and_score(ask("told", last)["events"], lead)
    story.claim(
        "to its end nothing else was scored, and its own write, told as an event too, made no other", once and still
    )


def _ask_to_be_followed(mapping: str) -> None:
    """Writes `follow: true` into the document, beside the schedule that it needs."""
    document = Path(mapping) / "mapping.yaml"
    month = (date.today().month + 5) % 12 + 1  # noqa: DTZ011  (any day that is far off)
    asked = f'\nrun:\n  schedule: "0 0 1 {month} *"\n  follow: true\n'
    document.write_text(document.read_text(encoding="utf-8").replace("\nrun:\n", asked), encoding="utf-8")
    print(f"{mapping}/mapping.yaml: now with `follow: true`, and a schedule whose next tick is months away")


def _until_followed(story: Story, mapping: str) -> None:
    story.until("health", lambda told: told.get("following", {}).get(mapping) == "followed")


def _reconciled(run: dict[str, Any]) -> bool:
    return run["actor"] == FOLLOWER and run["kind"] != "follow" and run["finished_at"] is not None


def _cold(ask: Ask) -> dict[str, Any]:
    """The first lead that is scored as unlikely to convert."""
    found: dict[str, Any] = next(each for each in ask("look") if each["Score_Band__c"] == "Cold")
    return found


def _once(shown: dict[str, Any]) -> bool:
    """Whether what follows has met one record, and has written it."""
    counts = {name: number for name, number in shown["counts"].items() if number}
    return counts == {"read": 1, "applied": 1}


def _is_edit_and_score(events: list[dict[str, Any]], lead: str) -> bool:
    """Whether these are the salesperson's edit of a lead and then the hub's one write to it."""
    whose = [(each["record"], each["by"]) for each in events] == [(lead, "sales"), (lead, "integration")]
    fields = [set(each["fields"]) - {*STAMPS} for each in events]
    return whose and fields[0] <= set(CHANGE) and {"Score__c"} <= fields[1] <= {*SCORES}
