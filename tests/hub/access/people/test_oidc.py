"""Logins by a provider: who comes back is who was sent, known by issuer and subject, and nothing forged passes."""

from __future__ import annotations

import hmac
import json
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import RSAAlgorithm

from hub.access import AccessError, Resource, Role, Scope
from hub.access.people import Opened, People, ProviderError, ProviderSettings, SignInError
from hub.access.people.oidc import Provider, provider
from hub.audit import Action, Outcome
from hub.sdk import Secret
from hub.sdk.testing.tls import Certificates, make_certificates
from tests.hub.access.people.conftest import ANNA, HERE, PASSWORD, House
from tests.hub.access.people.provider_twin import Grant, ProviderTwin


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def twin(certificates: Certificates) -> Iterator[ProviderTwin]:
    with ProviderTwin(certificates).running() as made:
        yield made


@pytest.fixture
def settings(twin: ProviderTwin, certificates: Certificates) -> ProviderSettings:
    return ProviderSettings(
        issuer=twin.issuer,
        client_id=twin.client_id,
        client_secret=Secret(twin.client_secret),
        redirect_uri="https://hub.example/login/callback",
        roles={"hub-admins": "admin", "hub-ops": "operator", "ward": "viewer mapping:risk"},
        authorities=certificates.authority,
        private=True,
    )


@pytest.fixture
def people(house: House, settings: ProviderSettings) -> People:
    # The provider's clock is the machine's; only what the hub itself remembers is tested with a set one.
    house.database.clock = None
    return house.people(settings)


def log_in(people: People, twin: ProviderTwin, before: str | None = None) -> Opened:
    """One whole login."""
    assert people.signin is not None
    started = people.signin.begin("/receipts/risk?key=1")
    return people.signin.finish(started.text, twin.authorize(started.url), HERE, before)


def why(house: House) -> object:
    """Why the newest login failed, by the trail."""
    return house.events(Action.SESSION_OPEN, Outcome.FAILED)[0].detail["why"]


def test_a_person_logs_in_and_is_known_by_issuer_and_subject(house: House, people: People, twin: ProviderTwin) -> None:
    twin.claims |= {"name": "Anna Berg", "groups": ["hub-ops", "ward", "unheard-of"], "acr": "mfa"}
    opened = log_in(people, twin)
    person = opened.visit.person
    assert (person.name, person.title, person.issuer, person.subject) == ("anna", "Anna Berg", twin.issuer, "0001")
    assert (opened.visit.login.acr, opened.next) == ("mfa", "/receipts/risk?key=1")
    guest = people.enter(opened.text)
    assert guest is not None
    assert guest.caller.rights.everywhere == Role.OPERATOR.scopes
    assert guest.caller.rights.on == {Resource.mapping("risk"): Role.VIEWER.scopes}
    assert len(house.events(Action.SESSION_OPEN, Outcome.DONE)) == 1
    assert house.events(Action.SESSION_OPEN, Outcome.FAILED) == []


def test_what_is_asked_of_the_provider_is_new_each_time(people: People, twin: ProviderTwin) -> None:
    assert people.signin is not None
    asked = [parse_qs(urlsplit(people.signin.begin().url).query) for _ in range(2)]
    for name in ("state", "nonce", "code_challenge"):
        assert asked[0][name] != asked[1][name]
        assert len(asked[0][name][0]) == 43
    assert asked[0]["redirect_uri"] == ["https://hub.example/login/callback"]
    assert "code_verifier" not in asked[0]


def test_roles_are_those_of_the_last_login(people: People, twin: ProviderTwin) -> None:
    twin.claims["groups"] = ["hub-ops"]
    first = log_in(people, twin)
    twin.claims["groups"] = []
    second = log_in(people, twin)
    assert first.visit.person.id == second.visit.person.id
    for opened in (first, second):
        guest = people.enter(opened.text)
        assert guest is not None
        assert not guest.caller.rights.anywhere(Scope.RUN)


