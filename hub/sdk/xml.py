"""XML from outside is looked at before anything reads it: no document type, and neither deep nor large."""

from __future__ import annotations

from xml.parsers import expat

from hub.sdk.errors import UnexpectedError

MOST_BYTES = 1024**2
MOST_DEEP = 100
"""Elements within each other; a reader that goes down them by calling itself ends at about a thousand."""


def judge_xml(content: bytes, *, most_bytes: int = MOST_BYTES) -> None:
    """Lets through what any reader can take. UnexpectedError where it is no XML, or XML that no service has need of.

    Entities, external files and what they grow into are all declared in a document type, so that none is taken.
    Expat itself fetches nothing, and stops at the declaration: whatever comes behind it is not even read.
    """
    if len(content) > most_bytes:
        raise UnexpectedError(f"the answer is XML of more than {most_bytes} bytes")
    depth = 0

    def begin(_name: str, _attributes: object) -> None:
        nonlocal depth
        depth += 1
        if depth > MOST_DEEP:
            raise UnexpectedError(f"the answer is XML with more than {MOST_DEEP} elements within each other")

    def end(_name: str) -> None:
        nonlocal depth
        depth -= 1

    def refuse(*_declared: object) -> None:
        raise UnexpectedError("the answer is XML with a document type, which may name files or grow without bound")

    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler = begin, end
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(content, True)
    except expat.ExpatError as error:
        raise UnexpectedError("the answer is no XML", detail=expat.ErrorString(error.code)) from None
