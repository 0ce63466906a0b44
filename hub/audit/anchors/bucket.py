"""An S3 bucket with object lock: nobody, not even its owner, deletes or replaces a checkpoint before its time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from hub.audit.anchors.types import AnchorError
from hub.audit.merkle.note import Checkpoint
from hub.keys.services.aws import aws_session
from hub.sdk import UnexpectedError

if TYPE_CHECKING:
    from pathlib import Path

MOST_KEPT = 10_000
"""Checkpoints read back at most, the newest."""


class BucketAnchor:
    """One object a checkpoint, locked in compliance mode; its name sorts by size."""

    name = "bucket"

    def __init__(
        self, bucket: str, prefix: str, days: int, *, endpoint: str | None = None, authorities: Path | None = None
    ) -> None:
        self._bucket, self._prefix, self._days = bucket, prefix, days
        self._endpoint, self._authorities = endpoint, authorities
        self._client: Any = None

    def put(self, checkpoint: Checkpoint) -> bytes:
        """The receipt names the version that is locked. AnchorError where the bucket does not lock it."""
        body = checkpoint.note.encode("utf-8")
        until = datetime.now(UTC) + timedelta(days=self._days)
        place = {"Bucket": self._bucket, "Key": f"{self._prefix}{checkpoint.size:020}.txt"}
        answer = self._ask(
            "put_object",
            **place,
            Body=body,
            ContentType="text/plain; charset=utf-8",
            ChecksumAlgorithm="SHA256",
            ObjectLockMode="COMPLIANCE",
            ObjectLockRetainUntilDate=until,
        )
        version = answer.get("VersionId")
        if not version:
            raise AnchorError(f"the bucket {self._bucket} keeps no versions: object lock is not on")
        lock = self._ask("get_object_retention", **place, VersionId=version).get("Retention", {})
        if lock.get("Mode") != "COMPLIANCE":
            raise AnchorError(f"the bucket {self._bucket} took the checkpoint and did not lock it")
        return sha256(body).digest() + str(version).encode("utf-8")

    def kept(self) -> list[str]:
        """The notes in the bucket, in the order of the log: each version that is locked, whatever was laid over it.

        A lock keeps a version from being deleted, not from being covered: by a newer one of the same name, which a log
        that was rolled back and sealed anew comes to, or by a mark that it is deleted.
        """
        found: list[tuple[str, str]] = []
        given: dict[str, str] = {}
        while True:
            page = self._ask("list_object_versions", Bucket=self._bucket, Prefix=self._prefix, **given)
            found += [(each["Key"], each["VersionId"]) for each in page.get("Versions", ())]
            if not page.get("IsTruncated"):
                break
            given = {"KeyMarker": page["NextKeyMarker"], "VersionIdMarker": page["NextVersionIdMarker"]}
        return [self._read(*each) for each in found[-MOST_KEPT:]]

    def _read(self, name: str, version: str) -> str:
        body = self._ask("get_object", Bucket=self._bucket, Key=name, VersionId=version)["Body"]
        return str(body.read().decode("utf-8"))

    def _ask(self, verb: str, **given: Any) -> dict[str, Any]:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            answer: dict[str, Any] = getattr(self._connected(), verb)(**given)
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            raise AnchorError(f"the bucket {self._bucket} refused {verb}: {code}") from error
        except UnexpectedError as error:
            raise AnchorError(f"the bucket {self._bucket} answers {verb} with no S3: {error}") from error
        except BotoCoreError as error:
            raise AnchorError(f"the bucket {self._bucket} does not answer: {type(error).__name__}") from error
        return answer

    def _connected(self) -> Any:
        """The client; its login comes from where AWS's own tools find it: variables, a profile, the machine's role."""
        if self._client is None:
            from botocore.config import Config

            config = Config(connect_timeout=10, read_timeout=30, retries={"max_attempts": 3, "mode": "standard"})
            verify = str(self._authorities) if self._authorities is not None else None
            self._client = aws_session().client("s3", endpoint_url=self._endpoint, config=config, verify=verify)
        return self._client
