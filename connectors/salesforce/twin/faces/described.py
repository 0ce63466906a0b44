"""What the org says of itself: versions, resources, the list of objects, describe, limits and record counts."""

from __future__ import annotations

import re
from typing import Any

from connectors.salesforce.twin.faces.call import NEWEST, OLDEST, Answer, Call, Route, route
from connectors.salesforce.twin.org.access import Rights
from connectors.salesforce.twin.org.documents import Document, listed, urls_of
from connectors.salesforce.twin.org.problems import RefusedError, not_found
from connectors.salesforce.twin.org.schema import ObjectType

MOST_BATCH = 200
_VERSION = re.compile(r"/v[0-9x.]+/")


def routes() -> list[Route]:
    """Describe and its like."""
    data = "services/data/v{version}"
    return [
        route("GET", "services/data", versions, "versions", counted=False, open=True),
        route("GET", data, resources, "resources"),
        route("GET", f"{data}/sobjects", every, "describe.global"),
        route("GET", f"{data}/sobjects/{{name}}", basic, "describe.basic"),
        route("GET", f"{data}/sobjects/{{name}}/describe", describe, "describe.object"),
        route("GET", f"{data}/limits", limits, "limits"),
        route("GET", f"{data}/limits/recordCount", counts, "limits.counts"),
    ]


def versions(_: Call) -> Answer:
    """GET /services/data."""
    found = range(OLDEST, NEWEST + 1)
    body = [{"label": _release(each), "url": f"/services/data/v{each}.0", "version": f"{each}.0"} for each in found]
    return Answer(body)


def resources(call: Call) -> Answer:
    """GET /services/data/v59.0."""
    names = ("sobjects", "query", "queryAll", "limits", "composite", "tooling", "jobs")
    return Answer(
        {each: f"{call.root()}/{each}" for each in names}
        | {"identity": f"{call.site.url}/id/{call.site.org.id}/{call.user}"}
    )


def every(call: Call) -> Answer:
    """GET …/sobjects."""
    rights = call.site.org.access.of(call.user)
    seen = [each for each in call.site.org.schema if rights.sees(each) and not each.tooling]
    shown = [{**listed(_of_user(each, rights)), "urls": _urls(call, each, whole=False)} for each in seen]
    return Answer(
        {"encoding": "UTF-8", "maxBatchSize": MOST_BATCH, "sobjects": sorted(shown, key=lambda each: str(each["name"]))}
    )


def basic(call: Call) -> Answer:
    """GET …/sobjects/Lead."""
    kind = visible(call)
    rights = call.site.org.access.of(call.user)
    about = {**listed(_of_user(kind, rights)), "urls": _urls(call, kind, whole=False)}
    return Answer({"objectDescribe": about, "recentItems": []})


def describe(call: Call) -> Answer:
    """GET …/sobjects/Lead/describe."""
    kind = visible(call)
    made = call.site.org.access.of(call.user).described(kind)
    made["childRelationships"] = made.get("childRelationships") or children(call, kind)
    return Answer({**made, "urls": _urls(call, kind, whole=True)})


def children(call: Call, kind: ObjectType) -> list[dict[str, Any]]:
    """The records that refer to an object's, by the name of that relationship."""
    made: list[dict[str, Any]] = []
    for child, field in call.site.org.schema.children(kind.name):
        named = kind.name == "Account" or field.document.get("custom")
        made.append(
            {
                "cascadeDelete": bool(field.document.get("cascadeDelete")),
                "childSObject": child.name,
                "deprecatedAndHidden": False,
                "field": field.name,
                "junctionIdListNames": [],
                "junctionReferenceTo": [],
                "relationshipName": child.document["labelPlural"] if named else None,
                "restrictedDelete": False,
            }
        )
    return made


def limits(call: Call) -> Answer:
    """GET …/limits, for who may view the setup."""
    if not call.site.org.access.of(call.user).administrator:
        raise RefusedError("INSUFFICIENT_ACCESS", "This user does not have the View Setup and Configuration permission")
    journal, faces = call.site.journal, call.site
    remaining = max(0, journal.most - journal.used)
    full = {
        "ConcurrentAsyncGetReportInstances": 200,
        "ConcurrentSyncReportRuns": 20,
        "DailyAsyncApexExecutions": 250_000,
        "DailyBulkApiBatches": 15_000,
        "DailyDurableStreamingApiEvents": 10_000,
        "DailyWorkflowEmails": 390,
        "DataStorageMB": 5,
        "FileStorageMB": 20,
        "HourlyAsyncReportRuns": 1_200,
        "HourlyODataCallout": 10_000,
        "MassEmail": 10,
        "SingleEmail": 15,
    }
    made = {name: {"Max": most, "Remaining": most} for name, most in full.items()}
    made["DailyApiRequests"] = {"Max": journal.most, "Remaining": remaining}
    made["DailyBulkV2QueryJobs"] = {"Max": 10_000, "Remaining": 10_000 - faces.jobs.started("query")}
    made["DailyBulkV2QueryFileStorageMB"] = {"Max": 976_562, "Remaining": 976_562}
    return Answer(dict(sorted(made.items())))


def counts(call: Call) -> Answer:
    """GET …/limits/recordCount?sObjects=Lead,Contact."""
    org = call.site.org
    rights = org.access.of(call.user)
    wanted = [each for each in call.query.get("sObjects", "").split(",") if each]
    kinds = [org.schema.get(each) for each in wanted] if wanted else list(org.schema)
    found = [(each.name, org.count(each)) for each in kinds if each and rights.sees(each)]
    # Objects without a record are left out.
    return Answer({"sObjects": [{"count": count, "name": name} for name, count in found if count]})


def visible(call: Call) -> ObjectType:
    """The object that the path names, where the user may know of it. RefusedError NOT_FOUND otherwise."""
    kind = call.site.org.schema.get(call.names["name"])
    if kind is None or kind.tooling or not call.site.org.access.of(call.user).sees(kind):
        raise not_found()
    return kind


def _of_user(kind: ObjectType, rights: Rights) -> Document:
    allowed = rights.on(kind)
    may = {"createable": "create", "updateable": "edit", "deletable": "delete"}
    return {**kind.document, **{name: bool(kind.document[name]) and right in allowed for name, right in may.items()}}


def _urls(call: Call, kind: ObjectType, *, whole: bool) -> dict[str, str]:
    made = urls_of(kind.name, call.version, whole=whole, site=call.site.url, prefix=kind.document.get("keyPrefix"))
    recorded = kind.document.get("urls") or {} if whole else {}
    more = {name: _VERSION.sub(f"/v{call.version}/", url) for name, url in recorded.items() if name not in made}
    return {**made, **more}


def _release(version: int) -> str:
    season = ("Spring", "Summer", "Winter")[(version - 20 + 2) % 3]
    year = 11 + (version - 20 + 2) // 3 if season != "Winter" else 11 + (version - 20) // 3
    return f"{season} '{year}"
