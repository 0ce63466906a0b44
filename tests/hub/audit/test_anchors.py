"""Checkpoints leave the hub: to a file, a webhook and a time-stamping authority, which are real ones here."""

from __future__ import annotations

import http.server
import resource
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from hub.audit import Action, AuditLog, Outcome, SealedLog
from hub.audit.anchors import Anchor, AnchorError, Anchoring, FileAnchor, configured, timestamp
from hub.audit.anchors.web import TimestampAnchor, WebhookAnchor, Wire
from hub.database import Database
from hub.sdk.testing.tls import Certificates, make_certificates
from hub.settings import load_settings
from tests.hub.audit.sealed_log import Log, make_keys, make_log

AUTHORITY = """
[req]
distinguished_name = name
prompt = no
x509_extensions = stamping
[name]
CN = an authority
[stamping]
basicConstraints = critical, CA:TRUE
extendedKeyUsage = critical, timeStamping
[tsa]
default_tsa = here
[here]
serial = serial
signer_cert = tsa.pem
signer_key = tsa.key
signer_digest = sha256
default_policy = 1.2.3.4
digests = sha256
ess_cert_id_alg = sha256
"""

Answer = Callable[[bytes], tuple[int, bytes]]


@pytest.fixture
def log(any_database: Database, tmp_path: Path) -> Log:
    return make_log(any_database, tmp_path)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"))


@contextmanager
def listening(certificates: Certificates, answer: Answer) -> Iterator[tuple[Wire, list[bytes]]]:
    """An HTTPS server that answers each post, and what it was sent."""
    seen: list[bytes] = []

    class Posted(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            seen.append(self.rfile.read(int(self.headers["Content-Length"])))
            status, body = answer(seen[-1])
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Posted)
    server.socket = certificates.server().wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield Wire(f"https://localhost:{server.server_port}/in", certificates.authority, private=True), seen
    finally:
        server.shutdown()
        server.server_close()


def anchoring(log: Log, *anchors: Anchor, apart: float = 0) -> tuple[Anchoring, AuditLog]:
    audit = AuditLog(log.database, clock=log.clock)
    return Anchoring(log.database, log.sealed, audit, anchors, apart=timedelta(seconds=apart)), audit


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    """The folder of a time-stamping authority that `openssl ts` runs."""
    folder = tmp_path / "tsa"
    folder.mkdir()
    (folder / "tsa.cnf").write_text(AUTHORITY, encoding="utf-8")
    (folder / "serial").write_text("01\n", encoding="utf-8")
    made = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -config tsa.cnf -keyout tsa.key -out tsa.pem"
    subprocess.run(["openssl", *made.split()], cwd=folder, check=True, capture_output=True)
    return folder


def stamped(folder: Path, request: bytes) -> bytes:
    """What the authority answers."""
    (folder / "request.tsq").write_bytes(request)
    asked = "ts -reply -config tsa.cnf -queryfile request.tsq -out answer.tsr"
    subprocess.run(["openssl", *asked.split()], cwd=folder, check=True, capture_output=True)
    return (folder / "answer.tsr").read_bytes()


def test_a_file_keeps_every_checkpoint_and_names_a_rolled_back_database(log: Log, tmp_path: Path) -> None:
    from tests.hub.audit.test_sealed import roll_back

    place = FileAnchor(tmp_path / "kept.jsonl")
    made, _ = anchoring(log, place)
    assert (made.kept(), made.push(), made.push()) == ([], 1, 0)
    log.write(3)
    assert made.push() == 1
    assert [each.size for each in made.receipts()] == [324, 320]
    assert made.kept() == [log.kept[3].note, log.kept[4].note]
    assert log.sealed.verify(made.kept()).kept == 2
    log.tamper("delete from audit_event where writer = 5", "delete from audit_span where writer = 5")
    log.tamper("delete from audit_chain where writer = 5")
    roll_back(log)
    assert "the database was rolled back" in str(log.sealed.verify(made.kept()).fault)


def test_a_checkpoint_that_a_full_disk_took_half_of_is_not_kept(log: Log, tmp_path: Path) -> None:
    file = tmp_path / "kept.jsonl"
    place = FileAnchor(file)
    place.put(log.kept[0])
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size + 10, before[1]))
    try:
        with pytest.raises(AnchorError, match="took half of the checkpoint"):
            place.put(log.kept[1])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    place.put(log.kept[1])
    assert place.kept() == [log.kept[0].note, log.kept[1].note]


def test_half_a_line_that_a_crash_left_does_not_hide_the_others(log: Log, tmp_path: Path) -> None:
    file = tmp_path / "kept.jsonl"
    made, _ = anchoring(log, FileAnchor(file))
    made.push()
    with file.open("a", encoding="utf-8") as torn:
        torn.write('{"size": 321, "no')
    log.write(3)
    made.push()
    assert made.kept() == [log.kept[3].note, log.kept[4].note]


