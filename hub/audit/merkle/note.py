"""Checkpoints in the C2SP formats tlog-checkpoint and signed-note: text that witnesses and other logs' tools read."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from hub.audit.types import AuditError
from hub.keys import Signer

ED25519 = b"\x01"
"""The algorithm byte of signed-note."""
CHANGE = "key-change"
"""The second line of the statement that another key signs on; that of a checkpoint is a number."""


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


def verifier_key(public: bytes, origin: str | None = None) -> str:
    """The key as whoever verifies is given it: name, key id, and the public key after its algorithm byte."""
    name = origin or origin_of(public)
    return f"{name}+{_key_id(name, public).hex()}+{base64.b64encode(ED25519 + public).decode('ascii')}"


@dataclass(frozen=True, slots=True)
class LogKeys:
    """The keys of one log, one after the other: up to which size each signed (None: still does), and the log's name.

    `roots` are those at these sizes, which both keys of a change signed: neither alone vouches for another past.
    """

    origin: str
    keys: tuple[tuple[bytes, int | None], ...]
    roots: Mapping[int, bytes]

    @property
    def current(self) -> bytes:
        """The key that signs now."""
        return self.keys[-1][0]

    @property
    def verifier_key(self) -> str:
        """The current key, as whoever verifies is given it."""
        return verifier_key(self.current, self.origin)


def only(public: bytes) -> LogKeys:
    """The keys of a log whose key was never changed."""
    return LogKeys(origin_of(public), ((public, None),), {})


def sign_checkpoint(signer: Signer, size: int, root: bytes, origin: str | None = None) -> Checkpoint:
    """A checkpoint of the log of that name; without one, of the log that began with this signer."""
    name = origin or origin_of(signer.public)
    text = f"{name}\n{size}\n{base64.b64encode(root).decode('ascii')}\n"
    return Checkpoint(name, size, root, f"{text}\n{_signature(signer, name, text)}")


def sign_change(old: Signer, new: Signer, origin: str, size: int, root: bytes) -> str:
    """That `new` signs checkpoints of more than `size` events, signed by both, so that either leads to the other.

    `root` is that of the log at this size: whoever gets hold of one of the keys later gives it no other past.
    """
    keys = verifier_key(old.public, origin), verifier_key(new.public, origin)
    text = f"{origin}\n{CHANGE}\n{size}\n{keys[0]}\n{keys[1]}\n{base64.b64encode(root).decode('ascii')}\n"
    return f"{text}\n{_signature(old, origin, text)}{_signature(new, origin, text)}"


def follow_changes(current: bytes, notes: Sequence[str]) -> LogKeys:
    """The keys of a log from the current one back, through the statements of its changes. AuditError: one is forged."""
    if not notes:
        return only(current)
    keys: list[tuple[bytes, int | None]] = [(current, None)]
    roots: dict[int, bytes] = {}
    for note in reversed(notes):
        text, _, lines = note.partition("\n\n")
        text += "\n"
        try:
            origin, kind, size, old, new, root = text.splitlines()
            publics = [base64.b64decode(each.split("+", 2)[2])[1:] for each in (old, new)]
            signed = all(any(_signs(line, text, origin, each) for line in lines.splitlines()) for each in publics)
            if kind != CHANGE or publics[1] != keys[0][0] or not signed:
                raise ValueError(kind)
            keys.insert(0, (publics[0], int(size)))
            roots[int(size)] = base64.b64decode(root, validate=True)
        except (ValueError, IndexError):
            raise AuditError("a change of the log's key is forged: the keys did not both sign it") from None
    if origin != origin_of(keys[0][0]):
        raise AuditError("a change of the log's key is forged: it speaks of another log")
    return LogKeys(origin, tuple(keys), roots)


def open_checkpoint(note: str, known: LogKeys) -> Checkpoint:
    """The checkpoint in a note. AuditError where no key of the log signed it in its time; other lines are left."""
    text, found, lines = note.partition("\n\n")
    text += "\n"
    if not found:
        raise AuditError("a checkpoint is a text, an empty line and its signatures")
    signed = lines.splitlines()
    index = next(
        (at for at, (key, _) in enumerate(known.keys) if any(_signs(line, text, known.origin, key) for line in signed)),
        None,
    )
    if index is None:
        raise AuditError("the checkpoint is forged: the key of the log did not sign it")
    try:
        told, size, root, *_ = text.splitlines()
        if told != known.origin or not size.isascii() or not size.isdigit() or str(int(size)) != size:
            raise ValueError(told)
        opened = Checkpoint(known.origin, int(size), base64.b64decode(root, validate=True), note)
    except ValueError:
        raise AuditError("the signed text is no checkpoint of this log") from None
    until = known.keys[index][1]
    since = known.keys[index - 1][1] if index else 0
    if opened.size > (until or opened.size) or opened.size <= (since or 0):
        raise AuditError("the checkpoint is forged: it was signed by a key that was not the log's at that size")
    if known.roots.get(opened.size, opened.root) != opened.root:
        raise AuditError("the checkpoint is forged: the log had another root when its key was changed there")
    return opened


def _signature(signer: Signer, name: str, text: str) -> str:
    signed = base64.b64encode(_key_id(name, signer.public) + signer.sign(text.encode("utf-8")))
    return f"\u2014 {name} {signed.decode('ascii')}\n"


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
