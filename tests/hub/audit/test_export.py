"""An export is verified by one file of Python that knows nothing of the hub, and by `openssl` with a shell."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import hub
from hub.audit import Chosen
from hub.audit.merkle import verifier
from hub.audit.merkle.export import encoded
from hub.audit.merkle.note import sign_checkpoint
from hub.audit.merkle.sealer import PURPOSE
from hub.database import Database
from hub.keys import open_signing_key
from tests.hub.audit.sealed_log import READ, Log, make_log

PROGRAM = Path(verifier.__file__)


@pytest.fixture
def log(any_database: Database, tmp_path: Path) -> Log:
    return make_log(any_database, tmp_path)


def whole(log: Log) -> list[dict[str, Any]]:
    """The lines of an export of everything."""
    lines: list[str] = []
    log.sealed.export(lines.append)
    return [json.loads(each) for each in lines]


def some(log: Log) -> list[dict[str, Any]]:
    """The lines of an export of one run's events, with growth proven from the second checkpoint."""
    lines: list[str] = []
    log.sealed.export(lines.append, Chosen(run=READ.run), [log.kept[1].note])
    return [json.loads(each) for each in lines]


def judged(log: Log, lines: list[dict[str, Any]], *kept: int) -> str | None:
    """What the stand-alone verifier names."""
    verification = verifier.Verification(log.sealed.verifier_key(), [log.kept[each].note for each in kept])
    try:
        verification.check(iter(lines))
    except verifier.FaultError as fault:
        return str(fault)
    assert verification.events == sum(each["type"] in ("event", "pruned") for each in lines)
    return None


def events(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [each for each in lines if each["type"] == "event"]


def test_the_program_alone_verifies_an_export(log: Log, tmp_path: Path) -> None:
    export, kept = tmp_path / "export.jsonl", tmp_path / "kept.txt"
    with export.open("w", encoding="utf-8") as file:
        assert log.sealed.export(file.write) == 320
    kept.write_text(log.kept[1].note, encoding="utf-8")
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / "verify.py").write_bytes(PROGRAM.read_bytes())
    command = [sys.executable, "-I", "-S", "verify.py", export, "--key", log.sealed.verifier_key(), "--against", kept]
    done = subprocess.run(command, cwd=alone, env={}, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "everything holds: 320 events, under a checkpoint of 320\n")
    export.write_text(export.read_text(encoding="utf-8").replace('\\"rows\\":7', '\\"rows\\":8', 1), encoding="utf-8")
    done = subprocess.run(command, cwd=alone, env={}, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, "FAULT: event 1 was altered: its bytes do not have its hash\n")
    (tmp_path / "export.jsonl").unlink()
    assert subprocess.run(command, cwd=alone, env={}, capture_output=True, timeout=60).returncode == 2


def test_an_honest_export_holds_whole_and_in_part(log: Log) -> None:
    assert judged(log, whole(log), 0, 1, 2, 3) is None
    assert judged(log, some(log), 1) is None
    assert len(events(some(log))) == 316


def test_an_export_of_some_must_show_that_it_grew_from_what_you_hold(log: Log) -> None:
    assert judged(log, some(log), 2) == "the export holds no proof that it grew from your checkpoint of 316 events"


def test_growth_from_another_log_of_that_size_is_no_growth_from_yours(log: Log) -> None:
    from tests.hub.audit.test_sealed import roll_back

    mine = log.kept[3]
    roll_back(log)
    log.write(9)
    log.write(1)
    lines: list[str] = []
    log.sealed.export(lines.append, Chosen(run=READ.run), [log.kept[1].note])
    told = [json.loads(each) for each in lines]
    with log.database.read() as session:
        tree = log.sealed._tree(session)
        rewritten, path = tree.root(mine.size), tree.consistency(mine.size, log.kept[-1].size)
        signer = open_signing_key(session, log.sealed._keys, PURPOSE)
    note = sign_checkpoint(signer, mine.size, rewritten).note
    told.insert(1, {"type": "growth", "from": note, "path": encoded(path)})
    assert judged(log, told) is None
    assert judged(log, told, 3) == "the export holds no proof that it grew from your checkpoint of 320 events"