def test_the_same_subject_or_address_at_another_issuer_is_somebody_else(
    house: House, people: People, twin: ProviderTwin, settings: ProviderSettings, certificates: Certificates
) -> None:
    twin.claims |= {"email": "anna@example.org", "email_verified": True, "groups": ["hub-admins"]}
    anna = log_in(people, twin).visit.person
    with ProviderTwin(certificates).running() as other:
        other.claims = {**twin.claims, "groups": []}
        there = house.people(replace(settings, issuer=other.issuer))
        stranger = log_in(there, other).visit.person
    assert (stranger.subject, stranger.name) == (anna.subject, "anna-2")
    assert stranger.id != anna.id
    assert stranger.claimed == ()
    assert [each.name for each in people.list_people()] == ["anna", "anna-2"]
    twin.claims["sub"] = "0002"
    assert log_in(people, twin).visit.person.name == "anna-3"


FORGED = {
    "nonce": ({"wrong": {"nonce": "other"}}, "nonce"),
    "no nonce": ({"wrong": {"nonce": None}}, "claims"),
    "issuer": ({"wrong": {"iss": "https://evil.example"}}, "issuer"),
    "audience": ({"wrong": {"aud": "another-client"}}, "audience"),
    "several audiences": ({"wrong": {"aud": ["hub", "another-client"]}}, "aud"),
    "expired": ({"wrong": {"exp": int(time.time()) - 60}}, "expired"),
    "not yet": ({"wrong": {"nbf": int(time.time()) + 86_400}}, "early"),
    "no subject": ({"wrong": {"sub": None}}, "claims"),
    "no end": ({"wrong": {"exp": None}}, "claims"),
    "unsigned": ({"unsigned": True}, "algorithm"),
    "another algorithm": ({"header": {"alg": "RS512"}}, "algorithm"),
    "unknown key": ({"header": {"kid": "elsewhere"}}, "key"),
    "access token": ({"header": {"typ": "at+jwt"}}, "kind"),
    "answer of another issuer": ({"tells_issuer": "https://evil.example"}, "issuer"),
}


@pytest.mark.parametrize("case", FORGED)
def test_a_forged_answer_lets_nobody_in_and_is_one_event(
    case: str, house: House, people: People, twin: ProviderTwin
) -> None:
    manners, expected = FORGED[case]
    for name, value in manners.items():
        setattr(twin, name, value)
    with pytest.raises(SignInError, match="the login failed"):
        log_in(people, twin)
    assert why(house) == expected
    assert len(house.events(Action.SESSION_OPEN)) == 1
    assert people.list_people() == []


def test_a_key_that_a_token_brings_along_is_not_used(house: House, people: People, twin: ProviderTwin) -> None:
    twin.signer = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    with pytest.raises(SignInError):
        log_in(people, twin)
    assert why(house) == "signature"
    own = RSAAlgorithm.to_jwk(twin.signer.public_key(), as_dict=True)
    for header in ({"jwk": own}, {"jku": f"{twin.issuer}/evil"}, {"x5u": f"{twin.issuer}/evil"}):
        twin.header = header
        with pytest.raises(SignInError):
            log_in(people, twin)
        assert why(house) == "header"
    assert "/evil" not in twin.seen


