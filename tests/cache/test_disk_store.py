"""The disk store over damage, restarts, a full cap, locks and folders that cannot be used."""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import stat
import time
from pathlib import Path

import pytest

from ctxpress.cache.store import Store, create_store
from ctxpress.errors import ConfigError, StoreError

FILE = "store-2.sqlite3"


def open_store(folder: Path, options: str = "") -> Store:
    return create_store(f"disk://{folder}?timeout_ms=5000{options}")


async def test_values_outlive_the_process(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    await store.put("k", b"1", ttl_s=60)
    await store.aclose()
    store = open_store(tmp_path)
    assert await store.get("k") == b"1"
    await store.aclose()


async def test_only_the_user_may_read(tmp_path: Path) -> None:
    store = open_store(tmp_path / "a" / "b")
    await store.put("k", b"1", ttl_s=60)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "a").rglob("*")}
    assert modes.pop("b") == 0o700
    assert modes
    assert set(modes.values()) == {0o600}
    await store.aclose()


@pytest.mark.parametrize("damage", ["noise", "truncated", "zeroed page", "other tables"])
async def test_a_damaged_file_is_moved_aside(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = open_store(tmp_path)
    await store.set_many_if_absent([(f"k{n}", b"x" * 3000) for n in range(50)], ttl_s=60)
    await store.aclose()
    path = tmp_path / FILE
    content = path.read_bytes()
    if damage == "noise":
        path.write_bytes(b"noise" * 1000)
    elif damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "zeroed page":
        path.write_bytes(content[:4096] + bytes(len(content) - 4096))
    else:
        path.unlink()
        other = sqlite3.connect(path)
        other.execute("CREATE TABLE entries (other TEXT)")
        other.close()
    store = open_store(tmp_path)
    for _ in range(2):  # damage inside may show only while it works: that costs one operation
        try:
            await store.put("k", b"new", ttl_s=60)
            await store.get("k30")
        except StoreError:
            pass
    await store.put("k", b"new", ttl_s=60)
    assert await store.get("k") == b"new"
    assert [name for name in os.listdir(tmp_path) if name.startswith("damaged-")]
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    await store.aclose()


async def test_two_stores_over_a_file_that_breaks(tmp_path: Path) -> None:
    first, second = open_store(tmp_path), open_store(tmp_path)
    await first.put("k", b"1", ttl_s=60)
    assert await second.get("k") == b"1"
    await first.aclose()
    await second.aclose()
    (tmp_path / FILE).write_bytes(b"noise" * 1000)
    first, second = open_store(tmp_path), open_store(tmp_path)
    assert await first.set_if_absent("k", b"2", ttl_s=60) == b"2"
    assert await second.set_if_absent("k", b"3", ttl_s=60) == b"2"
    await first.aclose()
    await second.aclose()


async def test_hostile_rows_are_misses(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    await store.ping()
    other = sqlite3.connect(tmp_path / FILE)
    for key, value, expires_s in (
        ("text", "text", 1e12), ("never", b"x", None), ("word", b"x", "tomorrow"),
        ("bad", b"x", b"\xff"),
    ):  # fmt: skip
        other.execute(
            "INSERT INTO entries (key, value, expires_s) VALUES (?, ?, ?)", (key, value, expires_s)
        )
    other.commit()
    other.close()
    keys = ["text", "never", "word", "bad"]
    assert await store.get_many(keys, ttl_s=60) == [None] * 4
    assert await store.get_ranges([(key, 0, 9) for key in keys], ttl_s=60) == [b""] * 4
    held = await store.set_many_if_absent([(key, b"ours") for key in keys], ttl_s=60)
    assert held == [b"", b"ours", b"ours", b"ours"]
    await store.aclose()


async def test_values_above_the_cap_are_misses(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    await store.put("k", b"x" * 11, ttl_s=60)
    await store.aclose()
    store = open_store(tmp_path, "&max_value_bytes=10")
    assert await store.get("k", ttl_s=60) is None
    assert await store.set_if_absent("k", b"ours", ttl_s=60) == b""
    await store.aclose()


async def test_the_cap_holds_and_the_newest_stay(tmp_path: Path) -> None:
    store = open_store(tmp_path, "&max_bytes=1mb")
    await store.put("early", b"x" * 1000, ttl_s=3600)
    for number in range(300):
        await store.put(f"k{number}", b"x" * 20_000, ttl_s=60 + number)
    assert (tmp_path / FILE).stat().st_size < 1.2 * 2**20
    assert await store.get("k299") is not None
    assert await store.get("k0") is None
    assert await store.get("early") is not None  # it lives longest
    with pytest.raises(StoreError, match="max_bytes"):
        await store.put("k", b"x" * 600_000, ttl_s=60)
    await store.aclose()


async def test_what_has_expired_is_swept(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    await store.set_many_if_absent([(f"old{n}", b"x") for n in range(40)], ttl_s=0.05)
    await asyncio.sleep(0.1)
    await store.set_many_if_absent([(f"new{n}", b"x") for n in range(40)], ttl_s=60)
    await store.aclose()
    reader = sqlite3.connect(tmp_path / FILE)
    assert reader.execute("SELECT count(*) FROM entries").fetchone() == (40,)
    reader.close()


async def test_a_locked_file_is_an_error_in_time(tmp_path: Path) -> None:
    store = create_store(f"disk://{tmp_path}?timeout_ms=300")
    await store.put("k", b"1", ttl_s=60)
    rival = sqlite3.connect(tmp_path / FILE, isolation_level=None)
    rival.execute("BEGIN IMMEDIATE")
    started = time.monotonic()
    with pytest.raises(StoreError, match="300 ms"):
        await store.put("k", b"2", ttl_s=60)
    assert time.monotonic() - started < 2
    rival.execute("ROLLBACK")
    rival.close()
    await asyncio.sleep(0.3)
    await store.put("k", b"3", ttl_s=60)
    assert await store.get("k") == b"3"
    await store.aclose()


async def test_a_folder_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = open_store(tmp_path / "file" / "folder")
    for _ in range(2):
        with pytest.raises(StoreError, match="disk store"):
            await store.ping()
    await store.aclose()


def test_a_cap_that_holds_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="max_bytes"):
        open_store(tmp_path, "&max_bytes=1kb")


def test_the_state_folder_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))

    async def write() -> None:
        store = create_store("disk://?timeout_ms=5000")
        await store.ping()
        await store.aclose()

    asyncio.run(write())
    assert (tmp_path / "ctxpress" / FILE).exists()
    assert stat.S_IMODE((tmp_path / "ctxpress").stat().st_mode) == 0o700


VALUES = "store-2-values"
LARGE = bytes(range(256)) * 1000


def files(folder: Path) -> list[Path]:
    return sorted((folder / VALUES).iterdir()) if (folder / VALUES).exists() else []


def all_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in [*folder.glob("store-*.sqlite3"), *files(folder)])


