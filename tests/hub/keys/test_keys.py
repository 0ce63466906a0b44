"""The key ring: what it seals opens only where it belongs, and it starts only with the right key."""

from __future__ import annotations

import json
import multiprocessing
import os
import stat
import unicodedata
from decimal import Decimal
from pathlib import Path

import pytest
import rfc8785
from hypothesis import assume, given
from hypothesis import strategies as st
from sqlalchemy import text

from hub.database import Database
from hub.keys import KeyRing, KeyringError, SealedError, canonical, open_ring, rotate
from hub.keys.envelope import parse
from hub.keys.providers.local import LocalKek
from hub.settings import Settings, load_settings

RING = KeyRing(
    LocalKek("outer", {1: os.urandom(32)}, "here"), bytes(32), working=LocalKek("working", {1: os.urandom(32)}, "here")
)
PLACE = {"table": "secret", "row": "1", "kind": "password"}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(home=tmp_path)


@pytest.fixture
def ring(settings: Settings, database: Database) -> KeyRing:
    return open_ring(settings, database)


@pytest.mark.parametrize("size", [0, 1, 16, 1_000_000])
def test_what_was_sealed_opens_in_its_place(ring: KeyRing, size: int) -> None:
    plain = os.urandom(size)
    assert ring.open(ring.seal(plain, PLACE), PLACE) == plain


def test_the_same_value_is_never_sealed_to_the_same_bytes(ring: KeyRing) -> None:
    assert len({ring.seal(b"x", PLACE) for _ in range(100)}) == 100


def test_each_flipped_bit_is_noticed(ring: KeyRing) -> None:
    sealed = ring.seal(b"a password", PLACE)
    for place in range(len(sealed)):
        for bit in range(8):
            forged = bytearray(sealed)
            forged[place] ^= 1 << bit
            with pytest.raises(SealedError):
                ring.open(bytes(forged), PLACE)


def test_each_shortened_value_is_noticed(ring: KeyRing) -> None:
    sealed = ring.seal(b"a password", PLACE)
    for length in range(len(sealed)):
        with pytest.raises(SealedError):
            ring.open(sealed[:length], PLACE)


@pytest.mark.parametrize(
    "other",
    [{**PLACE, "row": "2"}, {**PLACE, "kind": "token"}, {}, {"table": "secret", "row": "1"}, {**PLACE, "more": ""}],
    ids=str,
)
def test_a_value_does_not_open_in_another_place(ring: KeyRing, other: dict[str, str]) -> None:
    with pytest.raises(SealedError):
        ring.open(ring.seal(b"a password", PLACE), other)


def test_two_swapped_rows_do_not_open(ring: KeyRing) -> None:
    places = [{**PLACE, "row": str(each)} for each in (1, 2)]
    rows = [ring.seal(b"a password", each) for each in places]
    for sealed, place in zip(reversed(rows), places, strict=True):
        with pytest.raises(SealedError):
            ring.open(sealed, place)


def test_the_wrapped_key_of_one_row_does_not_serve_another(ring: KeyRing) -> None:
    sealed = ring.seal(b"one", PLACE)
    one, two = parse(sealed), parse(ring.seal(b"two", PLACE))
    forged = sealed[: sealed.index(one.wrapped.content)] + one.wrapped.content + two.nonce + two.ciphertext
    with pytest.raises(SealedError):
        ring.open(forged, PLACE)


def test_the_key_is_made_once_and_for_the_hub_alone(settings: Settings, database: Database) -> None:
    sealed = open_ring(settings, database).seal(b"x", PLACE)
    before = settings.key_file.read_bytes()
    assert open_ring(settings, database).open(sealed, PLACE) == b"x"
    assert settings.key_file.read_bytes() == before
    assert stat.S_IMODE(settings.key_file.stat().st_mode) == 0o600
    assert [each.name for each in settings.key_file.parent.iterdir()] == [settings.key_file.name]


