"""A bucket with object lock takes checkpoints, and keeps them from whoever owns it."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

import pytest

from hub.audit import AuditLog
from hub.audit.anchors import AnchorError, Anchoring, configured
from hub.audit.anchors.bucket import BucketAnchor
from hub.database import Database
from hub.settings import SettingsError, load_settings
from tests.hub.audit.sealed_log import Log, make_log

boto3 = pytest.importorskip("boto3")


@dataclass
class Version:
    """One version of an object, and until when nobody deletes it."""

    body: bytes
    until: datetime | None
    number: str = ""


@dataclass
class Store:
    """A small object store that speaks as much of S3 as the anchor does, and keeps its locks."""

    locking: bool = True
    objects: dict[str, list[Version]] = field(default_factory=dict)
    marked: set[str] = field(default_factory=set)
    """Names over which a mark lies that they are deleted."""
    page: int = 1000

    def put(self, name: str, body: bytes, headers: Any) -> dict[str, str]:
        """A new version; nothing is ever replaced."""
        mode, until = headers.get("x-amz-object-lock-mode"), headers.get("x-amz-object-lock-retain-until-date")
        locked = self.locking and mode == "COMPLIANCE"
        moment = datetime.fromisoformat(until) if locked else None
        versions = self.objects.setdefault(name, [])
        versions.append(Version(body, moment, str(len(versions) + 1)))
        return {"x-amz-version-id": versions[-1].number} if self.locking else {}

    def delete(self, name: str, version: int) -> bool:
        """False where it is locked."""
        found = self.objects[name][version - 1]
        if found.until is not None and found.until > datetime.now(UTC):
            return False
        self.objects[name].remove(found)
        return True


def decoded(body: bytes, headers: Any) -> bytes:
    """The content of a body that was sent in chunks with a checksum behind it."""
    if "aws-chunked" not in headers.get("Content-Encoding", ""):
        return body
    content = b""
    while True:
        size, _, rest = body.partition(b"\r\n")
        length = int(size.split(b";")[0], 16)
        if not length:
            return content
        content, body = content + rest[:length], rest[length + 2 :]


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Store, str]]:
    """The store and its address."""
    kept = Store()

    class Asked(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def reply(self, status: int, body: str = "", headers: dict[str, str] | None = None) -> None:
            content = body.encode()
            self.send_response(status)
            for name, value in {**(headers or {}), "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def place(self) -> tuple[str, dict[str, list[str]]]:
            parts = urlsplit(self.path)
            return unquote(parts.path).partition("/")[2].partition("/")[2], parse_qs(
                parts.query, keep_blank_values=True
            )

        def do_PUT(self) -> None:
            body = decoded(self.rfile.read(int(self.headers["Content-Length"])), self.headers)
            self.reply(200, headers=kept.put(self.place()[0], body, self.headers))

        def do_DELETE(self) -> None:
            name, query = self.place()
            if "versionId" not in query:
                kept.marked.add(name)
                self.reply(204, headers={"x-amz-delete-marker": "true"})
                return
            gone = kept.delete(name, int(query["versionId"][0]))
            denied = "<Error><Code>AccessDenied</Code><Message>locked</Message></Error>"
            self.reply(204 if gone else 403, "" if gone else denied)

        def do_GET(self) -> None:
            name, query = self.place()
            if "retention" in query:
                until = kept.objects[name][-1].until
                lock = f"<Mode>COMPLIANCE</Mode><RetainUntilDate>{until.isoformat()}</RetainUntilDate>" if until else ""
                self.reply(200, f"<Retention>{lock}</Retention>")
            elif "versions" in query:
                self.list_versions(query)
            elif name in kept.objects and "versionId" in query:
                self.reply(200, kept.objects[name][int(query["versionId"][0]) - 1].body.decode())
            elif name in kept.objects and name not in kept.marked:
                self.reply(200, kept.objects[name][-1].body.decode())
            else:
                self.reply(404, "<Error><Code>NoSuchKey</Code><Message>none</Message></Error>")

        def list_versions(self, query: dict[str, list[str]]) -> None:
            """As S3 does: by name, of each the newest first, page by page."""
            found = [
                (name, each.number)
                for name in sorted(each for each in kept.objects if each.startswith(query["prefix"][0]))
                for each in reversed(kept.objects[name])
            ]
            after = (query.get("key-marker", [""])[0], query.get("version-id-marker", [""])[0])
            found = found[found.index(after) + 1 :] if after in found else found
            listed = "".join(
                f"<Version><Key>{escape(name)}</Key><VersionId>{number}</VersionId></Version>"
                for name, number in found[: kept.page]
            )
            more = "<IsTruncated>false</IsTruncated>"
            if len(found) > kept.page:
                name, number = found[kept.page - 1]
                more = "<IsTruncated>true</IsTruncated>"
                more += f"<NextKeyMarker>{escape(name)}</NextKeyMarker>"
                more += f"<NextVersionIdMarker>{number}</NextVersionIdMarker>"
            self.reply(200, f"<ListVersionsResult>{more}{listed}</ListVersionsResult>")

        def log_message(self, *_args: object) -> None:
            """Says nothing."""

    for name, value in (
        ("AWS_ACCESS_KEY_ID", "planted"),
        ("AWS_SECRET_ACCESS_KEY", "planted-secret"),
        ("AWS_DEFAULT_REGION", "eu-central-1"),
        ("AWS_EC2_METADATA_DISABLED", "true"),
    ):
        monkeypatch.setenv(name, value)
    for name in ("AWS_CA_BUNDLE", "AWS_PROFILE", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Asked)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield kept, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def log(database: Database, tmp_path: Path) -> Log:
    return make_log(database, tmp_path)


def test_a_checkpoint_is_locked_and_read_back(log: Log, store: tuple[Store, str]) -> None:
    kept, address = store
    anchor = BucketAnchor("audit", "hub/", 30, endpoint=address)
    for each in log.kept[:3]:
        assert anchor.put(each).endswith(b"1")
    assert anchor.kept() == [each.note for each in log.kept[:3]]
    client = boto3.client("s3", endpoint_url=address)
    with pytest.raises(client.exceptions.ClientError, match="AccessDenied"):
        client.delete_object(Bucket="audit", Key=f"hub/{log.kept[0].size:020}.txt", VersionId="1")
    assert len(kept.objects) == 3


def test_a_database_rolled_back_is_named_by_what_the_bucket_kept(log: Log, store: tuple[Store, str]) -> None:
    from tests.hub.audit.test_sealed import roll_back

    _, address = store
    audit = AuditLog(log.database, clock=log.clock)
    anchors = [BucketAnchor("audit", "hub/", 30, endpoint=address)]
    anchoring = Anchoring(log.database, log.sealed, audit, anchors, apart=log.clock.moment - log.clock.moment)
    assert anchoring.push() == 1
    assert log.sealed.verify(anchoring.kept()).ok
    roll_back(log)
    assert "the database was rolled back" in str(log.sealed.verify(anchoring.kept()).fault)


def test_whatever_is_laid_over_a_locked_checkpoint_it_is_read(log: Log, store: tuple[Store, str]) -> None:
    from tests.hub.audit.test_sealed import roll_back

    kept, address = store
    kept.page = 2
    anchor = BucketAnchor("audit", "hub/", 30, endpoint=address)
    for each in log.kept:
        anchor.put(each)
    client = boto3.client("s3", endpoint_url=address)
    for each in log.kept:
        client.delete_object(Bucket="audit", Key=f"hub/{each.size:020}.txt")
    assert anchor.kept() == [each.note for each in log.kept]
    size = log.kept[-1].size
    roll_back(log)
    log.write(size - log.kept[-2].size - 1)  # with the opening of its writer it comes to the very size
    assert log.kept[-1].size == size
    anchor.put(log.kept[-1])
    assert len(anchor.kept()) == len(log.kept)
    assert "history was rewritten" in str(log.sealed.verify(anchor.kept()).fault)


def test_a_bucket_that_does_not_lock_is_no_anchor(log: Log, store: tuple[Store, str]) -> None:
    kept, address = store
    kept.locking = False
    with pytest.raises(AnchorError, match="object lock is not on"):
        BucketAnchor("audit", "hub/", 30, endpoint=address).put(log.kept[0])


def test_a_bucket_that_is_not_there_is_told_without_a_secret(log: Log, store: tuple[Store, str]) -> None:
    anchor = BucketAnchor("audit", "hub/", 30, endpoint="http://127.0.0.1:9")
    with pytest.raises(AnchorError, match="the bucket audit does not answer") as told:
        anchor.put(log.kept[0])
    assert "planted" not in str(told.value)


def test_a_bucket_is_named_by_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (anchor,) = configured(load_settings(audit_anchor_bucket="audit-trail/hub/"))
    assert anchor.name == "bucket"
    with pytest.raises(SettingsError, match="HUB_AUDIT_ANCHOR_BUCKET"):
        load_settings(audit_anchor_bucket="No Bucket")
