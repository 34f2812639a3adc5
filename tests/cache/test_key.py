"""Keys never collide, seals open only what they sealed, the secret is kept and never shown."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxpress.cache.key import Namespace, load_secret, state_dir
from ctxpress.errors import ConfigError

TENANT = Namespace.derive(b"secret", "acme")
PARTS = st.lists(st.one_of(st.binary(max_size=4), st.text(max_size=4)), max_size=4)


@given(PARTS, PARTS)
def test_different_parts_have_different_keys(
    first: list[bytes | str], second: list[bytes | str]
) -> None:
    same = [(type(part), part) for part in first] == [(type(part), part) for part in second]
    assert (TENANT.key("memo", *first) == TENANT.key("memo", *second)) is same


def test_the_shape_of_a_key() -> None:
    prefix, version, purpose, digest = TENANT.key("memo", b"x").split(":")
    assert (prefix, version, purpose, len(digest)) == ("ctxpress", "1", "memo", 64)
    assert TENANT.key("memo", b"x") != TENANT.key("outcome", b"x")
    for wrong in ("", "a:b", "Memo", "é", "a b"):
        with pytest.raises(ValueError, match="purpose"):
            TENANT.key(wrong)


@given(st.text(), st.text())
def test_tenants_share_no_key_and_no_value(first: str, second: str) -> None:
    one, other = Namespace.derive(b"secret", first), Namespace.derive(b"secret", second)
    sealed = one.seal("k", b"value")
    assert (one.key("memo", b"x") == other.key("memo", b"x")) is (first == second)
    assert other.open("k", sealed) == (b"value" if first == second else None)


def test_another_secret_is_another_namespace() -> None:
    other = Namespace.derive(b"another", "acme")
    assert other.key("memo") != TENANT.key("memo")
    assert other.open("k", TENANT.seal("k", b"v")) is None
    with pytest.raises(ConfigError, match="empty"):
        Namespace.derive(b"", "acme")


@given(st.text(), st.binary())
def test_sealed_values_open(key: str, value: bytes) -> None:
    assert TENANT.open(key, TENANT.seal(key, value)) == value


@given(st.binary(max_size=64), st.data())
def test_changed_values_are_misses(value: bytes, data: st.DataObject) -> None:
    sealed = bytearray(TENANT.seal("k", value))
    bit = data.draw(st.integers(0, len(sealed) * 8 - 1))
    sealed[bit // 8] ^= 1 << bit % 8
    assert TENANT.open("k", bytes(sealed)) is None


@given(st.binary(max_size=64), st.data())
def test_cut_and_lengthened_values_are_misses(value: bytes, data: st.DataObject) -> None:
    sealed = TENANT.seal("k", value)
    assert TENANT.open("k", sealed[: data.draw(st.integers(0, len(sealed) - 1))]) is None
    assert TENANT.open("k", sealed + data.draw(st.binary(min_size=1, max_size=8))) is None


@given(st.binary(max_size=64))
def test_foreign_values_are_misses(value: bytes) -> None:
    assert TENANT.open("k", value) is None
    assert TENANT.open("k", None) is None
    assert TENANT.open("l", TENANT.seal("k", value)) is None


def test_the_secret_is_not_shown() -> None:
    secret = Namespace.derive(b"secret", "acme")
    assert repr(secret) == "Namespace()"
    assert "secret" not in f"{secret} {secret!r}"


def test_a_secret_is_made_once(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    secret = load_secret(None, folder)
    assert len(secret) == 32
    assert load_secret(None, folder) == secret
    assert stat.S_IMODE((folder / "secret").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_an_explicit_secret_touches_no_file(tmp_path: Path) -> None:
    assert load_secret("0123456789abcdef", tmp_path / "state") == b"0123456789abcdef"
    assert not (tmp_path / "state").exists()
    with pytest.raises(ConfigError, match="16 characters"):
        load_secret("short", tmp_path)


def test_a_damaged_secret_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"short")
    with pytest.raises(ConfigError, match="damaged"):
        load_secret(None, tmp_path)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigError, match="CTXPRESS_SECRET"):
        load_secret(None, tmp_path / "file")


def test_where_state_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert state_dir() == tmp_path / "ctxpress"
    monkeypatch.setenv("XDG_STATE_HOME", "relative")  # the specification says: ignore it
    monkeypatch.setenv("HOME", str(tmp_path))
    assert state_dir() == tmp_path / ".local" / "state" / "ctxpress"
    monkeypatch.setattr("sys.platform", "darwin")
    assert state_dir() == tmp_path / "Library" / "Application Support" / "ctxpress"
