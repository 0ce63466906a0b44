"""Verifies an export of the hub's audit log with nothing but Python's standard library: python verifier.py EXPORT.

It needs nothing of the hub, on purpose: copy this one file to another machine, read it, run it there. The key is what
`hub audit key` prints, and reached you by another way than the export; --against takes a checkpoint kept from before.
It follows RFC 9162 (Merkle tree), RFC 8032 (Ed25519) and C2SP's signed-note and tlog-checkpoint.

Exit code 0: everything holds. 1: something does not, and the first such thing is named. 2: it could not be looked at.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

PRIME = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
CURVE = -121665 * pow(121666, PRIME - 2, PRIME) % PRIME
ROOT_OF_MINUS_ONE = pow(2, (PRIME - 1) // 4, PRIME)
LATE = timedelta(days=1)

Point = tuple[int, int, int, int]


class FaultError(Exception):
    """The first thing that does not hold."""


def verifies(public: bytes, message: bytes, signature: bytes) -> bool:
    """Ed25519 (RFC 8032, 5.1.7): whether the key signed the message."""
    if len(public) != 32 or len(signature) != 64:
        return False
    key, nonce = _point(public), _point(signature[:32])
    scalar = int.from_bytes(signature[32:], "little")
    if key is None or nonce is None or scalar >= ORDER:
        return False
    digest = hashlib.sha512(signature[:32] + public + message).digest()
    challenge = int.from_bytes(digest, "little") % ORDER
    left, right = _times(scalar, _generator()), _plus(nonce, _times(challenge, key))
    return _same(left, right)


def _generator() -> Point:
    made = _point((4 * pow(5, PRIME - 2, PRIME) % PRIME).to_bytes(32, "little"))
    assert made is not None
    return made


def _point(encoded: bytes) -> Point | None:
    """RFC 8032, 5.1.3, in extended coordinates."""
    raw = int.from_bytes(encoded, "little")
    y, sign = raw & (2**255 - 1), raw >> 255
    if y >= PRIME:
        return None
    square = (y * y - 1) * pow(CURVE * y * y + 1, PRIME - 2, PRIME) % PRIME
    x = pow(square, (PRIME + 3) // 8, PRIME)
    if (x * x - square) % PRIME:
        x = x * ROOT_OF_MINUS_ONE % PRIME
    if (x * x - square) % PRIME or (x == 0 and sign):
        return None
    if x & 1 != sign:
        x = PRIME - x
    return x, y, 1, x * y % PRIME


def _plus(p: Point, q: Point) -> Point:
    """RFC 8032, 5.1.4."""
    a = (p[1] - p[0]) * (q[1] - q[0]) % PRIME
    b = (p[1] + p[0]) * (q[1] + q[0]) % PRIME
    c = 2 * p[3] * q[3] * CURVE % PRIME
    d = 2 * p[2] * q[2] % PRIME
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % PRIME, g * h % PRIME, f * g % PRIME, e * h % PRIME


def _times(scalar: int, p: Point) -> Point:
    found: Point = (0, 1, 1, 0)
    while scalar:
        if scalar & 1:
            found = _plus(found, p)
        p, scalar = _plus(p, p), scalar >> 1
    return found


def _same(p: Point, q: Point) -> bool:
    return not (p[0] * q[2] - q[0] * p[2]) % PRIME and not (p[1] * q[2] - q[1] * p[2]) % PRIME


def leaf_hash(leaf: bytes) -> bytes:
    """RFC 9162, 2.1.1."""
    return hashlib.sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """RFC 9162, 2.1.1."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def included(found: bytes, index: int, size: int, path: list[bytes], root: bytes) -> bool:
    """RFC 9162, 2.1.3.2: whether the path leads from a leaf hash to the root."""
    at, last = index, size - 1
    for each in path:
        if last == 0:
            return False
        if at % 2 or at == last:
            found = node_hash(each, found)
            while at % 2 == 0 and at:
                at, last = at // 2, last // 2
        else:
            found = node_hash(found, each)
        at, last = at // 2, last // 2
    return 0 <= index < size and last == 0 and found == root