async def test_large_values_are_files_and_leave_with_their_keys(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    await store.put("small", LARGE[:1000], ttl_s=60)
    assert files(tmp_path) == []
    await store.put("k", LARGE, ttl_s=60)
    await store.set_if_absent("k", LARGE, ttl_s=60)
    await store.set_if_absent("l", LARGE, ttl_s=60)
    assert len(files(tmp_path)) == 2
    assert {stat.S_IMODE(path.stat().st_mode) for path in files(tmp_path)} == {0o600}
    await store.put("k", LARGE, ttl_s=60)
    assert len(files(tmp_path)) == 2
    await store.put("k", b"small", ttl_s=60)
    await store.delete("l")
    assert files(tmp_path) == []
    await store.aclose()


async def test_large_values_that_expire_leave(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    await store.put("k", LARGE, ttl_s=0.05)
    await store.put("l", LARGE, ttl_s=0.05)
    await asyncio.sleep(0.1)
    assert await store.set_if_absent("k", LARGE, ttl_s=60) == LARGE
    assert len(files(tmp_path)) == 2
    await store.set_many_if_absent([(f"new{n}", b"x") for n in range(70)], ttl_s=60)
    assert len(files(tmp_path)) == 1
    assert await store.get("k") == LARGE
    await store.aclose()


async def test_the_cap_counts_large_values(tmp_path: Path) -> None:
    store = open_store(tmp_path, "&max_bytes=3mb")
    for number in range(40):
        await store.put(f"k{number}", LARGE, ttl_s=60 + number)
        assert all_bytes(tmp_path) < 1.2 * 3 * 2**20
    assert await store.get("k39") == LARGE
    assert await store.get("k0") is None
    await store.aclose()


@pytest.mark.parametrize("damage", ["gone", "cut off", "longer", "a folder"])
async def test_damaged_files_of_values_are_misses(tmp_path: Path, damage: str) -> None:
    store = open_store(tmp_path)
    await store.put("k", LARGE, ttl_s=60)
    (path,) = files(tmp_path)
    if damage == "cut off":
        path.write_bytes(LARGE[:1000])
    elif damage == "longer":
        path.write_bytes(LARGE + b"x")  # what is behind the end does not count
    else:
        path.unlink()
        if damage == "a folder":
            path.mkdir()
    if damage == "a folder":
        with pytest.raises(StoreError):
            await store.get("k")
    else:
        assert await store.get("k", ttl_s=60) == (LARGE if damage == "longer" else None)
    await store.put("k", LARGE, ttl_s=60)
    assert await store.get("k") == LARGE
    await store.aclose()


async def test_rows_that_point_elsewhere_are_misses(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(LARGE)
    store = open_store(tmp_path)
    await store.ping()
    other = sqlite3.connect(tmp_path / FILE)
    for key, file, size in (
        ("up", "../secret", len(LARGE)), ("root", str(tmp_path / "secret"), len(LARGE)),
        ("size", "0" * 32, "many"), ("number", 7, 7), ("below", "0" * 32, -1),
    ):  # fmt: skip
        other.execute("INSERT INTO entries VALUES (?, x'', ?, ?, ?)", (key, file, size, 1e12))
    other.commit()
    other.close()
    keys = ["up", "root", "size", "number", "below"]
    assert await store.get_many(keys, ttl_s=60) == [None] * 5
    assert await store.get_ranges([(key, 0, 100) for key in keys]) == [b""] * 5
    for key in keys:
        await store.put(key, b"x", ttl_s=60)
    assert (tmp_path / "secret").read_bytes() == LARGE
    await store.aclose()


async def test_files_of_a_crash_are_swept(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    await store.put("k", LARGE, ttl_s=60)
    await store.aclose()
    old, new, foreign = ((tmp_path / VALUES) / name for name in ("0" * 32, "1" * 32, "notes.txt"))
    for path in (old, new, foreign):
        path.write_bytes(b"x")
    for path in (old, foreign, *files(tmp_path)):
        if path != new:
            os.utime(path, (0, 0))
    store = open_store(tmp_path)
    assert await store.get("k") == LARGE  # held, however old
    assert not old.exists()
    assert new.exists()  # another process may be writing it
    assert foreign.exists()  # not ours
    await store.aclose()


async def test_a_value_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    await store.put("k", b"before", ttl_s=60)
    (tmp_path / VALUES).write_bytes(b"in the way")
    with pytest.raises(StoreError, match="disk store"):
        await store.put("k", LARGE, ttl_s=60)
    assert await store.get("k") == b"before"
    (tmp_path / VALUES).unlink()
    rival = sqlite3.connect(tmp_path / FILE, isolation_level=None)
    rival.execute("BEGIN IMMEDIATE")
    locked = create_store(f"disk://{tmp_path}?timeout_ms=200")
    for call in (locked.put("k", LARGE, ttl_s=60), locked.set_if_absent("n", LARGE, ttl_s=60)):
        with pytest.raises(StoreError):
            await call
    await locked.aclose()
    for _ in range(500):  # what ran out of time may still be at work
        if not files(tmp_path):
            break
        await asyncio.sleep(0.02)
    assert files(tmp_path) == []
    rival.execute("ROLLBACK")
    rival.close()
    assert await store.get("k") == b"before"
    await store.aclose()
