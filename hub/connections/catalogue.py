"""The connectors that are installed, found by entry points and loaded one by one when they are needed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Protocol, Self, cast

from pydantic import ValidationError

from hub.connections.types import InvalidConnectionError, UnknownConnectorError, nearest
from hub.logs import begin
from hub.sdk import Config, Connector, Context, Minter, Secret, Spec
from hub.sdk.connector import PRIVATE

GROUP = "hub.connectors"


class Factory(Protocol):
    """What `Spec.factory` names: a connector class."""

    def __call__(self, config: Config, context: Context) -> Connector: ...


class Catalogue:
    """Specs by name. Loading a spec imports the connector's config module alone, never its client."""

    def __init__(self, found: Iterable[EntryPoint] | None = None) -> None:
        points = entry_points(group=GROUP) if found is None else found
        self._points: dict[str, EntryPoint] = {each.name: each for each in points}
        self._specs: dict[str, Spec] = {}

    @classmethod
    def of(cls, specs: Iterable[Spec]) -> Self:
        """A catalogue of exactly these, whatever is installed."""
        made = cls(())
        made._specs = {each.name: each for each in specs}
        return made

    def names(self) -> list[str]:
        """The names of all connectors, nothing loaded."""
        return sorted({*self._points, *self._specs})

    def spec(self, name: str) -> Spec:
        """The spec of one connector. UnknownConnectorError names the nearest one, or why it does not load."""
        if name not in self._specs:
            self._specs[name] = self._load(name)
        return self._specs[name]

    def make(self, spec: Spec, config: Config, context: Context) -> Connector:
        """A connector instance; here its client is imported."""
        try:
            begin()  # a connector may log by structlog itself
            factory = cast("Factory", EntryPoint(spec.name, spec.factory, GROUP).load())
        except (ImportError, AttributeError) as error:
            raise UnknownConnectorError(f"connector {spec.name} cannot be loaded: {error}") from error
        return factory(config, context)

    def minter(self, spec: Spec) -> Minter:
        """What mints the tokens of a connector; here its client is imported."""
        assert spec.minter is not None
        try:
            begin()
            made = cast("type[Minter]", EntryPoint(spec.name, spec.minter, GROUP).load())
        except (ImportError, AttributeError) as error:
            raise UnknownConnectorError(f"the minter of connector {spec.name} cannot be loaded: {error}") from error
        return made()

    def _load(self, name: str) -> Spec:
        if name not in self._points:
            raise UnknownConnectorError(f"no connector is called {name}{nearest(name, self.names())}")
        point = self._points[name]
        try:
            spec = point.load()
        except (ImportError, AttributeError) as error:
            raise UnknownConnectorError(f"connector {name} ({point.value}) cannot be loaded: {error}") from error
        if not isinstance(spec, Spec) or spec.name != name:
            raise UnknownConnectorError(f"connector {name}: {point.value} is no Spec of that name")
        return spec


def secret_names(spec: Spec) -> frozenset[str]:
    """The settings of a connector that are secrets, by the type they are declared with."""
    fields = spec.config.model_fields
    return frozenset(name for name, each in fields.items() if each.annotation in (Secret, Secret | None))


def private_names(spec: Spec) -> frozenset[str]:
    """The settings of a connector that let its far side stand in a private network, by their mark."""
    marks = {name: each.json_schema_extra for name, each in spec.config.model_fields.items()}
    return frozenset(name for name, each in marks.items() if isinstance(each, dict) and each.get(PRIVATE))


def reaches_private(spec: Spec, config: Config) -> bool:
    """Whether a configuration lets the far side stand in a private network."""
    return any(getattr(config, each) for each in private_names(spec))


def check_names(spec: Spec, settings: Iterable[str], secrets: Iterable[str]) -> None:
    """InvalidConnectionError for an unknown setting, or a secret among the settings that are stored in clear."""
    known, hidden = set(spec.config.model_fields), secret_names(spec)
    for name in settings:
        if name in hidden:
            raise InvalidConnectionError(f"{name} of connector {spec.name} is a secret; give it as one")
        if name not in known:
            raise InvalidConnectionError(f"{name} is no setting of connector {spec.name}{nearest(name, known)}")
    for name in secrets:
        if name not in hidden:
            raise InvalidConnectionError(f"{name} is no secret of connector {spec.name}{nearest(name, hidden)}")


def make_config(spec: Spec, settings: Mapping[str, object], secrets: Mapping[str, Secret]) -> Config:
    """The checked configuration. InvalidConnectionError says which setting is wrong, without repeating its value."""
    try:
        return spec.config.model_validate({**settings, **secrets})
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(each) for each in first["loc"]) or "settings"
        reason = first["msg"].removeprefix("Value error, ")
        raise InvalidConnectionError(f"{where} of connector {spec.name}: {reason[0].lower()}{reason[1:]}") from None
