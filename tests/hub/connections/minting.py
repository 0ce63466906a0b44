"""Connectors over a far side that mints tokens, in the ways of the field: what they ask for follows from the grant."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import ClassVar

from hub.sdk import (
    CheckReport,
    Config,
    Context,
    Grant,
    Secret,
    Spec,
    Token,
    UnauthorizedError,
    setting,
)
from tests.hub.connections.memory import SPEC as MEMORY
from tests.hub.connections.memory import MemoryConnector


class MintedConfig(Config):
    """Where, and with which key."""

    host: str = setting("far.example", title="Host")
    private_key: Secret = setting(title="Private key")


@dataclass
class TokenEndpoint:
    """The far side: what it was asked for, by whom, and what reached the connector."""

    asked: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    used: list[str] = field(default_factory=list)
    refuses: bool = False

    def exchange(self, key: str, scopes: Sequence[str], context: Context) -> Token:
        if self.refuses:
            raise UnauthorizedError("the login was refused: invalid_client")
        self.asked.append((key, tuple(scopes)))
        ends = context.clock.now() + timedelta(hours=1)
        return Token(Secret(f"token-{len(self.asked)}"), ends, {"audience": "far"})


FAR = TokenEndpoint()


class SmartMinter:
    """SMART backend services: a system scope for each resource, of what is granted alone."""

    def scopes(self, config: Config, grant: Grant) -> Sequence[str]:
        verbs = {each: ("u" if each in grant.writes else "") + "rs" for each in {*grant.reads, *grant.writes}}
        return [f"system/{each}.{verbs[each]}" for each in sorted(verbs)]

    def mint(self, config: Config, grant: Grant, context: Context) -> Token:
        assert isinstance(config, MintedConfig)
        return FAR.exchange(config.private_key.reveal(), self.scopes(config, grant), context)


class EntraMinter(SmartMinter):
    """Entra client credentials: one scope for the whole resource."""

    def scopes(self, config: Config, grant: Grant) -> Sequence[str]:
        assert isinstance(config, MintedConfig)
        return [f"https://{config.host}/.default"]


class StsMinter(SmartMinter):
    """STS: a session policy that narrows a role, and tokens that last minutes."""

    def scopes(self, config: Config, grant: Grant) -> Sequence[str]:
        return [f"s3:GetObject {each}/*" for each in sorted(grant.reads)]


class MintedConnector(MemoryConnector):
    """Uses its token; has no way of its own to log in."""

    def __init__(self, config: MintedConfig, context: Context) -> None:
        self._config = config
        self._context = context

    def check(self, names: Collection[str] | None = None) -> CheckReport:
        def log_in() -> Token:
            raise AssertionError(self._config.private_key.reveal())

        FAR.used.append(self._context.shared.token(log_in).value.reveal())
        return CheckReport("somebody", "far")

    def close(self) -> None: ...

    spec: ClassVar[Spec]


def _spec(name: str, minter: type) -> Spec:
    return replace(
        MEMORY,
        name=name,
        config=MintedConfig,
        factory=f"{__name__}:MintedConnector",
        minter=f"{__name__}:{minter.__name__}",
    )


SPECS = [_spec("smart", SmartMinter), _spec("entra", EntraMinter), _spec("sts", StsMinter)]
MintedConnector.spec = SPECS[0]
