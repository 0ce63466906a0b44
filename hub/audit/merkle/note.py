"""Checkpoints in the C2SP formats tlog-checkpoint and signed-note: text that witnesses and other logs' tools read."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from hashlib import sha256

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from hub.audit.types import AuditError
from hub.keys import Signer

ED25519 = b"\x01"
"""The algorithm byte of signed-note."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How far the log had come: `size` events under this root, signed. `note` is the very text that was signed."""

    origin: str
    size: int
    root: bytes
    note: str


def origin_of(public: bytes) -> str:
    """The name of the log and of its key; another key is another log."""
    return f"hub-audit/{sha256(public).hexdigest()[:16]}"


def verifier_key(public: bytes) -> str:
    """The key as whoever verifies is given it: name, key id, and the public key after its algorithm byte."""
    origin = origin_of(public)
    return f"{origin}+{_key_id(origin, public).hex()}+{base64.b64encode(ED25519 + public).decode('ascii')}"


def sign_checkpoint(signer: Signer, size: int, root: bytes) -> Checkpoint:
    """A checkpoint under the signer's own origin."""
    origin = origin_of(signer.public)
    text = f"{origin}\n{size}\n{base64.b64encode(root).decode('ascii')}\n"
    signed = base64.b64encode(_key_id(origin, signer.public) + signer.sign(text.encode("utf-8")))
    return Checkpoint(origin, size, root, f"{text}\n\u2014 {origin} {signed.decode('ascii')}\n")


def open_checkpoint(note: str, public: bytes) -> Checkpoint:
    """The checkpoint in a note. AuditError where the key did not sign it; other signers' lines are left aside."""
    text, found, lines = note.partition("\n\n")
    text += "\n"
    if not found:
        raise AuditError("a checkpoint is a text, an empty line and its signatures")
    origin = origin_of(public)
    if not any(_signs(each, text, origin, public) for each in lines.splitlines()):
        raise AuditError("the checkpoint is forged: the key of the log did not sign it")
    try:
        told, size, root, *_ = text.splitlines()
        if told != origin or not size.isascii() or not size.isdigit() or str(int(size)) != size:
            raise ValueError(told)
        return Checkpoint(origin, int(size), base64.b64decode(root, validate=True), note)
    except ValueError:
        raise AuditError("the signed text is no checkpoint of this log") from None


def _signs(line: str, text: str, origin: str, public: bytes) -> bool:
    if not line.startswith(f"\u2014 {origin} "):
        return False
    try:
        raw = base64.b64decode(line.rpartition(" ")[2], validate=True)
        Ed25519PublicKey.from_public_bytes(public).verify(raw[4:], text.encode("utf-8"))
    except (binascii.Error, InvalidSignature):
        return False
    return raw[:4] == _key_id(origin, public)


def _key_id(name: str, public: bytes) -> bytes:
    return sha256(name.encode("utf-8") + b"\n" + ED25519 + public).digest()[:4]
