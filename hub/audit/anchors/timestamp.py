"""Requests and answers of a time-stamping authority (RFC 3161), in the few forms of DER that they need.

The signature in an answer is not verified here: whoever relies on it does that with the authority's own certificate, as
`openssl ts -verify` does. Here it is only made sure that the answer is one to what was asked.
"""

from __future__ import annotations

from collections.abc import Iterator

from hub.audit.anchors.types import AnchorError

INTEGER, BOOLEAN, OCTETS, SEQUENCE = 0x02, 0x01, 0x04, 0x30
SHA256 = bytes.fromhex("300d06096086480165030402010500")
"""AlgorithmIdentifier of SHA-256."""
TST_INFO = bytes.fromhex("060b2a864886f70d0109100104")
"""The content type of what is signed: id-ct-TSTInfo."""
GRANTED = {b"\x00", b"\x01"}


def request(digest: bytes, nonce: int) -> bytes:
    """A TimeStampReq over a SHA-256 digest that asks for the authority's certificate as well."""
    imprint = _tagged(SEQUENCE, SHA256 + _tagged(OCTETS, digest))
    return _tagged(SEQUENCE, _integer(1) + imprint + _integer(nonce) + _tagged(BOOLEAN, b"\xff"))


def check(answer: bytes, digest: bytes, nonce: int) -> None:
    """AnchorError where the authority refused, or its token is over something else."""
    try:
        status, *token = _parts(_only(answer, SEQUENCE))
        (_, granted), *_ = _parts(status[1])
        if granted not in GRANTED:
            raise AnchorError("the time-stamping authority refused the request")
        # Version, policy, imprint, serial number and time come first, always; the nonce is the one integer behind them.
        info = _parts_of(_signed(token[0][1]))
        imprint = _tagged(SEQUENCE, SHA256 + _tagged(OCTETS, digest))
        if info[2] != imprint or _integer(nonce) not in info[5:]:
            raise AnchorError("the time-stamping authority answered to something else")
    except (IndexError, ValueError) as error:
        raise AnchorError("the time-stamping authority answered something that is no timestamp") from error


def _signed(content_info: bytes) -> bytes:
    """The body of the TSTInfo in a ContentInfo of SignedData."""
    _, (_, explicit) = list(_parts(content_info))[:2]
    _, _, (_, encapsulated), *_ = _parts(_only(explicit, SEQUENCE))
    kind, (_, octets) = _parts(encapsulated)
    if _tagged(*kind) != TST_INFO:
        raise ValueError("no TSTInfo")
    return _only(_only(octets, OCTETS), SEQUENCE)


def _parts(body: bytes) -> Iterator[tuple[int, bytes]]:
    """Tag and content of each element; ValueError where a length leads beyond the end."""
    at = 0
    while at < len(body):
        tag, length, at = body[at], body[at + 1], at + 2
        if length & 0x80:
            count = length & 0x7F
            length, at = int.from_bytes(body[at : at + count], "big"), at + count
        if at + length > len(body):
            raise ValueError("the element is cut off")
        yield tag, body[at : at + length]
        at += length


def _parts_of(body: bytes) -> list[bytes]:
    return [_tagged(*each) for each in _parts(body)]


def _only(body: bytes, tag: int) -> bytes:
    """The content of the one element there is."""
    ((found, content),) = _parts(body)
    if found != tag:
        raise ValueError(f"tag {found:#x} where {tag:#x} was expected")
    return content


def _integer(value: int) -> bytes:
    return _tagged(INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def _tagged(tag: int, content: bytes) -> bytes:
    if len(content) < 0x80:
        return bytes((tag, len(content))) + content
    size = len(content).to_bytes((len(content).bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(size))) + size + content