def test_a_missing_key_is_never_replaced(settings: Settings, database: Database) -> None:
    open_ring(settings, database)
    settings.key_file.unlink()
    with pytest.raises(KeyringError, match="is missing; put it back from your backup"):
        open_ring(settings, database)
    assert not settings.key_file.exists()


def test_another_key_is_refused_at_start(settings: Settings, database: Database, tmp_path: Path) -> None:
    open_ring(settings, database)
    other = load_settings(home=tmp_path / "other")
    elsewhere = Database(other)
    elsewhere.create_all()
    open_ring(other, elsewhere)
    elsewhere.close()
    settings.key_file.write_bytes(other.key_file.read_bytes())
    with pytest.raises(KeyringError, match="is not the one this database was sealed under"):
        open_ring(settings, database)


def test_the_same_name_with_another_key_is_refused_at_start(settings: Settings, database: Database) -> None:
    open_ring(settings, database)
    raw = json.loads(settings.key_file.read_text())
    raw["keys"]["1"] = "A" * 43 + "="
    settings.key_file.write_text(json.dumps(raw))
    with pytest.raises(KeyringError, match="is not the one"):
        open_ring(settings, database)


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"format": 1, "id": "x", "keys": {"1": "c2hvcnQ="}}', "no json"])
def test_a_file_that_holds_no_key_is_refused(settings: Settings, database: Database, content: str) -> None:
    settings.key_file.parent.mkdir()
    settings.key_file.write_text(content)
    settings.key_file.chmod(0o600)
    with pytest.raises(KeyringError, match="is no key file"):
        open_ring(settings, database)


def test_a_key_that_others_can_read_is_refused(settings: Settings, database: Database) -> None:
    open_ring(settings, database)
    settings.key_file.chmod(0o640)
    with pytest.raises(KeyringError, match="can be read by others; run chmod 600"):
        open_ring(settings, database)


def test_a_crash_between_key_and_database_is_taken_up(settings: Settings, database: Database, tmp_path: Path) -> None:
    """The file is durable first; a start that finds it alone adopts it."""
    elsewhere = Database(f"sqlite:///{tmp_path / 'first.db'}")
    elsewhere.create_all()
    open_ring(settings, elsewhere)
    elsewhere.close()
    before = settings.key_file.read_bytes()
    open_ring(settings, database)
    assert settings.key_file.read_bytes() == before


def first_start(home: str, url: str, ready: multiprocessing.synchronize.Event, found: multiprocessing.Queue) -> None:
    settings, database = load_settings(home=home), Database(url)
    ready.wait(30)
    found.put(open_ring(settings, database).derive("same").hex())
    database.close()


def test_processes_that_start_first_together_agree_on_the_key(tmp_path: Path, database: Database) -> None:
    context = multiprocessing.get_context("spawn")
    ready, found = context.Event(), context.Queue()
    url = database.url.render_as_string()
    running = [context.Process(target=first_start, args=(str(tmp_path), url, ready, found)) for _ in range(4)]
    for each in running:
        each.start()
    ready.set()
    assert len({found.get(timeout=60) for _ in running}) == 1
    for each in running:
        each.join(30)


def test_rotation_keeps_what_was_sealed_and_every_digest(settings: Settings, database: Database) -> None:
    old = open_ring(settings, database)
    sealed, digest = old.seal(b"x", PLACE), old.mac("record-key", b"k")
    secret = old.seal(b"s", PLACE, directly=True)
    new = rotate(settings, database)
    assert new.version == 2
    assert new.open(sealed, PLACE) == b"x"
    assert new.mac("record-key", b"k") == digest
    assert parse(new.seal(b"y", PLACE)).kek_version == 2
    moved = new.rewrap(secret, PLACE)
    assert parse(moved).kek_version == 2
    assert parse(moved).ciphertext == parse(secret).ciphertext
    assert new.open(moved, PLACE, directly=True) == b"s"