def grown(old: int, old_root: bytes, new: int, new_root: bytes, path: list[bytes]) -> bool:
    """RFC 9162, 2.1.4.2: whether the old tree is the beginning of the new one."""
    if not 0 < old <= new:
        return False
    if old == new:
        return not path and old_root == new_root
    steps = [old_root, *path] if old & (old - 1) == 0 else path
    if not steps:
        return False
    at, last, before, after = old - 1, new - 1, steps[0], steps[0]
    while at % 2:
        at, last = at // 2, last // 2
    for each in steps[1:]:
        if last == 0:
            return False
        if at % 2 or at == last:
            before, after = node_hash(each, before), node_hash(each, after)
            while at % 2 == 0 and at:
                at, last = at // 2, last // 2
        else:
            after = node_hash(after, each)
        at, last = at // 2, last // 2
    return last == 0 and before == old_root and after == new_root


class Peaks:
    """The root of a log that grows leaf by leaf."""

    def __init__(self) -> None:
        self.size = 0
        self._peaks: list[bytes] = []

    def append(self, leaf: bytes) -> None:
        """One more leaf hash."""
        self._peaks.append(leaf)
        self.size += 1
        at = self.size
        while at % 2 == 0:
            right = self._peaks.pop()
            self._peaks[-1] = node_hash(self._peaks[-1], right)
            at //= 2

    def root(self) -> bytes:
        """The root so far."""
        found = self._peaks[-1] if self._peaks else hashlib.sha256(b"").digest()
        for each in reversed(self._peaks[:-1]):
            found = node_hash(each, found)
        return found


def signed(note: str, key: str) -> list[str] | None:
    """The lines of a note's text, if the key signed it."""
    name, key_id, encoded = key.split("+", 2)
    public = base64.b64decode(encoded)
    text, _, signatures = note.partition("\n\n")
    text += "\n"
    for line in signatures.splitlines():
        if line.startswith(f"\u2014 {name} "):
            raw = base64.b64decode(line.rpartition(" ")[2])
            if raw[:4].hex() == key_id and public[:1] == b"\x01" and verifies(public[1:], text.encode(), raw[4:]):
                return text.splitlines()
    return None


class Keys:
    """The key you were given, and those that it leads to: each change is signed by the old key and the new one."""

    def __init__(self, key: str, changes: list[str]) -> None:
        self._since, self._until = {key: 0}, dict[str, int]()
        self.name = key.split("+", 2)[0]
        self.roots: dict[int, bytes] = {}
        told = [(note, note.splitlines()[:6]) for note in changes]
        for at in (3, 4):
            named = [each for _, lines in told for each in lines[at : at + 1]]
            if len(set(named)) < len(named):
                # Whoever got hold of a key that was given up could have it vouch for one of his own.
                raise FaultError("a change of the log's key is forged: one key leads to two, or two to one")
        for note, (_, kind, size, old, new, root) in [*told, *reversed(told)]:
            if old not in self._since and new not in self._since:
                continue
            if kind != "key-change" or signed(note, old) is None or signed(note, new) is None:
                raise FaultError("a change of the log's key is forged: the keys did not both sign it")
            self._since.setdefault(old, 0)
            self._until[old] = self._since[new] = int(size)
            self.roots[int(size)] = base64.b64decode(root)

    @property
    def changed_at(self) -> int:
        """How many events the log had when its key was last changed; it has no fewer since."""
        return max(self._since.values())

    def __contains__(self, key: str) -> bool:
        return key in self._since

    def open(self, note: str) -> tuple[int, bytes]:
        """Size and root of a checkpoint that the log's key of that time signed."""
        for key, since in self._since.items():
            lines = signed(note, key)
            if lines is not None:
                origin, told, root = lines[:3]
                if origin != self.name:
                    raise FaultError("the checkpoint is forged: it is signed for another log")
                size = int(told)
                if not since < size <= self._until.get(key, size):
                    raise FaultError("the checkpoint is forged: its key was not the log's at that size")
                found = base64.b64decode(root)
                if self.roots.get(size, found) != found:
                    raise FaultError(
                        "the checkpoint is forged: the log had another root when its key was changed there"
                    )
                return size, found
        raise FaultError("the checkpoint is forged: the key did not sign it")


