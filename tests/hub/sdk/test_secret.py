"""A secret leaves by `reveal` alone."""

from __future__ import annotations

import copy
import json
import logging
import pickle
import traceback

import pydantic
import pytest

from hub.sdk import Config, Secret, setting

VALUE = "hunter2-hunter2"


class Login(Config):
    """A configuration with one secret."""

    user: str = setting("hub", title="User")
    password: Secret = setting(title="Password")


@pytest.fixture
def secret() -> Secret:
    return Secret(VALUE)


def test_reveal_is_the_way_out(secret: Secret) -> None:
    assert secret.reveal() == VALUE
    assert bool(secret)
    assert not Secret("")


def test_a_secret_is_never_printed(secret: Secret, caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("x").warning("%s %r", secret, secret)
    shown = [str(secret), repr(secret), f"{secret}", f"{secret:>40}", "{!r}".format(secret), "%s" % secret, caplog.text]  # noqa: UP031, UP032
    assert not any(VALUE in each for each in shown)
    assert VALUE not in repr([secret])
    assert not hasattr(secret, "__dict__")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_secret_is_never_pickled(secret: Secret, protocol: int) -> None:
    with pytest.raises(TypeError, match="never pickled"):
        pickle.dumps(secret, protocol)


@pytest.mark.parametrize("act", [copy.copy, copy.deepcopy, lambda each: copy.deepcopy([each])])
def test_a_secret_is_never_copied(secret: Secret, act: object) -> None:
    with pytest.raises(TypeError, match="never"):
        act(secret)  # type: ignore[operator]


def test_a_secret_is_never_compared_or_hashed(secret: Secret) -> None:
    for other in (VALUE, Secret(VALUE), secret):
        with pytest.raises(TypeError, match="never compared"):
            assert secret == other
        with pytest.raises(TypeError):
            assert secret != other
    with pytest.raises(TypeError):
        hash(secret)
    with pytest.raises(TypeError):
        assert secret < secret  # type: ignore[operator]


def test_a_secret_is_no_json(secret: Secret) -> None:
    with pytest.raises(TypeError):
        json.dumps(secret)


@pytest.mark.parametrize("given", [VALUE, Secret(VALUE)])
def test_a_config_takes_a_secret_and_never_shows_it(given: object) -> None:
    config = Login.model_validate({"password": given})
    assert config.password.reveal() == VALUE
    shown = [repr(config), str(config), config.model_dump_json(), str(config.model_dump()), str(dict(config))]
    assert not any(VALUE in each for each in shown)
    assert json.loads(config.model_dump_json())["password"] == "***"
    assert Login.model_validate_json(json.dumps({"password": VALUE})).password.reveal() == VALUE


def test_a_config_with_a_secret_is_neither_pickled_nor_deeply_copied() -> None:
    config = Login(password=Secret(VALUE))
    for act in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError):
            act(config)


@pytest.mark.parametrize(
    "bad", [{"password": [VALUE]}, {"password": VALUE, "colour": VALUE}, {"password": 12345678901}]
)
def test_a_refused_config_does_not_echo_the_secret(bad: dict[str, object]) -> None:
    with pytest.raises(pydantic.ValidationError) as raised:
        Login.model_validate(bad)
    assert VALUE not in str(raised.value)
    assert VALUE not in repr(raised.value)
    assert "12345678901" not in str(raised.value)


def fail(config: Login) -> None:
    held = config.password
    raise ValueError(repr(held))


def test_locals_of_a_traceback_show_no_secret() -> None:
    config = Login(password=Secret(VALUE))
    with pytest.raises(ValueError, match="Secret") as raised:
        fail(config)
    told = traceback.TracebackException.from_exception(raised.value, capture_locals=True)
    text = "".join(told.format())
    assert "held = Secret(***)" in text
    assert VALUE not in text
