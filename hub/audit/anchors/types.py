"""What a place for checkpoints does: it takes one, and answers something to keep."""

from __future__ import annotations

from typing import Protocol

from hub.audit.merkle.note import Checkpoint


class AnchorError(Exception):
    """The place did not take the checkpoint, or answered something that is no receipt of it."""


class Anchor(Protocol):
    """A place outside the hub. One that keeps what it is given and lets it be read has `kept` notes; others have none.

    Another kind (an object store with retention, a witness) is one more class with these three.
    """

    @property
    def name(self) -> str:
        """Which place, in the audit trail; no address with a secret in it."""
        ...

    def put(self, checkpoint: Checkpoint) -> bytes:
        """The receipt, once the checkpoint is durable there. Doing it twice is harmless. AnchorError."""
        ...

    def kept(self) -> list[str]:
        """The notes that can be read back from there. AnchorError where they cannot."""
        ...
