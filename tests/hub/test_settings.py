"""Settings: where they come from, which wins, and one clear sentence for each that is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from hub.settings import SettingsError, load_settings


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_everything_has_a_default_inside_the_working_directory(tmp_path: Path) -> None:
    settings = load_settings()
    assert settings.home == tmp_path / ".hub"
    assert settings.database_url == f"sqlite:///{tmp_path}/.hub/hub.db"
    assert settings.segments == tmp_path / ".hub/segments"
    assert settings.key_file.parent == tmp_path / ".hub/keys"
    assert settings.broker_url is None


def test_the_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hub.toml").write_text('workers = 3\npage_rows = 500\nhome = "elsewhere"\n')
    monkeypatch.setenv("HUB_WORKERS", "4")
    settings = load_settings()
    assert (settings.workers, settings.page_rows) == (4, 500)
    assert settings.segments == tmp_path / "elsewhere/segments"


def test_a_password_can_come_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "url").write_text("postgresql://hub:s3cret@db/hub\n")
    monkeypatch.setenv("HUB_DATABASE_URL_FILE", str(tmp_path / "url"))
    settings = load_settings()
    assert settings.database_url == "postgresql+psycopg://hub:s3cret@db/hub"
    assert "s3cret" not in repr(settings)
    monkeypatch.setenv("HUB_DATABASE_URL", "sqlite:///x.db")
    with pytest.raises(SettingsError, match="HUB_DATABASE_URL and HUB_DATABASE_URL_FILE are both set"):
        load_settings()


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("HUB_WORKERS", "0", "HUB_WORKERS: input should be greater than or equal to 1"),
        ("HUB_POLL_SECONDS", "soon", "HUB_POLL_SECONDS: input should be a valid number"),
        ("HUB_DATABASE_URL", "mysql://root:s3cret@db/hub", "HUB_DATABASE_URL: expected sqlite:///file or postgresql"),
        ("HUB_BROKER_URL", "http://:s3cret@x", "HUB_BROKER_URL: expected redis://"),
        ("HUB_DATABSE_URL", "sqlite:///s3cret", "HUB_DATABSE_URL is not a setting; did you mean HUB_DATABASE_URL"),
        ("HUB_DATABASE_URL_FILE", "missing-file", "HUB_DATABASE_URL_FILE: cannot read missing-file"),
        ("HUB_PRODUCTION", "true", "HUB_ENVIRONMENT must name the installation"),
        ("HUB_LEASE_SECONDS", "2", "HUB_POLL_SECONDS must not be above HUB_LEASE_SECONDS"),
    ],
)
def test_a_wrong_variable_is_named_in_one_sentence(
    name: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert str(caught.value).startswith(said)
    assert "s3cret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_name_in_the_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "hub.toml").write_text("worker = 3\n")
    with pytest.raises(SettingsError, match=r"hub\.toml: worker is not a setting; did you mean workers"):
        load_settings()


def test_a_file_that_is_not_toml_is_refused(tmp_path: Path) -> None:
    (tmp_path / "hub.toml").write_text("workers: 3\n")
    with pytest.raises(SettingsError, match=r"hub\.toml is not TOML"):
        load_settings()