def test_a_process_that_began_before_a_rotation_goes_on_without_a_restart(
    settings: Settings, database: Database
) -> None:
    old = open_ring(settings, database)
    old.seal(b"x", PLACE)
    new = rotate(settings, database)
    assert old.open(new.seal(b"y", PLACE), PLACE) == b"y"
    assert old.open(new.seal(b"s", PLACE, directly=True), PLACE, directly=True) == b"s"
    # What is sealed directly is under the new version at once.
    assert parse(old.seal(b"s", PLACE, directly=True)).kek_version == 2


def test_a_key_that_was_lost_with_the_root_is_not_made_anew(settings: Settings, database: Database) -> None:
    open_ring(settings, database)
    with database.begin() as session:
        session.execute(text("delete from key_root"))
    settings.key_file.unlink()
    with pytest.raises(KeyringError, match="the table working_key holds sealed values, but the root"):
        open_ring(settings, database)
    assert not settings.key_file.exists()


@given(st.binary(min_size=1, max_size=40), st.integers(min_value=0), st.integers(0, 7), st.booleans())
def test_any_flipped_bit_is_refused(plain: bytes, place: int, bit: int, directly: bool) -> None:
    forged = bytearray(RING.seal(plain, PLACE, directly=directly))
    forged[place % len(forged)] ^= 1 << bit
    with pytest.raises(SealedError):
        RING.open(bytes(forged), PLACE, directly=directly)


names = st.fixed_dictionaries({"name": st.text("abc/.", min_size=1, max_size=8), "version": st.sampled_from("123")})


@given(st.lists(names, min_size=2, max_size=2, unique_by=lambda each: (each["name"], each["version"])), st.booleans())
def test_any_two_swapped_rows_are_refused(places: list[dict[str, str]], directly: bool) -> None:
    rows = [RING.seal(b"a password", each, directly=directly) for each in places]
    for sealed, place in zip(reversed(rows), places, strict=True):
        with pytest.raises(SealedError):
            RING.open(sealed, place, directly=directly)


def test_digests_of_different_purposes_differ(ring: KeyRing) -> None:
    assert ring.mac("record-key", b"k") != ring.mac("access-token", b"k")
    assert len(ring.mac("record-key", b"k")) == 32


def test_a_ring_shows_no_key(ring: KeyRing, settings: Settings) -> None:
    keys = json.loads(settings.key_file.read_text())["keys"].values()
    assert not any(key in repr(ring) for key in keys)


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(st.dictionaries(texts, texts, max_size=5))
def test_a_document_has_one_form_whatever_its_order(document: dict[str, str]) -> None:
    normal = {key: value for key, value in document.items() if key.isascii() and value.isascii()}
    assert canonical(normal) == canonical(dict(reversed(normal.items()))) == rfc8785.dumps(normal)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(1 - 2**53, 2**53 - 1) | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


@given(json_values)
def test_the_form_is_that_of_the_standard_whichever_way_it_was_made(document: object) -> None:
    assume(unicodedata.is_normalized("NFC", json.dumps(document, ensure_ascii=False)))
    assert canonical(document) == rfc8785.dumps(document)  # type: ignore[arg-type]


def test_text_is_the_same_however_it_was_typed() -> None:
    assert canonical({"Ärzte": "é"}) == canonical({"A\u0308rzte": "e\u0301"})


def test_two_keys_that_are_the_same_text_are_refused() -> None:
    with pytest.raises(ValueError, match="the same text"):
        canonical({"é": 1, "e\u0301": 2})


@pytest.mark.parametrize(
    ("value", "form"),
    [
        (2**53, b'"9007199254740992"'),
        (2**53 - 1, b"9007199254740991"),
        (float("nan"), b'{"real":"nan"}'),
        (float("-inf"), b'{"real":"-inf"}'),
        (1.0, b"1"),
        (True, b"true"),
        (Decimal("1.10"), b'"1.10"'),
        ((1, None), b"[1,null]"),
    ],
)
def test_what_json_cannot_hold_becomes_text(value: object, form: bytes) -> None:
    assert canonical(value) == form


def test_what_is_no_json_at_all_is_refused() -> None:
    with pytest.raises(TypeError, match="bytes has no place"):
        canonical({"a": b"x"})