def test_the_public_key_is_no_shared_secret(house: House, people: People, twin: ProviderTwin) -> None:
    public = twin.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def forged(grant: Grant) -> str:
        claims = {**grant.claims, "iss": twin.issuer, "aud": "hub", "iat": 0, "exp": 2**31}
        parts = [urlsafe_b64encode(json.dumps(each).encode()) for each in ({"alg": "HS256", "kid": twin.kid}, claims)]
        parts.append(urlsafe_b64encode(hmac.digest(public, b".".join(each.rstrip(b"=") for each in parts), "sha256")))
        return b".".join(each.rstrip(b"=") for each in parts).decode()

    twin.id_token = forged  # type: ignore[method-assign]
    with pytest.raises(SignInError):
        log_in(people, twin)
    assert why(house) == "algorithm"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text, answer: (text, {**answer, "state": "A" * 43}),
        lambda text, answer: (text, {name: value for name, value in answer.items() if name != "state"}),
        lambda text, answer: ("A" * 43, answer),
        lambda text, answer: ("", answer),
    ],
    ids=["foreign state", "no state", "foreign browser", "no cookie"],
)
def test_an_answer_in_another_browser_lets_nobody_in(
    spoil: Callable[[str, dict[str, str]], tuple[str, dict[str, str]]],
    house: House,
    people: People,
    twin: ProviderTwin,
) -> None:
    assert people.signin is not None
    started = people.signin.begin()
    answer = twin.authorize(started.url)
    with pytest.raises(SignInError, match="not begun in this browser"):
        people.signin.finish(*spoil(started.text, answer), HERE)
    assert why(house) == "state"
    assert "/token" not in twin.seen


def test_the_state_of_one_login_does_not_serve_another(house: House, people: People, twin: ProviderTwin) -> None:
    assert people.signin is not None
    mine, theirs = people.signin.begin(), people.signin.begin()
    with pytest.raises(SignInError):
        people.signin.finish(mine.text, twin.authorize(theirs.url), HERE)
    assert why(house) == "state"


def test_an_answer_counts_once_and_not_for_long(house: House, people: People, twin: ProviderTwin) -> None:
    assert people.signin is not None
    started = people.signin.begin()
    answer = twin.authorize(started.url)
    people.signin.finish(started.text, answer, HERE)
    with pytest.raises(SignInError):
        people.signin.finish(started.text, answer, HERE)
    house.database.clock = house.clock
    late = people.signin.begin()
    answer = twin.authorize(late.url)
    house.clock.pass_(minutes=11)
    with pytest.raises(SignInError):
        people.signin.finish(late.text, answer, HERE)


def test_a_code_of_another_login_does_not_fit_its_verifier(house: House, people: People, twin: ProviderTwin) -> None:
    assert people.signin is not None
    mine, stolen = people.signin.begin(), people.signin.begin()
    answer = {**twin.authorize(mine.url), "code": twin.authorize(stolen.url)["code"]}
    with pytest.raises(ProviderError):
        people.signin.finish(mine.text, answer, HERE)
    assert why(house) == "provider"


def test_a_provider_that_refuses_lets_nobody_in(house: House, people: People, twin: ProviderTwin) -> None:
    assert people.signin is not None
    started = people.signin.begin()
    answer = {**twin.authorize(started.url), "error": "access_denied"}
    with pytest.raises(SignInError, match="let nobody in"):
        people.signin.finish(started.text, answer, HERE)
    assert why(house) == "refused"


def test_keys_may_change_under_way(people: People, twin: ProviderTwin, monkeypatch: pytest.MonkeyPatch) -> None:
    log_in(people, twin)
    twin.rotate()
    with pytest.raises(SignInError):  # looked for again just now
        log_in(people, twin)
    monkeypatch.setattr(provider, "ASKED_AGAIN_SECONDS", 0.0)
    assert log_in(people, twin).visit.person.name == "anna"
    assert twin.seen.count("/keys") == 2


@pytest.mark.parametrize(
    ("described", "said"),
    [
        ({"issuer": "https://evil.example"}, "calls itself something else"),
        ({"code_challenge_methods_supported": ["plain"]}, "PKCE"),
        ({"jwks_uri": "http://localhost/keys"}, "no https address as jwks_uri"),
        ({"token_endpoint": None}, "no https address as token_endpoint"),
    ],
)
def test_a_description_that_does_not_hold_is_not_used(
    described: dict[str, object], said: str, people: People, twin: ProviderTwin
) -> None:
    twin.described = described
    assert people.signin is not None
    with pytest.raises(ProviderError, match=said):
        people.signin.begin()


