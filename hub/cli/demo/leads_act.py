"""The second act: scores on the leads that salespeople have open, in a Salesforce org of the demo's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hub.cli.demo.following import begin, edit, end
from hub.cli.demo.story import Ask, DemoError, Story, carry, surroundings, take_document
from hub.cli.output import table

TWIN = "twin.json"
MODEL = "lead_conversion"
MAPPING = "lead_score"
LEADS, PAST = 300, 1500
FIELDS = ["Score_Band__c", "Score_Reasons__c", "Score__c", "Scored_At__c"]
APPROVER = "grace"
CHANCE, USEFUL = 0.5, 0.75
BEYOND = 4
"""What `hub access verify` ends with where a login may do more than is needed."""
NOT_GREEN = 3
"""What `hub runs watch` ends with where a person should look at what was left."""


def leads_act(story: Story) -> None:
    """Connect, train, provision, approve, publish, run, follow, edit, explain, undo, verify."""
    story.step("A sales team with a Salesforce org: a twin of it on this machine, with open leads and past ones")
    options = ("--folder", "twin", "--records", str(LEADS), "--history", str(PAST))
    with story.twin("salesforce", *options) as told:
        Path(TWIN).touch(mode=0o600)  # its credentials are in it
        Path(TWIN).write_text(json.dumps(told), encoding="utf-8")
        # From here on as in production: nothing runs that its author alone has looked at.
        strict = {"HUB_PRODUCTION": "true", "HUB_ENVIRONMENT": "demo"}
        with surroundings(HUB_SECRET_CRM=told["consumer_secret"], **strict), story.desk(TWIN) as ask:
            with story.worker():
                _play(story, told, ask)
            story.claim("the worker ended in order when it was told to", _ended(story))
            _verify(story)
    story.claim("the twin ended in order when it was told to", _ended(story))


def _play(story: Story, told: dict[str, Any], ask: Ask) -> None:
    _connect(story, told)
    _learn(story, ask)
    take_document(MAPPING)
    _provision(story, ask)
    _publish(story, ask)
    before = ask("dump")
    run = _run(story, ask, before)
    _run_again(story, ask)
    following = begin(story, ask, MAPPING, APPROVER)
    edited, last = edit(story, ask, following)
    _explain(story, ask)
    end(story, ask, following, edited, last)
    _undo(story, ask, run, edited, before)


def _ended(story: Story) -> bool:
    return bool(story.steps[-1]["commands"][-1]["exit_code"] == 0)


def _connect(story: Story, told: dict[str, Any]) -> None:
    if told["pubsub"].startswith("not served"):
        raise DemoError("the second act follows change events, which need the extra grpc of this package")
    where = (
        f"host={told['host']} pubsub={told['pubsub']} events=true authority=$PWD/twin/tls/authority.pem private=true"
    )
    login = f"login=client_credentials client_id={told['consumer_key']} --secret client_secret=env:HUB_SECRET_CRM"
    shown = """objects='["Account", "Lead"]' provision=true"""
    add = f"connections add crm salesforce {where} {shown} {login}"
    story.hub(add, expected=1)
    (asked,) = story.hub("access approvals list")
    there = [each["name"] for each in story.hub("connections list")]
    alone = asked["kind"] == "private" and "crm" not in there
    story.claim("the twin stands in this machine's own network: one person alone does not connect it", alone)
    story.hub(f"access approvals approve {asked['id']}", person=APPROVER)
    story.hub(add)
    report = story.hub("connections check crm")
    story.claim("the org lets us in", not report["missing"])


def _learn(story: Story, ask: Ask) -> None:
    story.step("A model, trained on what became of the past leads")
    trained = ask("train", f"{MODEL}.skops", "leads.csv")
    print(f"{trained['converted']} of {trained['leads']} past leads converted; half of them are kept for judging")
    version = story.hub(
        f"models register {MODEL} {MODEL}.skops --sample leads.csv --owner data-science --positive 1"
        f" --metric auc={trained['auc']} --note 'half of the past leads' --alias champion"
    )
    agrees = version["largest_difference"] <= version["tolerance"] and version["rows_compared"] >= trained["trained_on"]
    story.claim("on every row compared, the hub computes what scikit-learn computes", agrees)
    sentence = f"on leads it has not seen, its AUC is {trained['auc']:.3f} (chance is {CHANCE})"
    story.claim(sentence, trained["auc"] >= USEFUL)


def _provision(story: Story, ask: Ask) -> None:
    story.step("The fields that the scores will stand in: planned first, then made")
    plan = story.hub(f"connections provision crm Lead --mapping {MAPPING} --plan")
    planned = sorted(each["name"] for each in plan["planned"])
    story.claim("the plan names four fields, and nothing is made", planned == FIELDS and not ask("fields"))
    story.hub(f"connections provision crm Lead --mapping {MAPPING}")
    story.claim("the four fields are there, and may be read and written", sorted(ask("fields")) == FIELDS)
    story.hub(f"mappings grant {MAPPING}")


def _publish(story: Story, ask: Ask) -> None:
    story.step("The mapping: previewed, handed in by one person, approved by another")
    checked = story.hub(f"mappings check {MAPPING}")
    story.claim("the document fits the org and the model, and its examples come out", checked["examples"] > 0)
    before = ask("stamps")
    shown = story.hub(f"mappings preview {MAPPING} --records 3")
    untouched = ask("stamps") == before
    story.claim("a preview shows what would be written, and writes nothing", len(shown) == 3 and untouched)
    digest = story.hub(f"mappings submit {MAPPING}")["digest"]
    story.hub(f"mappings approve {MAPPING} {digest}", expected=1)
    story.hub(f"mappings publish {MAPPING}", expected=1)
    listed = {each["mapping"]: each["number"] for each in story.hub("mappings list")}
    story.claim("whoever handed it in can neither approve nor publish it", listed[MAPPING] is None)
    story.hub(f"mappings approve {MAPPING} {digest}", person=APPROVER)
    _accept(story)
    published = story.hub(f"mappings publish {MAPPING}")
    story.claim("after the other's approval it is published", published["digest"] == digest)


def _accept(story: Story) -> None:
    """The org's only login administers it: what it may do beyond the mapping takes two people to put up with."""
    told = story.hub(f"access verify {MAPPING}", expected=BEYOND)["connections"]["crm"]
    story.claim("the org says that its login may modify all of its data", "Modify All Data" in told["excess"])
    story.hub(f"mappings publish {MAPPING}", expected=1)
    why = "--reason 'the login of a twin, which holds no customer' --days 30"
    for each in story.hub(f"access verify {MAPPING} --accept {why}")["approvals"]:
        story.hub(f"access approvals approve {each}", expected=1)
        story.hub(f"access approvals approve {each}", person=APPROVER)


