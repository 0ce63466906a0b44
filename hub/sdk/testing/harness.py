"""What a connector's author supplies to the conformance suite: a far side that can be filled, looked at and broken."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeAlias

from hub.sdk import Config, Connector, Context, Entity, Field, Grant, Minter, Secret, Spec, Value
from hub.sdk.shared import LentShared

Record: TypeAlias = Mapping[str, Value]


class Fault(StrEnum):
    """What a far side can be made to do to the connections of one configuration."""

    LOGIN = "login"
    """The login is refused, although the configuration still carries the planted secret."""
    RIGHT = "right"
    """The login holds every right but `Harness.withheld`, and cannot see `Harness.hidden`."""
    DOWN = "down"
    """Nothing listens."""
    HANG = "hang"
    """The connection is accepted, and then there is silence."""
    BUSY = "busy"
    """The far side asks to come back later, after `Harness.retry_after` seconds where it can say so."""
    GARBLED = "garbled"
    """An answer arrives that makes no sense, or only half of one."""
    CUT_READ = "cut read"
    """The connection is lost after at least one page has been read."""
    CUT_WRITE = "cut write"
    """The connection is lost in mid-write, after the far side has taken at least one change and before it says so."""
    EXPIRE = "expire"
    """The login's token runs out between two calls; a new login is granted."""


def _named(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)


class Harness(ABC):
    """One stand-in of a far side. Abstract: `config` and `seed`; a destination needs `stored`, `count` and `edit` too.

    One instance serves one test. Whatever a stand-in cannot do leaves its test failing by assertion, and is then
    declared once, in `gaps`.
    """

    spec: ClassVar[Spec]
    stand_in: ClassVar[str]
    """The name of this stand-in, unique among those of one connector: `sqlite`, `postgresql`, `twin`."""
    kind: ClassVar[Literal["fake", "peer", "live"]]
    """A fake is ours; a peer is an implementation by others that was installed; live is an account at the real one."""
    gaps: ClassVar[Mapping[str, str]] = {}
    """Test name → why it cannot pass: `ours: …` could be done, `theirs: …` cannot. A strict expected failure."""
    faults: ClassVar[frozenset[Fault]] = frozenset()

    entity: Entity
    """The truth about the entity under test, written down here and not asked of the connector. Give it a field of
    every type that the far side holds, an incremental field where there is one, and a key as awkward as real ones."""
    secret: str = ""
    """The planted value that must never be seen, at least twelve characters; empty where a login needs none."""
    bad: tuple[str, Value] | None = None
    """A writable field and a value of its type that the far side itself refuses."""
    withheld: str = ""
    """The name of the `Right` that `Fault.RIGHT` takes away."""
    hidden: str = ""
    """The field that nobody without that right can see."""
    bounds: Mapping[str, tuple[Value, Value]] = {}
    """Field → smallest and largest value, where the far side's documented ends are narrower than its type's."""
    tick: timedelta = timedelta(microseconds=1)
    """The finest step of the far side's clock types."""
    nonfinite: bool = True
    """Whether REAL fields hold NaN and the infinities."""
    tells_deletes: bool = False
    """Whether an incremental read tells of records that are gone; then `remove` is needed."""
    retry_after: float | None = None
    patience: float = 1.0
    """Seconds that a call is given when the far side hangs."""
    beat: float = 10.0
    """Seconds within which a live source yields a page, an empty one at least; ten at most."""
    arrives: float = 15.0
    """Seconds within which a live source tells of a change."""
    theirs: Path | None = None
    """The folder of a far side that runs in this process: what it keeps open there is no connector's."""
    ending: str = ""
    """How the far side has the names of added fields end."""
    environment: Mapping[str, str] = {}
    """Environment variables that the driver below is known to obey, with values that would break the connection."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        """An empty folder of this test's own."""

    @abstractmethod
    def config(self, fault: Fault | None = None) -> Config:
        """The configuration of a connection to which `fault` happens, with `secret` in it in either case."""

    @abstractmethod
    def seed(self, entity: str, records: Sequence[Record]) -> None:
        """Makes these the only records of the entity, by a path that is not the connector."""

    def key(self, field: Field, number: int) -> Value:
        """The value of a field in the record of this number, where the far side makes it itself, as keys; None: any."""
        return None

    def stored(self, entity: str, key: Record) -> Record | None:
        """What the far side holds under this key, by a path that is not the connector; None: no such record."""
        raise NotImplementedError(f"{type(self).__name__}.stored")

    def count(self, entity: str) -> int:
        """How many records the entity has, by a path that is not the connector."""
        raise NotImplementedError(f"{type(self).__name__}.count")

    def edit(self, entity: str, key: Record, values: Record) -> None:
        """Somebody else changes a record, which moves its version where the far side keeps one."""
        raise NotImplementedError(f"{type(self).__name__}.edit")

    def remove(self, entity: str, key: Record) -> None:
        """Somebody else deletes a record."""
        raise NotImplementedError(f"{type(self).__name__}.remove")

    def forget(self, entity: str) -> None:
        """The far side no longer keeps what it told a live source so far."""
        raise NotImplementedError(f"{type(self).__name__}.forget")

    def touched(self, entity: str, key: Record) -> int | None:
        """How often the record has been changed since it was seeded; None: the far side does not count."""
        return None

    def open(self, fault: Fault | None = None, *, context: Context | None = None) -> Connector:
        """A connector to this far side; `fault` happens to it."""
        config, context = self.config(fault), context or Context()
        if self.spec.minter is not None:
            config, context = self._leased(config, context)
        connector: Connector = _named(self.spec.factory)(config, context)
        return connector

    def _leased(self, config: Config, context: Context) -> tuple[Config, Context]:
        """As the hub opens a connector whose tokens are minted elsewhere: without a single secret."""
        minter: Minter = _named(self.spec.minter or "")()
        given = replace(context)
        secrets = [name for name, each in dict(config).items() if isinstance(each, Secret)]
        context.shared = LentShared(
            given.shared,
            lambda refused: given.shared.token(lambda: minter.mint(config, Grant(), given), refused=refused),
        )
        return config.model_copy(update={each: Secret.withheld() for each in secrets}), context

    def close(self) -> None:  # noqa: B027  most stand-ins hold nothing
        """Gives back what the stand-in holds; called once, after the test."""