class Verification:
    """Takes the lines of an export one by one; `check` raises FaultError at the first that does not hold."""

    def __init__(self, key: str, kept: list[str]) -> None:
        self._key = key
        self._notes = kept
        self.kept: list[tuple[int, bytes]] = []
        self.events = self.pruned = 0
        self._prunings: dict[str, list[list[int]]] = {}
        self._told: set[str] = set()
        self.size, self.root = 0, b""
        self.whole = False
        self._peaks = Peaks()
        self._sizes: dict[int, bytes] = {}
        self._heads: dict[int, tuple[int, str]] = {}
        self._openings: dict[int, str] = {0: bytes(32).hex()}
        self._latest: datetime | None = None
        self._sealed_until: datetime | None = None
        self._grown: set[tuple[int, bytes]] = set()

    def check(self, lines: Iterator[dict[str, Any]]) -> None:
        """Everything, or the first fault."""
        first = next(lines, None)
        if first is None or first.get("type") != "log":
            raise FaultError("the file does not begin as an export does")
        self._keys = Keys(self._key, first["changes"])
        if first["key"] not in self._keys:
            raise FaultError("the export is of another log: its key is not the one you were given")
        self.size, self.root = self._keys.open(first["checkpoint"])
        if self.size < self._keys.changed_at:
            # Whoever got hold of a key that was given up signs, with it, all that lies before its end.
            raise FaultError(
                f"the log was rolled back: its key was changed at {self._keys.changed_at} events, it has {self.size}"
            )
        self._sizes.update(self._keys.roots)
        self.kept = [self._keys.open(each) for each in self._notes]
        self.whole = first["whole"]
        for size, root in self.kept:
            if size > self.size:
                raise FaultError(
                    f"the log was rolled back: you hold a checkpoint of {size} events, this one has {self.size}"
                )
            self._sizes[size] = root
        takes = {
            "event": self._event,
            "pruned": self._pruned,
            "pruning": self._pruning,
            "checkpoint": self._checkpoint,
            "growth": self._growth,
            "end": self._end,
        }
        end = None
        for line in lines:
            end = line if line["type"] == "end" else None
            takes[line["type"]](line)
        if end is None:
            raise FaultError(f"the file was cut after {self.events} events: its last line is missing")

    def _checkpoint(self, line: dict[str, Any]) -> None:
        _, size, root = line["note"].splitlines()[:3]
        self._sizes.setdefault(int(size), base64.b64decode(root))

    def _growth(self, line: dict[str, Any]) -> None:
        size, root = self._keys.open(line["from"])
        if not grown(size, root, self.size, self.root, _hashes(line["path"])):
            raise FaultError(f"a proof is forged: the log of {size} events is not the beginning of this one")
        self._grown.add((size, root))

    def _event(self, line: dict[str, Any]) -> None:
        index, leaf = line["index"], line["leaf"].encode("utf-8")
        found = base64.b64decode(line["hash"])
        if leaf_hash(leaf) != found:
            raise FaultError(f"event {index} was altered: its bytes do not have its hash")
        if self.whole:
            self._next(index, found, json.loads(leaf))
        elif not included(found, index, self.size, _hashes(line["path"]), self.root):
            raise FaultError(f"the proof of event {index} is forged: it does not lead to the signed root")
        self.events += 1

    def _pruning(self, line: dict[str, Any]) -> None:
        ranges = [[int(number) for number in each] for each in line["ranges"]]
        self._prunings[hashlib.sha256(json.dumps(ranges, separators=(",", ":")).encode()).hexdigest()] = ranges

    def _pruned(self, line: dict[str, Any]) -> None:
        writer, seq = line["writer"], line["seq"]
        took = [
            told
            for told, ranges in self._prunings.items()
            if any(w == writer and 0 <= seq - first < count for w, first, count in ranges)
        ]
        if seq < 1 or not took:
            raise FaultError(f"event {line['index']} is missing: no pruning took it")
        if self._told.issuperset(took):
            raise FaultError(f"event {line['index']} is missing: its pruning was told of before it was there")
        found = base64.b64decode(line["hash"])
        self._place(line["index"])
        self._heads[writer] = (self._reached(line["index"], writer, seq), found.hex())
        self._append(found)
        self.events, self.pruned = self.events + 1, self.pruned + 1

    def _place(self, index: int) -> None:
        if index > self._peaks.size:
            raise FaultError(f"event {self._peaks.size} is missing")
        if index < self._peaks.size:
            raise FaultError(f"event {index} is there twice: it was inserted, or rows were swapped")

    def _next(self, index: int, found: bytes, told: dict[str, Any]) -> None:
        self._place(index)
        self._follow(index, found, int(told["writer"]), told["seq"], told["previous"])
        if told["action"] == "audit.trail.prune":
            self._told.add(told["digest"])
        moment = datetime.fromisoformat(told["at"])
        if self._sealed_until is not None and moment < self._sealed_until - LATE:
            raise FaultError(
                f"event {index} was back-dated: it tells of {moment}, sealed before it was {self._sealed_until}"
            )
        self._latest = moment if self._latest is None else max(moment, self._latest)
        self._append(found)

    def _append(self, found: bytes) -> None:
        self._peaks.append(found)
        root = self._sizes.get(self._peaks.size)
        if root is not None:
            if root != self._peaks.root():
                raise FaultError(
                    f"history was rewritten: the first {self._peaks.size} events are not those of a checkpoint"
                )
            self._sealed_until = self._latest

    def _reached(self, index: int, writer: int, seq: int) -> int:
        if seq != self._heads.get(writer, (-1, ""))[0] + 1:
            raise FaultError(
                f"event {index} is not the next of writer {writer}: rows were swapped, inserted or taken out"
            )
        return seq

    def _follow(self, index: int, found: bytes, writer: int, seq: int, previous: str) -> None:
        """Each event names the one before it of its writer, and each writer's first the first of the writer before."""
        _, head = self._heads.get(writer, (-1, self._openings.get(writer - 1, "")))
        self._reached(index, writer, seq)
        if previous != head:
            raise FaultError(f"event {index} does not follow the one before it: one of them was replaced")
        self._heads[writer] = (seq, found.hex())
        if seq == 0:
            self._openings[writer] = found.hex()

    def _end(self, line: dict[str, Any]) -> None:
        if line["events"] != self.events:
            raise FaultError(f"the file speaks of {line['events']} events and holds {self.events}")
        if self.whole and self._peaks.size != self.size:
            raise FaultError(f"the tail was cut: events {self._peaks.size} to {self.size - 1} are missing")
        if self.whole and self._peaks.root() != self.root:
            raise FaultError("the events are not those that the checkpoint was signed over")
        for ranges in (each for told, each in self._prunings.items() if told not in self._told):
            raise FaultError(f"events of writer {ranges[0][0]} are missing: no event tells of their pruning")
        for size, root in self.kept:
            if not self.whole and (size, root) not in self._grown | {(self.size, self.root)}:
                raise FaultError(f"the export holds no proof that it grew from your checkpoint of {size} events")


def _hashes(encoded: list[str]) -> list[bytes]:
    return [base64.b64decode(each) for each in encoded]


def _lines(path: str) -> Iterator[dict[str, Any]]:
    with Path(path).open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(description="Verifies an export of the hub's audit log.")
    parser.add_argument("export", help="the file that hub audit export wrote")
    parser.add_argument("--key", required=True, help="what hub audit key printed")
    parser.add_argument("--against", action="append", default=[], help="a file with a checkpoint kept from before")
    arguments = parser.parse_args()
    try:
        kept = [Path(each).read_text(encoding="utf-8") for each in arguments.against]
        verification = Verification(arguments.key, kept)
        verification.check(_lines(arguments.export))
    except FaultError as fault:
        print(f"FAULT: {fault}")
        return 1
    except OSError as error:
        print(f"cannot be read: {error}", file=sys.stderr)
        return 2
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        print(f"FAULT: the file is no export, or was damaged: {type(error).__name__}: {error}")
        return 1
    pruned = f", of {verification.pruned} only the hash" if verification.pruned else ""
    some = "" if verification.whole else "; these were chosen, and what else there is this file does not show"
    print(f"everything holds: {verification.events} events{pruned}, under a checkpoint of {verification.size}{some}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