def _run(story: Story, ask: Ask, before: dict[str, Any]) -> str:
    story.step("A run, and the leads as the sales team sees them")
    run = carry(story, f"start {MAPPING}")
    counts = run["counts"]
    leads = ask("look")
    scored = [each for each in leads if each["Score__c"] is not None]
    columns = ["Name", "Company", *sorted(FIELDS, key=len)]
    chosen = [*scored[:4], *scored[len(scored) // 4 : len(scored) // 4 + 2], *scored[-2:]]
    table(columns, [[each[name] for name in columns] for each in chosen], empty="there are no scores")
    everybody = counts["read"] == len(leads) == LEADS and run["adds_up"] and run["state"] == "done"
    story.claim(f"{LEADS} open leads are read, each is explained, and no past one is read", everybody)
    written = counts.get("applied") == len(scored) and counts.get("held") == LEADS - len(scored) > 0
    story.claim(
        f"{len(scored)} scores stand on leads; {counts.get('held')} with an absurd size await a person", written
    )
    expected = ask("expect", f"{MODEL}.skops", scored[0]["Scored_At__c"])
    far = [each["Id"] for each in scored if abs(each["Score__c"] - 100 * expected[each["Id"]]) > 0.5001]
    story.claim("each score is scikit-learn's own, on inputs worked out by another program", bool(scored) and not far)
    after = ask("dump")
    touched = {key for key in after["scores"] if after["scores"][key] != before["scores"][key]}
    alone = after["rest"] == before["rest"] and touched == {each["Id"] for each in scored}
    story.claim("no other field and no other lead was touched", alone)
    return str(run["run"])


def _run_again(story: Story, ask: Ask) -> None:
    story.step("The same run again: reads, and nothing else")
    before, calls = ask("stamps"), ask("calls", 0)
    run = carry(story, f"start {MAPPING} --full")
    since = ask("calls", calls["last"])
    print(f"it cost {since['counted']} of the org's {since['most']} calls of the day")
    untouched = ask("stamps") == before and not run["counts"].get("applied")
    story.claim("nothing was written: every lead has the stamp it had", untouched)


def _explain(story: Story, ask: Ask) -> None:
    story.step("The receipt behind one score")
    lead = ask("look")[0]
    receipt = story.hub(f"decisions show {MAPPING} {lead['Id']}")
    # The version that follows found the score still right; reasons stand with the decision that wrote it.
    wrote = next(each for each in receipt["decisions"] if each["reasons"])
    told = float(wrote["written"]["Score__c"]) == lead["Score__c"] and wrote["features"] and wrote["run"]
    story.claim(f"it explains the {lead['Score__c']:.0f} of {lead['Name']}: features, model, reasons, run", bool(told))


def _undo(story: Story, ask: Ask, run: str, edited: str, before: dict[str, Any]) -> None:
    story.step("Taking it back")
    undone = carry(story, f"undo {run}", expected=NOT_GREEN)
    after = ask("dump")
    left, changed = ({key for key in after[of] if after[of][key] != before[of][key]} for of in ("scores", "rest"))
    counts = undone["counts"]
    sentence = f"{counts.get('applied')} scores are taken back; no lead shows that there was one"
    story.claim(sentence, left == changed == {edited} and counts.get("applied", 0) > 0)
    listed = story.hub(f"runs show {undone['run']}")["changed_since"]
    told = counts.get("conflict") == 1 and [each["key"]["Id"] for each in listed] == [edited]
    story.claim("the one that was scored anew since is left alone, and the run lists it", told)


def _verify(story: Story) -> None:
    story.step("The trail")
    verdict = story.hub("audit verify")
    story.claim(f"none of {verdict['events']} events is missing or altered", verdict["ok"])
    stored = story.hub(f"decisions verify {MAPPING}")
    story.claim(f"each of {stored['decisions']} decisions is as it was written", not stored["faults"])
