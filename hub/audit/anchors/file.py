"""A file that is only appended to, on a volume that the hub's administrators do not own."""

from __future__ import annotations

import json
import os
from hashlib import sha256
from pathlib import Path

from hub.audit.anchors.types import AnchorError
from hub.audit.merkle.note import Checkpoint


class FileAnchor:
    """One checkpoint a line, as JSON."""

    name = "file"

    def __init__(self, path: Path) -> None:
        self._path = path

    def put(self, checkpoint: Checkpoint) -> bytes:
        """Durable when it returns; the receipt is the digest of the line."""
        line = json.dumps({"size": checkpoint.size, "note": checkpoint.note}, ensure_ascii=False).encode("utf-8")
        try:
            descriptor = os.open(self._path, os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o640)
            try:
                # The line before may be half of one, left by a machine that went down: it ends here.
                whole = b"\n" + line + b"\n"
                if os.write(descriptor, whole) != len(whole):
                    raise AnchorError(f"{self._path} took half of the checkpoint: its disk is full")
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise AnchorError(f"{self._path} cannot be written: {error.strerror}") from error
        return sha256(line).digest()

    def kept(self) -> list[str]:
        """Every whole line's note; none where nothing was put yet."""
        try:
            text = self._path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return []
        except OSError as error:
            raise AnchorError(f"{self._path} cannot be read: {error.strerror}") from error
        return [note for line in text.splitlines() if (note := _note(line)) is not None]


def _note(line: str) -> str | None:
    try:
        return str(json.loads(line)["note"])
    except (ValueError, KeyError, TypeError):
        return None  # an empty line, or the half of one that was being written when the machine went down
