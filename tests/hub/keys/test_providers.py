"""Whoever keeps the key: what it wraps opens in its place alone, is moved by rotation, and is refused when altered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from sqlalchemy import text

from hub.database import Database
from hub.keys import KeyringError, SealedError, open_ring, retire, rewrap_some, rotate
from hub.keys.envelope import parse
from hub.sdk import UnauthorizedError, UnavailableError
from hub.settings import load_settings
from tests.hub.keys.conftest import Keeper
from tests.hub.keys.services import AwsTwin, VaultTwin

PLACE = {"table": "access_secret", "name": "connection/crm/password", "version": "1", "kind": "stored"}


def past_grace(database: Database) -> None:
    """As if the last rotation were long ago."""
    with database.begin() as session:
        session.execute(text("update key_root set rotated_at = '2020-01-01 00:00:00.000000'"))


def test_a_secret_opens_in_its_place_alone(keeper: Keeper, database: Database) -> None:
    ring = open_ring(keeper.settings, database)
    sealed = ring.seal(b"a password", PLACE, directly=True)
    assert ring.open(sealed, PLACE, directly=True) == b"a password"
    for other in ({**PLACE, "name": "connection/erp/password"}, {**PLACE, "version": "2"}, {**PLACE, "kind": "x"}):
        with pytest.raises(SealedError):
            ring.open(sealed, other, directly=True)


def test_the_header_says_how_a_secret_was_sealed(keeper: Keeper, database: Database) -> None:
    ring = open_ring(keeper.settings, database)
    parts = parse(ring.seal(b"x", PLACE, directly=True))
    assert (parts.kek_id, parts.kek_version) == (ring.kek.id, 1)


def test_each_flipped_bit_of_a_secret_is_noticed(keeper: Keeper, database: Database) -> None:
    ring = open_ring(keeper.settings, database)
    sealed = ring.seal(b"pw", PLACE, directly=True)
    remote = keeper.twin is not None
    for place in range(0, len(sealed), 3 if remote else 1):
        forged = bytearray(sealed)
        forged[place] ^= 1 << place % 8
        with pytest.raises(SealedError):
            ring.open(bytes(forged), PLACE, directly=True)


def test_another_process_opens_it_after_a_start_of_its_own(keeper: Keeper, database: Database) -> None:
    sealed = open_ring(keeper.settings, database).seal(b"x", PLACE, directly=True)
    assert open_ring(keeper.settings, database).open(sealed, PLACE, directly=True) == b"x"


def test_values_of_records_ask_the_keeper_of_the_key_at_start_alone(keeper: Keeper, database: Database) -> None:
    ring = open_ring(keeper.settings, database)
    ring.open(ring.seal(b"x", {"kind": "row"}), {"kind": "row"})
    calls = list(keeper.twin.calls) if keeper.twin is not None else []
    for at in range(50):
        identity = {"kind": "row", "at": str(at)}
        assert ring.open(ring.seal(b"x", identity), identity) == b"x"
    assert calls == (keeper.twin.calls if keeper.twin is not None else [])


def test_what_a_working_key_wraps_never_passes_for_a_secret(keeper: Keeper, database: Database) -> None:
    ring = open_ring(keeper.settings, database)
    with pytest.raises(SealedError, match="sealed under key working"):
        ring.open(ring.seal(b"planted", PLACE), PLACE, directly=True)


def test_a_rotation_moves_everything_and_withdraws_the_old_version(keeper: Keeper, database: Database) -> None:
    old = open_ring(keeper.settings, database)
    value, digest = old.seal(b"v", {"kind": "row"}), old.mac("record-key", b"k")
    keeper.make_newer()
    new = rotate(keeper.settings, database)
    assert new.version == 2
    with pytest.raises(
        KeyringError, match=r"not everything is under version 2 yet: 1 in working_key; `hub keys rewrap`"
    ):
        retire(new, database)
    assert rewrap_some(new, database) == 1
    assert rewrap_some(new, database) == 0
    with pytest.raises(KeyringError, match="retire after"):
        retire(new, database)
    past_grace(database)
    left = retire(new, database)
    assert left is not None
    again = open_ring(keeper.settings, database)
    assert again.open(value, {"kind": "row"}) == b"v"
    assert again.mac("record-key", b"k") == digest
    assert parse(again.seal(b"y", {"kind": "row"})).kek_version == 2


def test_a_key_service_rewraps_without_giving_the_data_key_out(
    aws: tuple[AwsTwin, dict[str, Any]],
    vault_service: tuple[VaultTwin, dict[str, Any]],
    database: Database,
    tmp_path: Any,
) -> None:
    twin, told = aws
    told |= {"aws_kms_keys": f"{twin.add_key()},{twin.add_key()}"}
    ring = open_ring(load_settings(home=tmp_path, kek="aws-kms", **told), database)
    sealed = ring.seal(b"x", PLACE, directly=True)
    twin.calls.clear()
    assert ring.open(ring.rewrap(sealed, PLACE), PLACE, directly=True) == b"x"
    assert twin.calls == ["ReEncrypt", "Decrypt"]


def test_vault_rewraps_by_itself_too(
    vault_service: tuple[VaultTwin, dict[str, Any]], database: Database, tmp_path: Any
) -> None:
    twin, told = vault_service
    twin.add_key("hub")
    ring = open_ring(load_settings(home=tmp_path, kek="vault", **told), database)
    sealed = ring.seal(b"x", PLACE, directly=True)
    twin.versions["hub"].append(b"2" * 32)
    twin.calls.clear()
    moved = ring.rewrap(sealed, PLACE)
    assert twin.calls == ["transit/rewrap/hub"]
    assert parse(moved).kek_version == 2
    assert parse(moved).ciphertext == parse(sealed).ciphertext
    assert ring.open(moved, PLACE, directly=True) == b"x"


def test_kms_is_told_what_a_key_is_for(aws: tuple[AwsTwin, dict[str, Any]], database: Database, tmp_path: Any) -> None:
    twin, told = aws
    ring = open_ring(load_settings(home=tmp_path, kek="aws-kms", aws_kms_keys=twin.add_key(), **told), database)
    ring.seal(b"x", PLACE, directly=True)
    context: Mapping[str, str] = twin.contexts[-1]
    assert context == {**PLACE, "hub.format": "1", "hub.algorithm": "AES-256-GCM"}


def test_the_key_moves_from_a_file_to_a_service(
    vault_service: tuple[VaultTwin, dict[str, Any]], database: Database, tmp_path: Any
) -> None:
    sealed = open_ring(load_settings(home=tmp_path), database).seal(b"v", {"kind": "row"})
    twin, told = vault_service
    twin.add_key("hub")
    with pytest.raises(KeyringError, match="is not the one this database was sealed under"):
        open_ring(load_settings(home=tmp_path, kek="vault", **told), database)
    between = load_settings(home=tmp_path, kek="vault", kek_before="file", **told)
    moved = rotate(between, database)
    while rewrap_some(moved, database):
        pass
    (tmp_path / "keys" / "kek.json").unlink()
    alone = open_ring(load_settings(home=tmp_path, kek="vault", **told), database)
    assert alone.open(sealed, {"kind": "row"}) == b"v"


def test_a_key_that_was_withdrawn_starts_nothing(
    aws: tuple[AwsTwin, dict[str, Any]], database: Database, tmp_path: Any
) -> None:
    twin, told = aws
    first = twin.add_key()
    old = load_settings(home=tmp_path, kek="aws-kms", aws_kms_keys=first, **told)
    ring = open_ring(old, database)
    sealed = ring.seal(b"x", PLACE, directly=True)
    new = load_settings(home=tmp_path, kek="aws-kms", aws_kms_keys=f"{first},{twin.add_key()}", **told)
    fresh = rotate(new, database, emergency=True)
    with pytest.raises(KeyringError, match="was withdrawn, version 2 is the least"):
        open_ring(old, database)
    with pytest.raises(SealedError, match="which was withdrawn"):
        fresh.open(sealed, PLACE, directly=True)
    assert fresh.open(fresh.rewrap(sealed, PLACE), PLACE, directly=True) == b"x"
    assert ring._floors is not None
    ring._floors.look()  # as half a minute later: nobody told this process, which seals under the key that leaked
    with pytest.raises(KeyringError, match="was withdrawn; start this process with the new one"):
        ring.seal(b"y", PLACE, directly=True)
    assert fresh.open(fresh.seal(b"y", PLACE, directly=True), PLACE, directly=True) == b"y"


@pytest.mark.parametrize("told", ["", "1:short", "one:AAAA", "1:" + "A" * 43 + "=,1:" + "B" * 43 + "=", "AAAA", "1:,"])
def test_a_setting_that_holds_no_key_is_refused(told: str, database: Database, tmp_path: Any) -> None:
    with pytest.raises(KeyringError, match="HUB_KEK_KEYS") as raised:
        open_ring(load_settings(home=tmp_path, kek="environment", kek_keys=told), database)
    assert "openssl rand -base64 32" in str(raised.value)


def test_a_setting_with_another_key_starts_nothing(keeper: Keeper, database: Database) -> None:
    open_ring(keeper.settings, database)
    if keeper.kind == "environment":
        keeper.told["kek_keys"] = "1:" + "A" * 43 + "="
    elif keeper.kind == "aws-kms":
        keeper.told["aws_kms_keys"] = keeper.twin.add_key()
    elif keeper.kind == "vault":
        keeper.twin.add_key("hub")
    else:
        keeper.settings.key_file.unlink()
        keeper.home = keeper.home / "other"
        elsewhere = Database(f"sqlite:///{keeper.home / 'hub.db'}")
        elsewhere.create_all()
        open_ring(keeper.settings, elsewhere)
        elsewhere.close()
    with pytest.raises(KeyringError, match=r"is not the one this database was sealed under .*nothing was changed"):
        open_ring(keeper.settings, database)


class TestServicesThatFail:
    """What the person who starts the hub, or waits for a run, is told."""

    @pytest.mark.parametrize("keeper", ["aws-kms", "vault"], indirect=True)
    def test_a_service_that_is_away_stops_the_start_and_makes_a_run_wait(
        self, keeper: Keeper, database: Database
    ) -> None:
        ring = open_ring(keeper.settings, database)
        sealed = ring.seal(b"x", PLACE, directly=True)
        keeper.twin.away = True
        with pytest.raises(UnavailableError):
            ring.open(sealed, PLACE, directly=True)
        with pytest.raises(KeyringError, match="the key-encryption key cannot be used"):
            open_ring(keeper.settings, database)

    @pytest.mark.parametrize(
        ("missing", "said"),
        [
            ("aws_region", "HUB_AWS_REGION is not set"),
            ("aws_login", "HUB_AWS_LOGIN is not set: expected file:PATH"),
            ("aws_kms_keys", "HUB_AWS_KMS_KEYS is empty"),
        ],
    )
    def test_a_missing_setting_of_aws_is_named_and_nothing_else_is_tried(
        self,
        missing: str,
        said: str,
        aws: tuple[AwsTwin, dict[str, Any]],
        database: Database,
        tmp_path: Any,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        twin, told = aws
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", twin.KEY_ID)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", twin.KEY)
        monkeypatch.setenv("AWS_DEFAULT_REGION", twin.REGION)
        told |= {"aws_kms_keys": twin.add_key()}
        del told[missing]
        with pytest.raises(KeyringError, match=said):
            open_ring(load_settings(home=tmp_path, kek="aws-kms", **told), database)
        assert twin.calls == []

    def test_a_right_that_lacks_at_aws_is_named(
        self, aws: tuple[AwsTwin, dict[str, Any]], database: Database, tmp_path: Any
    ) -> None:
        twin, told = aws
        twin.denied.add("Encrypt")
        with pytest.raises(KeyringError, match=r"AWS refuses to encrypt under arn:.*AccessDeniedException") as raised:
            open_ring(load_settings(home=tmp_path, kek="aws-kms", aws_kms_keys=twin.add_key(), **told), database)
        assert twin.KEY not in str(raised.value)

    def test_a_wrong_login_at_vault_is_told(
        self, vault_service: tuple[VaultTwin, dict[str, Any]], database: Database, tmp_path: Any
    ) -> None:
        twin, told = vault_service
        twin.add_key("hub")
        (tmp_path / "vault-token").write_text("hvs.another")
        with pytest.raises(KeyringError, match="Vault refuses transit/keys/hub: give the policy") as raised:
            open_ring(load_settings(home=tmp_path, kek="vault", **told), database)
        assert "hvs" not in str(raised.value)

    def test_a_key_of_vault_that_is_not_derived_is_refused(
        self, vault_service: tuple[VaultTwin, dict[str, Any]], database: Database, tmp_path: Any
    ) -> None:
        twin, told = vault_service
        twin.add_key("hub")
        twin.derived = False
        with pytest.raises(KeyringError, match="is not derived"):
            open_ring(load_settings(home=tmp_path, kek="vault", **told), database)

    def test_a_key_that_vault_does_not_have_is_told(
        self, vault_service: tuple[VaultTwin, dict[str, Any]], database: Database, tmp_path: Any
    ) -> None:
        _, told = vault_service
        with pytest.raises(KeyringError, match="Vault does not know the transit key transit/hub"):
            open_ring(load_settings(home=tmp_path, kek="vault", **told), database)

    def test_a_namespace_is_told_to_vault(
        self, vault_service: tuple[VaultTwin, dict[str, Any]], database: Database, tmp_path: Any
    ) -> None:
        twin, told = vault_service
        twin.add_key("hub")
        open_ring(load_settings(home=tmp_path, kek="vault", vault_namespace="team/hub", **told), database)
        assert set(twin.namespaces) == {"team/hub"}

    def test_versions_of_kms_are_not_made_by_the_hub(self, keeper: Keeper, database: Database) -> None:
        open_ring(keeper.settings, database)
        if keeper.kind in ("file", "vault"):
            assert rotate(keeper.settings, database).version == 2
            return
        with pytest.raises(KeyringError, match=r"no newer (key|version).*rotate"):
            rotate(keeper.settings, database)

    def test_an_unauthorized_error_never_reaches_the_start(self, database: Database, tmp_path: Any) -> None:
        with pytest.raises(KeyringError, match="HUB_VAULT_URL is not set") as raised:
            open_ring(load_settings(home=tmp_path, kek="vault"), database)
        assert isinstance(raised.value.__cause__, UnauthorizedError)
