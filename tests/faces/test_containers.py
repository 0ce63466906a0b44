"""The containers start what there is, as nobody in particular, and are told their secrets by file."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from hub.cli.reference import verbs
from hub.settings import SECRET_SETTINGS, Settings, variable

ROOT = Path(__file__).resolve().parents[2]
COMPOSE: dict[str, Any] = YAML(typ="safe").load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
VERBS = dict(verbs())
OURS = ("api", "broker", "migrate", "worker")


def takes(words: list[str]) -> bool:
    """Whether `hub WORDS` is a command line that the command takes."""
    command = VERBS[words[0]]
    options = {name: each for each in command.params for name in (*each.opts, *each.secondary_opts)}
    given = iter(words[1:])
    for word in given:
        if word not in options:
            return False
        if not options[word].is_flag:
            next(given)
    return True


def test_the_services_are_those_of_the_distributed_hub() -> None:
    assert set(COMPOSE) <= {"name", "services", "secrets", "volumes", "x-hub"}
    assert set(COMPOSE["services"]) == {*OURS, "postgres", "redis"}


@pytest.mark.parametrize("service", OURS)
def test_a_service_of_ours_runs_a_command_that_there_is(service: str) -> None:
    told = COMPOSE["services"][service]
    assert takes(told["command"])
    assert told["build"] == "."


@pytest.mark.parametrize("service", OURS)
def test_a_service_of_ours_has_no_rights_it_does_not_need(service: str) -> None:
    told = COMPOSE["services"][service]
    assert told["read_only"] is True
    assert told["cap_drop"] == ["ALL"]
    assert told["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in told
    assert told.get("user") == ("broker" if service == "broker" else None), (
        "the image's own user is nobody in particular"
    )


def test_the_keys_are_the_broker_s_alone() -> None:
    mounted = {
        name: {each.split(":")[0] for each in told.get("volumes", ())} for name, told in COMPOSE["services"].items()
    }
    assert [name for name, volumes in mounted.items() if "keys" in volumes] == ["broker"]
    assert "leases_worker" not in mounted["api"]
    broker = COMPOSE["services"]["broker"]
    key_file = broker["environment"]["HUB_KEY_FILE"]
    assert any(key_file.startswith(each.split(":")[1]) for each in broker["volumes"] if each.startswith("keys:"))
    assert "HUB_KEY_FILE" not in {
        **COMPOSE["services"]["api"]["environment"],
        **COMPOSE["services"]["worker"]["environment"],
    }
    for name in ("api", "worker"):
        told = COMPOSE["services"][name]
        assert told["environment"]["HUB_LEASE_SOCKET"] in broker["environment"].values()
        assert told["depends_on"]["broker"] == {"condition": "service_healthy"}
    users = re.findall(r"useradd --system --uid (\d+) \S+ \S+ --create-home (\w+)", DOCKERFILE)
    assert {name: uid for uid, name in users} == {"hub": broker["environment"]["HUB_LEASE_USERS"], "broker": "10002"}


@pytest.mark.parametrize("service", ["api", "broker", "worker", "postgres", "redis"])
def test_a_service_that_goes_on_tells_whether_it_is_well(service: str) -> None:
    health = COMPOSE["services"][service]["healthcheck"]
    assert health["test"][0] in ("CMD", "CMD-SHELL")
    assert {"interval", "timeout", "retries"} <= set(health)


def test_the_worker_s_health_is_asked_by_a_command_that_there_is() -> None:
    told = COMPOSE["services"]["worker"]["healthcheck"]["test"]
    assert told[:2] == ["CMD", "hub"]
    assert takes(told[2:])


@pytest.mark.parametrize("service", list(COMPOSE["services"]))
def test_no_password_is_written_down_and_every_secret_is_declared(service: str) -> None:
    told = COMPOSE["services"][service]
    for name, value in told.get("environment", {}).items():
        assert name.endswith("_FILE") or not re.search(r"PASSWORD|SECRET|TOKEN", name), name
        assert not re.search(r"://[^/@]*:[^/@]+@", str(value)), name
        if name.endswith("_FILE") and name not in {variable(each) for each in Settings.model_fields}:
            assert str(value).removeprefix("/run/secrets/") in told["secrets"]
    assert set(told.get("secrets", ())) <= set(COMPOSE["secrets"])
    assert all(each["file"].startswith("./secrets/") for each in COMPOSE["secrets"].values())
    assert "/secrets/" in (ROOT / ".gitignore").read_text(encoding="utf-8").split()


@pytest.mark.parametrize("service", OURS)
def test_every_setting_that_is_given_is_a_setting(service: str) -> None:
    known = {variable(name) for name in Settings.model_fields} | {f"{variable(name)}_FILE" for name in SECRET_SETTINGS}
    assert set(COMPOSE["services"][service]["environment"]) <= known


def test_what_a_service_waits_for_is_there_and_can_tell() -> None:
    for told in COMPOSE["services"].values():
        for name, how in told.get("depends_on", {}).items():
            if how["condition"] == "service_healthy":
                assert "healthcheck" in COMPOSE["services"][name]
            else:
                assert how["condition"] == "service_completed_successfully"
                assert COMPOSE["services"][name]["restart"] == "no"
    volumes = {each.split(":")[0] for told in COMPOSE["services"].values() for each in told.get("volumes", ())}
    assert volumes == set(COMPOSE["volumes"])


def test_only_the_api_is_reached_from_outside_and_only_from_this_machine() -> None:
    ports = {name: told["ports"] for name, told in COMPOSE["services"].items() if "ports" in told}
    assert ports == {"api": ["127.0.0.1:8700:8700"]}


def test_the_image_starts_a_command_that_there_is_as_a_user_without_rights() -> None:
    entry = re.search(r"^ENTRYPOINT (\[.*\])$", DOCKERFILE, re.MULTILINE)
    start = re.search(r"^CMD (\[.*\])$", DOCKERFILE, re.MULTILINE)
    assert entry
    assert start
    assert entry[1] == '["hub"]'
    assert takes(shlex.split(start[1].strip("[]").replace(",", " ")))
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    assert scripts == {"hub": "hub.cli:main"}
    last = DOCKERFILE.split("FROM")[-1]
    assert re.search(r"^USER (?!root)\w+$", last, re.MULTILINE)
    assert last.index("USER") < last.index("ENTRYPOINT")


def test_what_the_image_copies_is_there_and_reaches_the_builder() -> None:
    copied = re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)
    sources = [each for words in copied for each in words.split()[:-1]]
    assert {"hub", "connectors", "mappings", "pyproject.toml", "requirements.lock", "README.md"} == set(sources)
    reach = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    for each in sources:
        assert (ROOT / each).exists()
        assert f"!{each}" in reach


def test_the_images_of_others_are_pinned_to_a_version() -> None:
    for name in ("postgres", "redis"):
        assert re.fullmatch(rf"{name}:\d+-[a-z]+", COMPOSE["services"][name]["image"])
    assert all(
        re.fullmatch(r"python:3\.\d+-slim-[a-z]+", each)
        for each in re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    )
