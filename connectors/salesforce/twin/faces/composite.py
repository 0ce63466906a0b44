"""Several calls in one: composite with references between them, and composite batch without."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from connectors.salesforce.twin.faces.call import Answer, Call, Route, route
from connectors.salesforce.twin.faults import PART
from connectors.salesforce.twin.org.problems import RefusedError, not_found

MOST_PARTS = 25
MOST_HEAVY = 5
"""How many of the parts may be queries or collections."""
OF_THE_WHOLE = frozenset({"accept", "authorization", "content-type"})
HEAVY = ("query", "collections")
ALLOWED = ("record", "describe", "query", "collections", "limits", "tooling")
_REFERENCE = re.compile(r"@\{([^}]+)\}")
_BAD_NAME = (
    "Provided referenceId ('{}') must start with a letter or a number, and it can contain only letters, numbers and"
    " underscores ('_')."
)
_HALTED = "The transaction was rolled back since another operation in the same transaction failed."


class _RolledBackError(Exception):
    """A part failed and all are to be undone."""


def routes() -> list[Route]:
    """Composite and composite batch."""
    of = "services/data/v{version}/composite"
    return [route("POST", of, composite, "composite"), route("POST", f"{of}/batch", batch, "composite_batch")]


def composite(call: Call) -> Answer:
    """POST …/composite."""
    given = call.json_object()
    parts = given.get("compositeRequest")
    if not isinstance(parts, list) or not parts:
        raise RefusedError("INVALID_INPUT", "compositeRequest must have at least one subrequest")
    refused = _too_much(call, parts)
    if refused:
        return Answer({"compositeResponse": [_shown(Answer(refused.body(), refused.status), None)]}, refused.status)
    _check_names(parts)
    made: list[dict[str, Any]] = []
    if given.get("allOrNone") is not True:
        _each(call, parts, made, strict=False)
    else:
        try:
            with call.site.org.store.writing():
                _each(call, parts, made, strict=True)
        except _RolledBackError:
            made = _rolled_back(parts, made)
            call.site.org.access.forget()
    call.detail["parts"] = len(parts)
    return Answer({"compositeResponse": made})


def batch(call: Call) -> Answer:
    """POST …/composite/batch. Each part counts as a call of its own."""
    given = call.json_object()
    parts = given.get("batchRequests")
    if not isinstance(parts, list) or not 0 < len(parts) <= MOST_PARTS:
        raise RefusedError("LIMIT_EXCEEDED", f"The request can’t contain more than {MOST_PARTS} operations.")
    made: list[dict[str, Any]] = []
    failed = False
    for part in parts:
        if failed and given.get("haltOnError") is True:
            halted = [{"errorCode": "BATCH_PROCESSING_HALTED", "message": "Batch processing halted per request"}]
            made.append({"statusCode": 412, "result": halted})
            continue
        url = str(part.get("url", ""))
        path = url if url.startswith("/services") else f"/services/data/{url.lstrip('/')}"
        answer = _carry_out(call, str(part.get("method", "GET")), path, part.get("richInput"))
        failed = failed or answer.status >= 400
        made.append({"statusCode": answer.status, "result": answer.body})
    call.detail.update(parts=len(parts), counted=len(parts))
    return Answer({"hasErrors": failed, "results": made})


def _too_much(call: Call, parts: list[Any]) -> RefusedError | None:
    if len(parts) > MOST_PARTS:
        return RefusedError("LIMIT_EXCEEDED", f"The request can’t contain more than {MOST_PARTS} operations.")
    heavy = sum(_kind(call, part).startswith(HEAVY) for part in parts)
    if heavy > MOST_HEAVY:
        words = f"The request can’t contain more than {MOST_HEAVY} query or sObject collection operations."
        return RefusedError("LIMIT_EXCEEDED", words)
    return None


def _kind(call: Call, part: Mapping[str, Any]) -> str:
    try:
        return call.site.router.find(str(part.get("method", "GET")), urlsplit(str(part.get("url"))).path)[0].kind
    except RefusedError:
        return ""


def _check_names(parts: list[Any]) -> None:
    seen: set[str] = set()
    for part in parts:
        name = part.get("referenceId")
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9]\w*", name, re.ASCII):
            raise RefusedError("INVALID_INPUT", _BAD_NAME.format(name))
        if name in seen:
            raise RefusedError("INVALID_INPUT", f"Duplicate ReferenceId provided: {name}")
        seen.add(name)


def _each(call: Call, parts: list[Any], made: list[dict[str, Any]], *, strict: bool) -> None:
    known: dict[str, Any] = {}
    for part in parts:
        name = part["referenceId"]
        if (fault := call.site.faults.strike(PART)) is not None:
            made.append(_shown(call.site.faults.refusal(fault), name))
            continue
        try:
            url = _filled(str(part.get("url", "")), known)
            body = _filled_in(part.get("body"), known)
            answer = _carry_out(call, str(part.get("method", "GET")), url, body, part.get("httpHeaders"))
        except RefusedError as error:
            answer = Answer(error.body(), error.status)
        if answer.status < 400:
            known[name] = answer.body
        made.append(_shown(answer, name))
        if strict and _failed(answer):
            raise _RolledBackError


def _failed(answer: Answer) -> bool:
    if answer.status >= 400:
        return True
    # A collection that asked for all or none of its own fails as a whole.
    results = answer.body if isinstance(answer.body, list) else []
    return any(isinstance(each, dict) and each.get("success") is False for each in results)


def _rolled_back(parts: list[Any], made: list[dict[str, Any]]) -> list[dict[str, Any]]:
    halted = Answer([{"errorCode": "PROCESSING_HALTED", "message": _HALTED}], 400)
    shown = [_shown(halted, part["referenceId"]) for part in parts]
    shown[len(made) - 1] = made[-1]
    return shown


def _carry_out(call: Call, method: str, url: str, body: Any, headers: Any = None) -> Answer:
    """One part, under the headers of the whole call and its own; some are the whole call's alone."""
    split = urlsplit(url)
    own = {str(name).lower(): str(value) for name, value in (headers if isinstance(headers, dict) else {}).items()}
    try:
        found, names = call.site.router.find(method.upper(), split.path)
        if not found.kind.startswith(ALLOWED):
            raise not_found()
        inner = Call(
            site=call.site,
            method=method.upper(),
            path=split.path,
            query=dict(parse_qsl(split.query, keep_blank_values=True)),
            headers={**call.headers, **{name: value for name, value in own.items() if name not in OF_THE_WHOLE}},
            body=b"" if body is None else json.dumps(body).encode(),
            user=call.user,
            token=call.token,
            version=names.get("version", call.version),
            names=names,
        )
        answer = found.face(inner)
        for name in ("records", "failed"):
            if name in inner.detail:
                call.detail[name] = call.detail.get(name, 0) + inner.detail[name]
        return answer
    except RefusedError as error:
        return Answer(error.body(), error.status)


