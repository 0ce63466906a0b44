"""A twin that is started again goes on with everything it had, and a job goes on where it was."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

from connectors.salesforce.twin import Twin
from tests.connectors.salesforce.twin.conftest import Rest, session_to


def test_a_twin_goes_on_with_what_it_had(tmp_path: Path) -> None:
    with Twin(tmp_path / "twin", records=260) as first:
        first.control.add_field("Lead", "Score__c double 3,0")
        first.control.hide("Lead.City")
        first.control.rule("validation", "Lead", "own", {"when": "Score__c > 90", "message": "Too much"})
        first.control.budget(most=500, used=20)
        told = first.described()
        rest = Rest(first)
        token = rest._session.headers["Authorization"]
        lead = first.control.create("Lead", [{"LastName": "L", "Company": "C", "Score__c": 7}])[0]
        page = rest("GET", "query?q=SELECT+Id+FROM+Lead", headers={"Sforce-Query-Options": "batchSize=200"}).json()
        last = first.control.summary()["last"]
        replay = first.site.org.store.replay_bounds()[1]
    with Twin(tmp_path / "twin", records=260) as again:
        elsewhere = dict.fromkeys(("url", "host", "control", "pubsub"))
        assert {**again.described(), **elsewhere} == {**told, **elsewhere}
        session = session_to(again)
        session.headers["Authorization"] = token
        root = f"{again.url}/services/data/v59.0"
        assert session.get(f"{root}/sobjects/Lead/{lead}", timeout=30).json()["Score__c"] == 7
        names = {each["name"] for each in session.get(f"{root}/sobjects/Lead/describe", timeout=30).json()["fields"]}
        assert "Score__c" in names
        assert "City" not in names
        refused = session.patch(f"{root}/sobjects/Lead/{lead}", json={"Score__c": 95}, timeout=30)
        assert refused.json()[0]["message"] == "Too much"
        rest = session.get(again.url + page["nextRecordsUrl"], timeout=30).json()
        assert len(page["records"]) + len(rest["records"]) == page["totalSize"] == 261
        assert again.site.journal.most == 500
        assert again.control.summary()["used"] > 20
        assert again.control.summary()["last"] == last + 4
        other = again.control.create("Lead", [{"LastName": "M", "Company": "C"}])[0]
        assert other > lead
        assert again.site.org.store.replay_bounds()[1] > replay


def test_a_job_of_a_twin_that_was_killed_goes_on_and_writes_nothing_twice(tmp_path: Path) -> None:
    code = f"""
        import os, requests
        from pathlib import Path
        from connectors.salesforce.twin import Twin
        with Twin(Path({str(tmp_path / "twin")!r})) as twin:
            session = requests.Session()
            session.trust_env, session.verify = False, str(twin.authority)
            session.headers["Authorization"] = "Bearer " + twin.site.sessions.give("integration")
            root = twin.url + "/services/data/v59.0/jobs/ingest"
            job = session.post(root, json={{"operation": "insert", "object": "Lead"}}).json()["id"]
            lines = "LastName,Company\\n" + "".join(f"L{{n}},C\\n" for n in range(3000))
            session.put(f"{{root}}/{{job}}/batches", data=lines.encode(), headers={{"Content-Type": "text/csv"}})
            jobs = twin.site.jobs
            written = jobs._written
            def dies(one, *rest):
                if one["numberRecordsProcessed"] >= 1000:
                    print(job, flush=True)
                    os._exit(9)
                return written(one, *rest)
            jobs._written = dies
            session.patch(f"{{root}}/{{job}}", json={{"state": "UploadComplete"}})
            jobs.wait()
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 9, done.stderr
    job = done.stdout.strip()
    with Twin(tmp_path / "twin") as again:
        again.site.jobs.wait()
        told = again.site.jobs.get(job)
        assert told is not None
        assert (told["state"], told["numberRecordsProcessed"]) == ("JobComplete", 3000)
        assert again.control.count("Lead") == 3000
        lines = Rest(again)("GET", f"jobs/ingest/{job}/successfulResults").text.splitlines()
        assert len(lines) == 3001
        assert len({each.split(",")[0] for each in lines}) == 3001