def test_checkpoints_leave_no_more_often_than_asked(log: Log, tmp_path: Path) -> None:
    made, _ = anchoring(log, FileAnchor(tmp_path / "kept.jsonl"), apart=60)
    assert made.push() == 1
    log.write(3)
    assert made.push() == 0


def test_a_webhook_is_sent_the_signed_note(log: Log, certificates: Certificates) -> None:
    with listening(certificates, lambda _: (204, b"")) as (wire, seen):
        made, _ = anchoring(log, WebhookAnchor(wire))
        assert made.push() == 1
    assert seen == [log.kept[3].note.encode()]


def test_a_place_that_fails_is_in_the_trail_once_and_again_when_it_recovers(
    log: Log, certificates: Certificates, tmp_path: Path
) -> None:
    status = [500]
    with listening(certificates, lambda _: (status[0], b"")) as (wire, _):
        made, audit = anchoring(log, WebhookAnchor(wire), FileAnchor(tmp_path / "kept.jsonl"))
        assert (made.push(), made.push()) == (1, 0)  # the file takes it, whatever the webhook does
        assert [each.event.outcome for each in audit.events(action=Action.AUDIT_ANCHOR)] == [Outcome.FAILED]
        status[0] = 200
        assert made.push() == 1
        told = [each.event.outcome for each in audit.events(action=Action.AUDIT_ANCHOR)]
        assert sorted(told) == [Outcome.DONE, Outcome.FAILED]


def test_a_server_that_cannot_prove_who_it_is_gets_nothing(log: Log, certificates: Certificates) -> None:
    with listening(certificates, lambda _: (200, b"")) as (wire, seen):
        with pytest.raises(AnchorError, match="localhost did not take the checkpoint"):
            WebhookAnchor(Wire(wire.url, private=True)).put(log.kept[3])
        assert seen == []


def test_a_timestamp_is_one_that_openssl_verifies(
    log: Log, certificates: Certificates, authority: Path, tmp_path: Path
) -> None:
    with listening(certificates, lambda request: (200, stamped(authority, request))) as (wire, _):
        made, _ = anchoring(log, TimestampAnchor(wire))
        assert made.push() == 1
    (receipt,) = made.receipts()
    (tmp_path / "receipt.tsr").write_bytes(receipt.receipt)
    (tmp_path / "checkpoint.txt").write_text(log.kept[3].note, encoding="utf-8")
    asked = "openssl ts -verify -data checkpoint.txt -in receipt.tsr -CAfile tsa/tsa.pem"
    assert subprocess.run(asked.split(), cwd=tmp_path, capture_output=True).returncode == 0
    (tmp_path / "checkpoint.txt").write_text(log.kept[2].note, encoding="utf-8")
    assert subprocess.run(asked.split(), cwd=tmp_path, capture_output=True).returncode == 1


def test_an_answer_to_something_else_is_no_timestamp(authority: Path) -> None:
    digest, other = bytes(range(32)), bytes(32)
    for nonce in (1, 127, 128, 2**62 + 1):
        answer = stamped(authority, timestamp.request(digest, nonce))
        timestamp.check(answer, digest, nonce)
        with pytest.raises(AnchorError, match="answered to something else"):
            timestamp.check(answer, other, nonce)
        with pytest.raises(AnchorError, match="answered to something else"):
            timestamp.check(answer, digest, nonce + 1)
    for broken in (b"", b"no", answer[:40], answer[:-1], b"\x30\x82", bytes(500)):
        with pytest.raises(AnchorError, match="is no timestamp"):
            timestamp.check(broken, digest, nonce)
    with pytest.raises(AnchorError, match="refused"):
        timestamp.check(bytes.fromhex("30053003020102"), digest, nonce)


def test_a_place_in_a_private_network_is_called_only_where_the_settings_say_so(
    log: Log, certificates: Certificates, tmp_path: Path
) -> None:
    with listening(certificates, lambda _: (200, b"")) as (wire, seen):
        named = {
            "home": tmp_path,
            "audit_anchor_webhook": wire.url,
            "audit_anchor_authorities": certificates.authority,
        }
        (refused,) = configured(load_settings(**named))
        with pytest.raises(AnchorError, match="private network"):
            refused.put(log.kept[3])
        assert seen == []
        (allowed,) = configured(load_settings(**named, private_hosts="siem.example localhost"))
        allowed.put(log.kept[3])
        assert len(seen) == 1


def test_the_settings_name_the_places(tmp_path: Path) -> None:
    assert configured(load_settings(home=tmp_path)) == []
    address = "https://siem.example/in"
    named = load_settings(
        home=tmp_path, audit_anchor_file=tmp_path / "a", audit_anchor_webhook=address, audit_anchor_timestamp=address
    )
    assert [each.name for each in configured(named)] == ["file", "webhook", "timestamp"]


def test_nothing_leaves_before_anything_is_sealed(database: Database, tmp_path: Path) -> None:
    sealed = SealedLog(database, make_keys(tmp_path))
    made = Anchoring(database, sealed, AuditLog(database), [FileAnchor(tmp_path / "a")], apart=timedelta(0))
    assert (made.push(), made.receipts()) == (0, [])