def test_a_provider_that_is_down_is_asked_again_later(people: People, twin: ProviderTwin) -> None:
    twin.broken = True
    assert people.signin is not None
    with pytest.raises(ProviderError):
        people.signin.begin()
    twin.broken = False
    assert log_in(people, twin).visit.person.name == "anna"


def test_a_provider_in_a_private_network_is_called_only_where_that_is_said(
    house: House, settings: ProviderSettings, twin: ProviderTwin
) -> None:
    with pytest.raises(ProviderError, match="private network"):
        Provider(replace(settings, private=False)).endpoint("token_endpoint")
    twin.described = {"jwks_uri": "https://169.254.169.254/latest/meta-data/"}
    with pytest.raises(ProviderError, match="never calls"):
        Provider(settings).keys()
    assert twin.seen == ["/.well-known/openid-configuration"]


def test_a_step_up_is_a_fresh_login_of_the_same_person(
    house: House, settings: ProviderSettings, twin: ProviderTwin
) -> None:
    house.database.clock = None
    people = house.people(replace(settings, step_up_acr="mfa"))
    assert people.signin is not None
    first = log_in(people, twin)

    def step_up() -> Opened:
        assert people.signin is not None
        started = people.signin.begin("/account", first.visit)
        asked = parse_qs(urlsplit(started.url).query)
        assert (asked["prompt"], asked["max_age"], asked["acr_values"]) == (["login"], ["0"], ["mfa"])
        return people.signin.finish(started.text, twin.authorize(started.url), HERE, first.text)

    for claims, expected in (
        ({"auth_time": int(time.time()) - 3600, "acr": "mfa"}, "auth_time"),
        ({"auth_time": None, "acr": "mfa"}, "auth_time"),
        ({"acr": "pwd"}, "acr"),
        ({"sub": "0002", "acr": "mfa"}, "person"),
    ):
        twin.wrong = claims
        with pytest.raises(SignInError):
            step_up()
        assert why(house) == expected
        assert people.enter(first.text) is not None
    twin.wrong = {"acr": "mfa"}
    second = step_up()
    assert second.text != first.text
    assert people.enter(first.text) is None
    assert second.visit.login.acr == "mfa"


def test_the_first_account_is_gone_once_an_administrator_came_by_the_provider(
    house: House, people: People, twin: ProviderTwin
) -> None:
    house.clock.moment = datetime.now(UTC)
    house.database.clock = house.clock
    root = house.set_up(people)
    house.database.clock = None
    log_in(people, twin)  # nobody in particular
    assert [each.disabled_at for each in people.list_people()] == [None, None]
    twin.claims["groups"] = ["hub-admins"]
    log_in(people, twin)
    assert people.enter(root.text) is None
    with pytest.raises(SignInError):
        people.local.log_in("root", PASSWORD, house.code(), HERE)
    with pytest.raises(AccessError, match="password that is gone"):
        people.enable("root", actor=ANNA)
    with pytest.raises(AccessError, match="anna is an administrator already"):
        people.local.make_setup(actor=ANNA)
    (gone,) = house.events(Action.PERSON_DISABLE)
    assert (gone.actor, gone.subject) == ("hub", "human:root")


def test_a_disabled_person_is_not_let_in_by_the_provider(house: House, people: People, twin: ProviderTwin) -> None:
    log_in(people, twin)
    people.disable("anna", actor=ANNA)
    with pytest.raises(SignInError):
        log_in(people, twin)
    assert why(house) == "disabled"


def test_roles_in_the_settings_are_held_against_those_there_are(house: House, settings: ProviderSettings) -> None:
    for roles, said in (
        ({"g": "owner"}, "there is no role owner"),
        ({"g": "admin mapping:risk"}, "over the whole hub"),
        ({"g": "viewer risk"}, "a resource is written"),
    ):
        with pytest.raises(AccessError, match=said):
            house.people(replace(settings, roles=roles))
