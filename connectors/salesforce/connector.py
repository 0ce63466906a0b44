"""The contract over one Salesforce org."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, ClassVar, Self

from connectors.salesforce.client import Client
from connectors.salesforce.config import SPEC, SalesforceConfig
from connectors.salesforce.holdings import verify
from connectors.salesforce.provisioning import SalesforceProvisioner
from connectors.salesforce.reading import Describe, SalesforceSource
from connectors.salesforce.rights import check, plan
from connectors.salesforce.schema import describe, entities, entity_of, parents_of
from connectors.salesforce.writing import SalesforceDestination
from hub.sdk import CheckReport, Context, Entity, Grant, RightsReport, Spec, UnexpectedError

if TYPE_CHECKING:
    from connectors.salesforce.events.live import SalesforceLive


class SalesforceConnector:
    """One configured org; logs in at the first verb, or takes the login that another worker made."""

    spec: ClassVar[Spec] = SPEC

    def __init__(self, config: SalesforceConfig, context: Context) -> None:
        self._config = config
        self._client = Client(config, context)
        self._live: SalesforceLive | None = None
        self._known: dict[tuple[str, bool], Entity] = {}

    def check(self, names: Collection[str] | None = None) -> CheckReport:
        """Logs in and tells what may be read and edited, by object and field."""
        return check(self._client, entities(self._client, names, paths=False), named=names is None)

    def entities(self, names: Collection[str] | None = None) -> Sequence[Entity]:
        """The objects described anew: those named, or all."""
        found = entities(self._client, names)
        self._client.described.keep(found)
        return found

    def plan(self, grant: Grant, *, login: str | None = None) -> str:
        """A permission set, as metadata to deploy; `login` is whom to assign it to."""
        names = sorted({*grant.reads, *grant.writes})
        known = {each.name: each for each in entities(self._client, names, paths=False)}
        parents = {name: parents_of(each) for name, each in describe(self._client, names).items()}
        return plan(grant, known, login, parents)

    def verify(self, grant: Grant) -> RightsReport:
        """What describe, profile and permission sets tell of this login, held against the grant."""
        return verify(self._client, grant)

    def source(self) -> SalesforceSource:
        return SalesforceSource(self._client, self._described)

    def destination(self) -> SalesforceDestination | None:
        return None if self._config.read_only else SalesforceDestination(self._client, self.source())

    def live(self) -> SalesforceLive | None:
        """Change events, where they are wanted and the org sends any: the poll needs no licence for them."""
        if not self._config.events:
            return None
        if self._live is None:
            self._live = _live(self._client, self.source(), self._described)
        return self._live if self._live.offered() else None

    def provisioner(self) -> SalesforceProvisioner | None:
        return SalesforceProvisioner(self._client) if self._config.provision else None

    def close(self) -> None:
        """Gives the sockets back; the session stays, since other workers use it."""
        if self._live is not None:
            self._live.close()
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _described(self, name: str, paths: bool) -> Entity:
        """What a run reads by: one describe for all its connectors in a process, where that was a moment ago."""
        found = self._known.get((name, paths)) or self._client.described.find(name, paths=paths)
        if found is None:
            found = entity_of(entities(self._client, [name], paths=paths), name)
            self._client.described.keep([found], paths=paths)
        self._known[name, paths] = found
        return found


def _live(client: Client, source: SalesforceSource, describe: Describe) -> SalesforceLive:
    """The live role. UnexpectedError where the libraries that it needs are not installed."""
    try:
        from connectors.salesforce.events.live import SalesforceLive
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in {"grpc", "fastavro"}:
            raise
        raise UnexpectedError(
            "events: following change events needs the extra grpc, as in pip install '.[grpc]'"
        ) from None
    return SalesforceLive(client, source, describe)
