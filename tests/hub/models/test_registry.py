"""Versions, aliases, rollback and removal; artefacts that were tampered with; the trail that is left."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import polars as pl
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sqlalchemy import select, update

import hub.models
from hub.access import local_caller
from hub.access.approvals import ApprovalError, Approvals
from hub.audit import Action, AuditLog
from hub.database import Database
from hub.keys import KeyRing, open_ring
from hub.models import (
    ArtefactError,
    ModelInUseError,
    ModelNotFoundError,
    ModelVersion,
    Registry,
)
from hub.models.artefact import digest_of, pack, unpack
from hub.models.store import ModelPartRow, ModelVersionRow
from hub.settings import Settings

Enrol = Callable[..., ModelVersion]
ROWS = np.random.default_rng(0).normal(size=(200, 2))
SAMPLE = pl.DataFrame(ROWS, schema=["a", "b"])


def fitted(threshold: float = 0.0) -> LogisticRegression:
    return LogisticRegression().fit(ROWS, (ROWS[:, 0] > threshold).astype(int))


def test_versions_are_numbered_and_found_by_number_digest_and_alias(enrol: Enrol, registry: Registry) -> None:
    first = enrol(fitted(), SAMPLE, note="first try", alias="champion")
    second = enrol(fitted(0.5), SAMPLE, owner="ben", pool="gpu")
    other = enrol(fitted(), SAMPLE, name="churn")
    assert [each.number for each in registry.versions("lead")] == [1, 2]
    assert [(each.name, each.number) for each in registry.list()] == [("churn", 1), ("lead", 1), ("lead", 2)]
    assert registry.get("lead") == first == registry.get("lead", "champion") == registry.get("lead", 1)
    assert registry.get("lead", second.digest) == registry.get("lead", "2") == second
    assert (first.note, first.pool, first.aliases) == ("first try", "default", ("champion",))
    assert (second.owner, second.pool, second.aliases) == ("ben", "gpu", ())
    assert other.number == 1


def test_what_is_not_there_is_named_with_what_is(enrol: Enrol, registry: Registry) -> None:
    with pytest.raises(ModelNotFoundError, match="there is no model lead; registered are: none"):
        registry.get("lead")
    enrol(fitted(), SAMPLE, alias="candidate")
    with pytest.raises(ModelNotFoundError, match="no version or alias champion; versions: 1; aliases: candidate"):
        registry.get("lead")
    with pytest.raises(ModelNotFoundError, match="no version or alias 7"):
        registry.set_alias("lead", "champion", 7, "human:anna")
    with pytest.raises(ModelNotFoundError, match="there is no model leed; registered are: lead"):
        registry.get("leed")


def test_rollback_goes_back_one_step_at_a_time(enrol: Enrol, registry: Registry) -> None:
    for _ in range(3):
        enrol(fitted(), SAMPLE, alias="champion")
    assert registry.get("lead").number == 3
    assert registry.rollback("lead", "champion", "human:anna").number == 2
    assert registry.get("lead").number == 2
    registry.set_alias("lead", "champion", 3, "human:anna")
    assert registry.rollback("lead", "champion", "human:anna").number == 2
    assert registry.rollback("lead", "champion", "human:anna").aliases == ("champion",)
    assert registry.get("lead").number == 1
    with pytest.raises(ModelNotFoundError, match="pointed at nothing before version 1"):
        registry.rollback("lead", "champion", "human:anna")


def test_setting_an_alias_to_what_it_is_already_is_no_step(enrol: Enrol, registry: Registry) -> None:
    enrol(fitted(), SAMPLE, alias="champion")
    enrol(fitted(), SAMPLE, alias="champion")
    registry.set_alias("lead", "champion", 2, "human:anna")
    assert registry.rollback("lead", "champion", "human:anna").number == 1


def test_a_removed_version_is_passed_over_by_rollback(enrol: Enrol, registry: Registry) -> None:
    for _ in range(3):
        enrol(fitted(), SAMPLE, alias="champion")
    registry.remove("lead", 2, "human:anna")
    assert registry.rollback("lead", "champion", "human:anna").number == 1


def test_a_version_in_use_is_not_removed(
    enrol: Enrol, database: Database, keys: KeyRing, audit: AuditLog, registry: Registry
) -> None:
    enrol(fitted(), SAMPLE, alias="champion")
    enrol(fitted(), SAMPLE)
    with pytest.raises(ModelInUseError, match="version 1 of model lead is champion"):
        registry.remove("lead", 1, "human:anna")
    mapped = Registry(database, keys, audit, users=lambda _session, _name, use: [f"mapping score@{use}"])
    with pytest.raises(ModelInUseError, match="is used by mapping score@2"):
        mapped.remove("lead", 2, "human:anna")
    assert [each.number for each in registry.versions("lead")] == [1, 2]


def test_a_removed_version_is_gone_and_its_number_is_not_given_again(
    enrol: Enrol, registry: Registry, database: Database
) -> None:
    version = enrol(fitted(), SAMPLE)
    registry.load(version)
    registry.remove("lead", 1, "human:anna")
    with pytest.raises(ModelNotFoundError):
        registry.get("lead", 1)
    with pytest.raises(ModelNotFoundError, match="was removed"):
        registry.load(version)
    with database.read() as session:
        assert session.execute(select(ModelPartRow.version_id)).all() == []
    assert enrol(fitted(), SAMPLE).number == 2


def test_every_step_is_an_event_of_the_transaction_that_did_it(
    enrol: Enrol, registry: Registry, audit: AuditLog
) -> None:
    first = enrol(fitted(), SAMPLE, alias="champion")
    enrol(fitted(), SAMPLE, alias="champion")
    registry.rollback("lead", "champion", "human:ben")
    registry.remove("lead", 2, "human:carla")
    told = [(each.event.actor, each.event.action) for each in reversed(audit.events())]
    assert [each for each in told if each[1] is not Action.WRITER_OPEN] == [
        ("human:anna", Action.MODEL_REGISTER),
        ("human:anna", Action.MODEL_ALIAS),
        ("human:anna", Action.MODEL_REGISTER),
        ("human:anna", Action.MODEL_ALIAS),
        ("human:ben", Action.MODEL_ALIAS),
        ("human:carla", Action.MODEL_REMOVE),
    ]
    registered = audit.events(action=Action.MODEL_REGISTER)[-1].event
    assert (registered.subject, registered.digest) == ("model:lead", first.digest)
    assert registered.detail["way"] == "onnx"
    with pytest.raises(ModelNotFoundError):
        registry.set_alias("lead", "champion", 9, "human:anna")
    assert len(audit.events(action=Action.MODEL_ALIAS)) == 3
    assert audit.verify().ok


def test_another_process_loads_the_same_model_from_the_database_alone(
    enrol: Enrol, settings: Settings, keys: KeyRing
) -> None:
    model = HistGradientBoostingClassifier(max_iter=30).fit(ROWS, (ROWS[:, 0] > 0).astype(int))
    version = enrol(model, SAMPLE)
    database = Database(settings)
    elsewhere = Registry(database, keys, AuditLog(database))
    found = elsewhere.load(elsewhere.get("lead", version.digest)).predict(SAMPLE)
    np.testing.assert_allclose(found["probability"], model.predict_proba(ROWS)[:, 1], atol=1e-9)
    database.close()


def test_a_scorer_is_kept_by_digest(enrol: Enrol, registry: Registry) -> None:
    version = enrol(fitted(), SAMPLE)
    assert registry.load(version) is registry.load(registry.get("lead", 1))


def test_the_stored_bytes_are_sealed(enrol: Enrol, database: Database) -> None:
    enrol(fitted(), SAMPLE)
    with database.read() as session:
        stored = b"".join(session.execute(select(ModelPartRow.sealed)).scalars())
    assert b"manifest" not in stored
    assert b"sklearn" not in stored


def test_bytes_that_were_altered_or_moved_are_refused_before_they_are_read(
    enrol: Enrol, database: Database, keys: KeyRing, audit: AuditLog
) -> None:
    one, two = enrol(fitted(), SAMPLE), enrol(fitted(0.5), SAMPLE)
    with database.begin() as session:
        sealed = {row.version_id: row.sealed for row in session.execute(select(ModelPartRow)).scalars()}
        first, second = sorted(sealed)
        flipped = bytearray(sealed[first])
        flipped[len(flipped) // 2] ^= 1
        session.execute(update(ModelPartRow).where(ModelPartRow.version_id == first).values(sealed=bytes(flipped)))
        session.execute(update(ModelPartRow).where(ModelPartRow.version_id == second).values(sealed=sealed[first]))
    for each in (one, two):
        with pytest.raises(ArtefactError, match="was altered"):
            Registry(database, keys, audit).load(each)


def test_another_artefact_under_a_known_digest_is_refused(
    enrol: Enrol, database: Database, keys: KeyRing, audit: AuditLog
) -> None:
    """Whoever holds the key and the database still cannot put another model in a version's place."""
    version = enrol(fitted(), SAMPLE)
    other = pack({"manifest.json": b"{}"})
    sealed = keys.seal(other, {"kind": "model-part", "digest": version.digest, "position": "0"})
    with database.begin() as session:
        session.execute(update(ModelPartRow).values(sealed=sealed))
    with pytest.raises(ArtefactError, match="its digest differs"):
        Registry(database, keys, audit).load(version)


