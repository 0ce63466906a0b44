"""People of a hub whose time stands where it is put."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field

import pytest
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor.totp import TOTP

from hub.access import Actor, ActorKind
from hub.access.people import Opened, People, ProviderSettings
from hub.access.roles import Roles
from hub.audit import Action, AuditLog, Event, Outcome
from hub.database import Database
from hub.keys import KeyRing, open_ring
from hub.settings import load_settings
from tests.clocks import SetClock

ANNA = Actor(ActorKind.HUMAN, "anna")
PASSWORD = "correct horse battery"
HERE = "192.0.2.1"


@dataclass
class House:
    """One installation's people, and what a test needs to look behind them."""

    database: Database
    keys: KeyRing
    audit: AuditLog
    roles: Roles
    clock: SetClock
    secrets: dict[str, bytes] = field(default_factory=dict)

    def people(self, provider: ProviderSettings | None = None) -> People:
        """The people, with or without a provider."""
        return People(self.database, self.keys, self.audit, self.roles, provider)

    def code(self, name: str = "root") -> str:
        """What the authenticator shows now."""
        totp = TOTP(self.secrets[name], 6, SHA1(), 30)
        return totp.generate(self.clock.moment.timestamp()).decode()

    def set_up(self, people: People, name: str = "root") -> Opened:
        """The first administrator, made as a person makes it."""
        setup, _ = people.local.make_setup(actor=ANNA)
        enrolment = people.local.enrol(setup.reveal(), name, HERE)
        self.secrets[name] = base64.b32decode(enrolment.secret)
        return people.local.set_up(setup.reveal(), name, PASSWORD, self.code(name), HERE)

    def events(self, action: Action, outcome: Outcome | None = None) -> list[Event]:
        """The events of one kind, the newest first."""
        found = [each.event for each in self.audit.events(action=action, limit=1000)]
        return [each for each in found if outcome is None or each.outcome is outcome]


@pytest.fixture
def house(any_database: Database, tmp_path_factory: pytest.TempPathFactory) -> House:
    clock = SetClock()
    any_database.clock = clock
    audit = AuditLog(any_database, clock=clock)
    keys = open_ring(load_settings(home=tmp_path_factory.mktemp("home")), any_database)
    return House(any_database, keys, audit, Roles(any_database, audit), clock)