@pytest.mark.parametrize(
    "line", [b"[]", b'"x"', b"{}", b'{"type":"pruning","batch":1,"ranges":[]}', b'{"type":"log","changes":["x"]}']
)
def test_what_is_no_export_is_said_to_be_none(log: Log, tmp_path: Path, line: bytes) -> None:
    export, lines = tmp_path / "export.jsonl", list[str]()
    log.sealed.export(lines.append)
    for text in (line + b"\n", b"".join([lines[0].encode(), line + b"\n", *(each.encode() for each in lines[1:])])):
        export.write_bytes(text)
        command = [sys.executable, "-I", "-S", PROGRAM, export, "--key", log.sealed.verifier_key()]
        done = subprocess.run(command, env={}, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (1, "")
        assert done.stdout.startswith("FAULT: ")


def test_a_file_of_chosen_events_says_that_it_is_no_more(log: Log, tmp_path: Path) -> None:
    export = tmp_path / "export.jsonl"
    with export.open("w", encoding="utf-8") as file:
        log.sealed.export(file.write, Chosen(run=READ.run))
    command = [sys.executable, "-I", "-S", PROGRAM, export, "--key", log.sealed.verifier_key()]
    done = subprocess.run(command, env={}, capture_output=True, text=True, timeout=60)
    assert done.stdout == (
        "everything holds: 316 events, under a checkpoint of 320; "
        "these were chosen, and what else there is this file does not show\n"
    )


def alter(line: dict[str, Any]) -> None:
    line["leaf"] = line["leaf"].replace('"rows":7', '"rows":8')


def rehash(line: dict[str, Any]) -> None:
    alter(line)
    line["hash"] = verifier.base64.b64encode(verifier.leaf_hash(line["leaf"].encode())).decode()


def test_each_damage_to_a_whole_export_is_named(log: Log) -> None:
    def damaged(index: int, change: Any) -> str | None:
        lines = whole(log)
        change(lines, events(lines)[index])
        return judged(log, lines)

    def swap(lines: list[dict[str, Any]], line: dict[str, Any]) -> None:
        at = lines.index(line)
        lines[at], lines[at + 1] = lines[at + 1], lines[at]

    def swap_contents(lines: list[dict[str, Any]], line: dict[str, Any]) -> None:
        swap(lines, line)
        line["index"], lines[lines.index(line) - 1]["index"] = line["index"] + 1, line["index"]

    def insert(lines: list[dict[str, Any]], line: dict[str, Any]) -> None:
        lines.insert(lines.index(line), {**line, "index": line["index"]})

    def cut(lines: list[dict[str, Any]], line: dict[str, Any]) -> None:
        left = lines.index(line)
        del lines[left:-1]
        lines[-1]["events"] = len(events(lines))

    assert damaged(20, lambda _, line: alter(line)) == "event 20 was altered: its bytes do not have its hash"
    assert damaged(20, lambda _, line: rehash(line)) == (
        "event 21 does not follow the one before it: one of them was replaced"
    )
    assert damaged(319, lambda _, line: rehash(line)) == (
        "history was rewritten: the first 320 events are not those of a checkpoint"
    )
    assert damaged(20, lambda lines, line: lines.remove(line)) == "event 20 is missing"
    assert damaged(20, swap) == "event 20 is missing"
    assert damaged(20, swap_contents) == (
        "event 20 is not the next of writer 2: rows were swapped, inserted or taken out"
    )
    assert damaged(20, insert) == "event 20 is there twice: it was inserted, or rows were swapped"
    assert damaged(300, cut) == "the tail was cut: events 300 to 319 are missing"
    assert damaged(300, lambda lines, _: lines.pop()) == "the file was cut after 320 events: its last line is missing"


def test_a_back_dated_event_is_named(log: Log) -> None:
    from tests.hub.audit.test_sealed import put

    put(log, 1, 9, 30)
    log.sealed.seal(every_chain=True)
    assert str(judged(log, whole(log))).startswith("event 320 was back-dated: it tells of 2025-12-02")


def test_a_log_rolled_back_is_named(log: Log) -> None:
    from tests.hub.audit.test_sealed import roll_back

    roll_back(log)
    assert judged(log, whole(log), 2) is None
    assert judged(log, whole(log), 3) == (
        "the log was rolled back: you hold a checkpoint of 320 events, this one has 316"
    )
    log.write(9)
    assert judged(log, whole(log), 3) == "history was rewritten: the first 320 events are not those of a checkpoint"


def test_forged_proofs_are_named(log: Log) -> None:
    def forged(change: Any) -> str | None:
        lines = some(log)
        change(lines)
        return judged(log, lines, 1)

    def other_path(lines: list[dict[str, Any]]) -> None:
        events(lines)[5]["path"] = events(lines)[6]["path"]

    def other_place(lines: list[dict[str, Any]]) -> None:
        events(lines)[5]["index"] += 1

    def other_growth(lines: list[dict[str, Any]]) -> None:
        lines[1]["path"].reverse()

    def other_root(lines: list[dict[str, Any]]) -> None:
        lines[0]["checkpoint"] = lines[0]["checkpoint"].replace("\n320\n", "\n321\n")

    assert forged(other_path) == "the proof of event 6 is forged: it does not lead to the signed root"
    assert str(forged(other_place)).endswith("is forged: it does not lead to the signed root")
    assert forged(lambda lines: rehash(events(lines)[5])) == (
        "the proof of event 6 is forged: it does not lead to the signed root"
    )
    assert forged(other_growth) == "a proof is forged: the log of 310 events is not the beginning of this one"
    assert forged(other_root) == "the checkpoint is forged: the key did not sign it"
    assert forged(lambda lines: lines[0].update(key="x+00+AQ==")) == (
        "the export is of another log: its key is not the one you were given"
    )


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_whatever_character_of_an_export_is_changed_it_does_not_verify(log: Log, data: st.DataObject) -> None:
    lines: list[str] = []
    log.sealed.export(lines.append, Chosen(run=READ.run), [log.kept[1].note])
    text = "".join(lines[:4] + lines[-1:]).replace('"events":316', '"events":2')
    assert failure(log, text) is None
    at = data.draw(st.integers(0, len(text) - 1))
    put = data.draw(st.characters(min_codepoint=33, max_codepoint=126).filter(lambda each: each != text[at]))
    assert failure(log, text[:at] + put + text[at + 1 :]) is not None


def failure(log: Log, text: str) -> str | None:
    """What the program would say of this file."""
    try:
        return judged(log, [json.loads(each) for each in text.splitlines()], 1)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return type(error).__name__


@given(st.binary(max_size=200), st.binary(min_size=32, max_size=32), st.integers(0, 511))
@settings(max_examples=30)
def test_its_ed25519_agrees_with_openssl_s(message: bytes, seed: bytes, bit: int) -> None:
    private = Ed25519PrivateKey.from_private_bytes(seed)
    public = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    signature = bytearray(private.sign(message))
    assert verifier.verifies(public, message, bytes(signature))
    assert not verifier.verifies(public, message + b"x", bytes(signature))
    signature[bit // 8] ^= 1 << bit % 8
    assert not verifier.verifies(public, message, bytes(signature))


def test_ed25519_keeps_the_vectors_of_the_standard() -> None:
    """RFC 8032, 7.1, tests 1 and 2; and a scalar beyond the order, which 5.1.7 refuses."""
    vectors = [
        (
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155",
            "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
        ),
        (
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "72",
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da",
            "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        ),
    ]
    for public, message, *signature in vectors:
        raw = bytes.fromhex("".join(signature))
        assert verifier.verifies(bytes.fromhex(public), bytes.fromhex(message), raw)
        larger = (int.from_bytes(raw[32:], "little") + verifier.ORDER).to_bytes(32, "little")
        assert not verifier.verifies(bytes.fromhex(public), bytes.fromhex(message), raw[:32] + larger)


@pytest.mark.parametrize("index", [0, 7, 255, 319])
def test_the_commands_of_the_guide_check_a_proof_with_openssl_alone(log: Log, tmp_path: Path, index: int) -> None:
    from hub.cli.audit import _write_proof

    guide = (Path(hub.__file__).parent / "docs" / "secure.md").read_text(encoding="utf-8")
    (script,) = re.findall(r"```sh\n(# In the folder of the proof.*?)```", guide, re.DOTALL)
    folder = tmp_path / "proof"
    _write_proof(folder, log.sealed.prove_at(index), log.sealed.verifier_key())

    def run() -> str:
        command = ["bash", "-c", script]
        done = subprocess.run(command, cwd=folder, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True)
        return done.stdout

    assert run() == "Signature Verified Successfully\nthe log holds the event\n"
    event = folder / "event.json"
    event.write_bytes(event.read_bytes().replace(b'"seq"', b'"sEq"'))
    assert run() == "Signature Verified Successfully\n"
    checkpoint = folder / "checkpoint.txt"
    checkpoint.write_text(checkpoint.read_text(encoding="utf-8").replace("\n320\n", "\n321\n"), encoding="utf-8")
    assert "Verified Successfully" not in run()
