"""Stores that die, stall, fill up or lie in the middle of KV: misses in time, and counted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from ctxpress.cache.chunks import KVStore, create_kv_store
from ctxpress.cache.kv_report import KVDrop, KVMiss, KVReport
from ctxpress.cache.sealed_kv import StoredKV
from ctxpress.cache.store import create_store
from ctxpress.errors import KVMissError, StoreError
from tests.cache.containers import ACME, RAW, container, key
from tests.redis_server import RedisServer

TIMEOUT_MS = 500
SECTIONS = (1_500_000,) * 8
DATA = container(key(), section_bytes=SECTIONS)
# 12 MB may take what they need at 16 MB a second on top, and the machine may be busy.
IN_TIME_S = TIMEOUT_MS / 1000 + len(DATA) / 2**24 + 2.0


@pytest.fixture
async def kv(redis_server: RedisServer) -> AsyncIterator[KVStore]:
    opened = create_kv_store(redis_server.url, namespace=ACME, timeout_ms=TIMEOUT_MS)
    yield opened
    await opened.aclose()


async def stored(kv: KVStore) -> StoredKV:
    patient = KVStore(kv._store, ACME)
    for _ in range(20):  # a busy machine may need more than one try
        if await patient.put(key(), RAW, DATA, ttl_s=60):
            break
    (found,) = await patient.find([key()], [RAW])
    return found[RAW]


async def read_and(kv: KVStore, found: StoredKV, do: object, report: KVReport) -> list[int]:
    """Read sections, check each, call ``do`` after the second one; the indices that arrived."""
    arrived = []
    header = found.header()
    async for index, section in kv.fetch(found, report=report):
        begin = header.sections[index].offset
        assert section == DATA[begin : begin + len(section)]
        arrived.append(index)
        if index == 1:
            do()  # type: ignore[operator]
    return arrived


@pytest.mark.parametrize("how", ["kill", "restart", "pause"])
async def test_a_server_lost_while_it_is_read(
    kv: KVStore, redis_server: RedisServer, how: str
) -> None:
    found, report = await stored(kv), KVReport()
    started = time.monotonic()
    with pytest.raises(KVMissError) as caught:
        await read_and(kv, found, getattr(redis_server, how), report)
    assert time.monotonic() - started < IN_TIME_S
    assert caught.value.reason in (KVMiss.UNREACHABLE, KVMiss.GONE)
    assert report.misses.total() == 1
    assert (report.hits, report.last_error != "") == (0, True)
    redis_server.resume()
    if how == "kill":
        redis_server.restart()
    await stored(kv)
    assert await kv.get(key(), RAW) == DATA


@pytest.mark.parametrize("how", ["kill", "pause"])
async def test_a_server_lost_while_it_is_written(
    redis_server: RedisServer, kv: KVStore, how: str
) -> None:
    report = KVReport()
    await stored(kv)  # the connection is open
    redis_server.pause()
    started = time.monotonic()
    writing = asyncio.create_task(kv.put(key(), RAW, DATA, ttl_s=60, report=report))
    await asyncio.sleep(0.1)
    getattr(redis_server, how)()
    assert await writing is False
    assert time.monotonic() - started < IN_TIME_S
    assert report.dropped_writes == {KVDrop.UNREACHABLE: 1}
    redis_server.resume()
    if how == "kill":
        redis_server.restart()
    await stored(kv)


async def test_a_server_that_sleeps_over_a_search(kv: KVStore, redis_server: RedisServer) -> None:
    found = await stored(kv)
    redis_server.pause()
    started = time.monotonic()
    assert await kv.find([key(), key(1)], [RAW]) == [{}, {}]
    assert await kv.fetch_whole(found) is None
    assert time.monotonic() - started < 2 * IN_TIME_S
    assert kv.report.misses == {KVMiss.UNREACHABLE: 3}
    assert "no answer within" in kv.report.last_error
    redis_server.resume()


async def test_a_full_server_that_evicts_nothing(kv: KVStore, redis_server: RedisServer) -> None:
    found = await stored(kv)
    redis_server.command("CONFIG", "SET", "maxmemory-policy", "noeviction")
    redis_server.command("CONFIG", "SET", "maxmemory", "1mb")
    assert await kv.put(key(1), RAW, container(key(1), section_bytes=(10,)), ttl_s=60) is False
    assert kv.report.dropped_writes == {KVDrop.UNREACHABLE: 1}
    assert "out of memory" in kv.report.last_error
    assert await kv.fetch_whole(found) == DATA


async def test_a_full_server_that_evicts(redis_server: RedisServer) -> None:
    kv = create_kv_store(redis_server.url, namespace=ACME, timeout_ms=20_000)
    redis_server.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    redis_server.command("CONFIG", "SET", "maxmemory", "20mb")
    datas = [container(key(n), section_bytes=(1_500_000,) * 2) for n in range(12)]
    for number, data in enumerate(datas):
        await kv.put(key(number), RAW, data, ttl_s=60)
    # A chunk is one value: it is there whole, or not at all.
    got = [await kv.get(key(number), RAW) for number in range(12)]
    there = [number for number, data in enumerate(got) if data is not None]
    assert 0 < len(there) < 12
    assert all(got[number] == datas[number] for number in there)
    assert kv.report.misses == {KVMiss.ABSENT: 12 - len(there)}
    redis_server.command("CONFIG", "SET", "maxmemory-policy", "noeviction")
    await kv.aclose()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("SETRANGE", "100", "x"), KVMiss.UNSEALED),
        (("SETRANGE", "9000000", "x"), KVMiss.DAMAGED),
        (("SET", "short"), KVMiss.UNSEALED),
        (("DEL+RPUSH", "a list"), KVMiss.ABSENT),
        (("DEL",), KVMiss.ABSENT),
    ],
)
async def test_values_that_others_wrote(
    kv: KVStore, redis_server: RedisServer, change: tuple[str, ...], reason: KVMiss
) -> None:
    found = await stored(kv)
    verbs, *words = change
    for verb in verbs.split("+"):
        redis_server.command(verb, found.store_key, *(words if verb != "DEL" else ()))
    assert await kv.get(key(), RAW) is None
    assert kv.report.misses == {reason: 1}


async def test_a_value_cut_off_between_search_and_read(
    kv: KVStore, redis_server: RedisServer
) -> None:
    found = await stored(kv)
    plain = create_store(redis_server.url, timeout_ms=20_000)
    whole = await plain.get(found.store_key)
    assert whole is not None
    for end in (found.front_bytes, found.front_bytes + 1_600_000, len(whole) - 1):
        await plain.put(found.store_key, whole[:end], ttl_s=60)
        assert await kv.fetch_whole(found) is None
        report = KVReport()
        with pytest.raises(KVMissError) as caught:
            await read_and(kv, found, lambda: None, report)
        assert caught.value.reason == KVMiss.GONE
    await plain.aclose()


@pytest.mark.parametrize("speed", ["slow", "stalls"])
async def test_a_slow_link_has_the_time_that_its_bytes_need(
    redis_server: RedisServer, speed: str
) -> None:
    """A link of 2 MB a second: allowed, it is waited for; where less is allowed, it is a miss."""
    await stored(KVStore(create_store(redis_server.url, timeout_ms=20_000), ACME))
    link = await _slow_link(redis_server.port, bytes_per_s=2_000_000)
    port = link.sockets[0].getsockname()[1]
    allowed = "1mb" if speed == "slow" else "64mb"
    url = f"redis://127.0.0.1:{port}?timeout_ms=1000&min_bytes_per_s={allowed}"
    store = create_store(url, max_value_bytes=2**26)
    name = ACME.key("kv", key().digest(RAW))
    started = time.monotonic()
    if speed == "slow":
        assert len(await store.get_range(name, 0, 4_000_000)) == 4_000_000
        assert time.monotonic() - started > TIMEOUT_MS / 1000  # longer than its time-out
    else:
        with pytest.raises(StoreError, match="no answer within"):
            await store.get(name)
        assert time.monotonic() - started < IN_TIME_S
    await store.aclose()
    link.close()
    await link.wait_closed()


async def _slow_link(port: int, *, bytes_per_s: float) -> asyncio.Server:
    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter, rate: float) -> None:
        try:
            while data := await source.read(50_000):
                sink.write(data)
                await sink.drain()
                await asyncio.sleep(len(data) / rate)
        except OSError:
            pass
        finally:
            sink.close()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port, limit=2**16)
        await asyncio.gather(pump(reader, far_writer, 1e9), pump(far_reader, writer, bytes_per_s))

    return await asyncio.start_server(talk, "127.0.0.1", 0)