def test_a_signature_altered_in_the_catalogue_does_not_change_how_a_model_scores(
    enrol: Enrol, database: Database, keys: KeyRing, audit: AuditLog
) -> None:
    version = enrol(fitted(), SAMPLE)
    with database.begin() as session:
        signature = {**version.signature.to_json(), "positive": 0}
        session.execute(update(ModelVersionRow).values(signature=signature))
    registry = Registry(database, keys, audit)
    with pytest.raises(ArtefactError, match="signature"):
        registry.load(registry.get("lead", 1))


def test_the_container_gives_equal_bytes_for_equal_parts() -> None:
    parts = {"b": b"2", "a": b"1"}
    packed = pack(parts)
    assert packed == pack(dict(reversed(parts.items())))
    assert unpack(packed, digest_of(packed)) == parts
    with pytest.raises(ArtefactError):
        unpack(packed + b" ", digest_of(packed))


def test_registrations_at_once_each_get_a_number_of_their_own(registry: Registry) -> None:
    model = fitted()
    together = threading.Barrier(4)
    failures: list[Exception] = []

    def enrol() -> None:
        together.wait()
        try:
            registry.register("lead", model, SAMPLE, owner="anna", actor="human:anna")
        except Exception as error:  # noqa: BLE001
            failures.append(error)

    threads = [threading.Thread(target=enrol) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert failures == []
    assert [each.number for each in registry.versions("lead")] == [1, 2, 3, 4]


def test_a_large_artefact_is_stored_in_pieces_and_comes_back_whole(
    enrol: Enrol, registry: Registry, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub.models.registry.CHUNK_BYTES", 1000)
    version = enrol(fitted(), SAMPLE)
    with database.read() as session:
        assert len(session.execute(select(ModelPartRow.position)).all()) > 3
    assert registry.load(version).predict(SAMPLE).height == 200


@pytest.mark.service("postgresql")
def test_postgresql_keeps_models_as_sqlite_does(settings: Settings, postgresql_database: Database) -> None:
    audit = AuditLog(postgresql_database)
    registry = Registry(postgresql_database, open_ring(settings, postgresql_database), audit)
    together = threading.Barrier(4)
    failures: list[Exception] = []

    def enrol() -> None:
        together.wait()
        try:
            registry.register("lead", fitted(), SAMPLE, owner="anna", actor="human:anna", alias="champion")
        except Exception as error:  # noqa: BLE001
            failures.append(error)

    threads = [threading.Thread(target=enrol) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert failures == []
    assert [each.number for each in registry.versions("lead")] == [1, 2, 3, 4]
    before = registry.get("lead").number
    back = registry.rollback("lead", "champion", "human:anna")
    assert back.number != before
    registry.remove("lead", before, "human:anna")
    found = registry.load(registry.get("lead")).predict(SAMPLE)
    np.testing.assert_allclose(found["probability"], fitted().predict_proba(ROWS)[:, 1], atol=1e-9)
    assert audit.verify().ok


def test_a_notebook_registers_with_the_settings_around_it(
    settings: Settings, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUB_HOME", str(settings.home))
    version = hub.models.register("lead", fitted(), SAMPLE, owner="anna", alias="champion", actor="human:anna")
    assert registry.get("lead") == version


def test_an_alias_in_use_moves_in_production_only_with_a_second_person(
    enrol: Enrol, database: Database, keys: KeyRing, audit: AuditLog
) -> None:
    used: list[str] = []
    strict = Registry(database, keys, audit, users=lambda _session, _name, _use: used, production=True)
    approvals = Approvals(database, keys, audit)
    enrol(fitted(), SAMPLE)
    enrol(fitted(), SAMPLE)
    assert strict.set_alias("lead", "champion", 1, "human:anna").aliases == ("champion",), "nothing uses it yet"
    used.append("mapping score")
    with pytest.raises(
        ApprovalError, match="mapping score use the alias champion of model lead, so it takes two people"
    ):
        strict.set_alias("lead", "champion", 2, "human:ben")
    (asked,) = approvals.list()
    assert asked.authors == ("anna", "ben"), "who registered the version has a part in it"
    for author in asked.authors:
        with pytest.raises(ApprovalError, match="somebody else must approve"):
            approvals.approve(asked.id, local_caller(author))
    assert strict.get("lead").number == 1
    approvals.approve(asked.id, local_caller("carla"))
    assert strict.set_alias("lead", "champion", 2, "human:ben").number == 2
    assert strict.get("lead").number == 2
    assert strict.rollback("lead", "champion", "human:ben").number == 1, "back to what was approved before"