def _shown(answer: Answer, name: str | None) -> dict[str, Any]:
    return {
        "body": None if answer.status == 204 else answer.body,
        "httpHeaders": answer.headers,
        "httpStatusCode": answer.status,
        "referenceId": name,
    }


def _filled(text: str, known: Mapping[str, Any]) -> str:
    return _REFERENCE.sub(lambda found: str(_value(found[1], known)), text)


def _filled_in(value: Any, known: Mapping[str, Any]) -> Any:
    if isinstance(value, str):
        return _filled(value, known)
    if isinstance(value, list):
        return [_filled_in(each, known) for each in value]
    if isinstance(value, dict):
        return {name: _filled_in(each, known) for name, each in value.items()}
    return value


def _value(text: str, known: Mapping[str, Any]) -> Any:
    name = re.split(r"[.\[]", text, maxsplit=1)[0]
    value: Any = known.get(name)
    for step in re.findall(r"\.(\w+)|\[(\d+)\]", text[len(name) :]):
        try:
            value = value[step[0]] if step[0] else value[int(step[1])]
        except (KeyError, IndexError, TypeError):
            value = None
        if value is None:
            break
    if value is None:
        words = f"Invalid reference specified. No value for {text} found in {name}"
        raise RefusedError("PROCESSING_HALTED", words)
    return value
