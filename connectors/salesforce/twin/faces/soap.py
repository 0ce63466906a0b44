"""The SOAP login, as clients without a connected app use it; nothing else of SOAP."""

from __future__ import annotations

from html import escape
from xml.etree import ElementTree as ET

from connectors.salesforce.twin.faces.call import Answer, Call, Route, route
from connectors.salesforce.twin.faces.oauth import SESSION_SECONDS
from hub.sdk import UnexpectedError
from hub.sdk.xml import judge_xml

XML = "text/xml;charset=UTF-8"
_ENVELOPE = (
    '<?xml version="1.0" encoding="UTF-8"?><soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/"'
    ' xmlns="urn:partner.soap.sforce.com" xmlns:sf="urn:fault.partner.soap.sforce.com"'
    ' xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><soapenv:Body>{}</soapenv:Body></soapenv:Envelope>'
)
_FAULT = (
    "<soapenv:Fault><faultcode>{name}</faultcode><faultstring>{name}: {words}</faultstring><detail>"
    '<sf:LoginFault xsi:type="sf:LoginFault"><sf:exceptionCode>{name}</sf:exceptionCode>'
    "<sf:exceptionMessage>{words}</sf:exceptionMessage></sf:LoginFault></detail></soapenv:Fault>"
)
_DONE = (
    "<loginResponse><result><metadataServerUrl>{site}/services/Soap/m/{version}/{organization}</metadataServerUrl>"
    "<passwordExpired>false</passwordExpired><sandbox>true</sandbox>"
    "<serverUrl>{site}/services/Soap/{api}/{version}/{organization}</serverUrl><sessionId>{token}</sessionId>"
    "<userId>{user}</userId><userInfo><organizationId>{organization}</organizationId><userId>{user}</userId>"
    "<userName>{username}</userName><sessionSecondsValid>{seconds}</sessionSecondsValid></userInfo></result>"
    "</loginResponse>"
)
MOST_BYTES = 100_000


def routes() -> list[Route]:
    """The addresses that take a login."""
    return [
        route("POST", f"services/Soap/{api}/{{number}}", login, "login.soap", counted=False, open=True)
        for api in ("u", "c")
    ]


def login(call: Call) -> Answer:
    """POST /services/Soap/u/59.0 with a login."""
    try:
        judge_xml(call.body, most_bytes=MOST_BYTES)
    except UnexpectedError:
        return _fault("UNKNOWN_EXCEPTION", "the message cannot be read")
    root = ET.fromstring(call.body)  # noqa: S314  (it was judged)
    asked = next((each for each in root.iter() if _bare(each.tag) == "login"), None)
    if asked is None:
        return _fault("INVALID_OPERATION", "the twin answers a login and no other call of SOAP")
    given = {_bare(each.tag): each.text or "" for each in asked}
    short = call.site.sessions.login(given.get("username", ""), given.get("password", ""))
    if short is None:
        words = "Invalid username, password, security token; or user locked out."
        return _fault("INVALID_LOGIN", words)
    org = call.site.org
    done = _DONE.format(
        site=call.site.url,
        api=call.path.strip("/").split("/")[2],
        version=escape(call.names["number"]),
        organization=org.id[:15],
        token=call.site.sessions.give(short),
        user=org.users[short],
        username=escape(org.username(short)),
        seconds=int(SESSION_SECONDS),
    )
    return Answer(_ENVELOPE.format(done).encode(), media=XML)


def _bare(tag: str) -> str:
    return tag.rpartition("}")[2]


def _fault(name: str, words: str) -> Answer:
    return Answer(_ENVELOPE.format(_FAULT.format(name=name, words=escape(words))).encode(), 500, media=XML)
