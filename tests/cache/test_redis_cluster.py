"""A real cluster: keys everywhere, slots that move, nodes that die. Misses and errors in time."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator

import pytest
from redis.crc import key_slot

from ctxpress.cache.chunks import KVStore
from ctxpress.cache.kv_report import KVMiss
from ctxpress.cache.store import RangeStore, create_store
from ctxpress.errors import KVMissError, StoreError
from tests.cache.containers import ACME, RAW, container, key
from tests.redis_cluster import RedisClusterServers

TIMEOUT_MS = 1000
IN_TIME_S = TIMEOUT_MS / 1000 + 1.0  # with room for a busy machine
KEYS = [f"k{number}" for number in range(60)]


@pytest.fixture
async def store(redis_cluster: RedisClusterServers) -> AsyncIterator[RangeStore]:
    opened = create_store(redis_cluster.url, timeout_ms=TIMEOUT_MS)
    yield opened
    await opened.aclose()


def slot_of(key: str) -> int:
    return key_slot(key.encode())


def keys_by_node(servers: RedisClusterServers) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for name in KEYS:
        found.setdefault(servers.node_of(slot_of(name)).port, []).append(name)
    return found


async def fill(store: RangeStore) -> None:
    held = await store.set_many_if_absent([(name, name.encode()) for name in KEYS], ttl_s=60)
    assert held == [name.encode() for name in KEYS]


async def test_keys_of_all_nodes_in_one_call(
    store: RangeStore, redis_cluster: RedisClusterServers
) -> None:
    await store.ping()
    await fill(store)
    sizes = [node.command("DBSIZE") for node in redis_cluster.nodes]
    assert all(size != b":0\r\n" for size in sizes)
    assert await store.get_many([*KEYS, "absent"], ttl_s=60) == [*(k.encode() for k in KEYS), None]
    ranges = [(name, 1, 50) for name in KEYS]
    assert await store.get_ranges(ranges, ttl_s=60) == [name[1:].encode() for name in KEYS]
    held = await store.set_many_if_absent([(name, b"late") for name in KEYS], ttl_s=60)
    assert held == [name.encode() for name in KEYS]


async def test_a_slot_that_is_moving_and_one_that_has_moved(
    store: RangeStore, redis_cluster: RedisClusterServers
) -> None:
    large = bytes(range(256)) * 4000
    await fill(store)
    await store.put("k7", large, ttl_s=60)
    slot = slot_of("k7")
    source = redis_cluster.node_of(slot)
    target = next(node for node in redis_cluster.nodes if node is not source)
    ranges = [(n * 100_000, 100_000) for n in range(10)]

    async def all_is_there() -> None:
        assert await store.get("k7") == large
        assert (await store.get_many(KEYS))[8] == b"k8"
        parts = [p async for p in store.read_ranges("k7", ranges, ahead_bytes=300_000)]
        assert b"".join(parts) == large[:1_000_000]

    redis_cluster.begin_move(slot, target)
    await all_is_there()
    assert await store.set_if_absent("k7", b"rival", ttl_s=60) == large
    redis_cluster.end_move(slot, target)
    await all_is_there()
    await all_is_there()  # and now it is known where the slot is
    await store.put("k7", b"new", ttl_s=60)
    assert await store.get("k7") == b"new"


async def test_a_slot_that_moves_while_it_is_read(
    store: RangeStore, redis_cluster: RedisClusterServers
) -> None:
    large = bytes(range(256)) * 8000
    await store.put("k7", large, ttl_s=60)
    slot = slot_of("k7")
    target = next(n for n in redis_cluster.nodes if n is not redis_cluster.node_of(slot))
    ranges = [(n * 100_000, 100_000) for n in range(20)]
    got = bytearray()
    async for part in store.read_ranges("k7", ranges, ahead_bytes=0):
        got += part
        if len(got) == 500_000:
            redis_cluster.begin_move(slot, target)
        if len(got) == 1_000_000:
            redis_cluster.end_move(slot, target)
    assert got == large[:2_000_000]


@pytest.mark.parametrize("how", ["killed", "paused"])
async def test_a_node_that_is_gone_costs_what_it_holds(
    store: RangeStore, redis_cluster: RedisClusterServers, how: str
) -> None:
    await fill(store)
    gone = redis_cluster.nodes[2]
    lost = set(keys_by_node(redis_cluster)[gone.port])
    gone.kill() if how == "killed" else gone.pause()
    started = time.monotonic()
    found = await store.get_ranges([(name, 0, 9) for name in KEYS])
    assert time.monotonic() - started < IN_TIME_S
    for name, part in zip(KEYS, found, strict=True):
        assert isinstance(part, StoreError) if name in lost else part == name.encode(), name
    # Outcomes must not be decided anew only because a node is away: that stays an error.
    for call in (store.get_many(KEYS), store.get(min(lost)), store.ping()):
        started = time.monotonic()
        with pytest.raises(StoreError, match="redis\\+cluster://"):
            await call
        assert time.monotonic() - started < IN_TIME_S
    kept = min(set(KEYS) - lost)
    assert await store.get(kept) == kept.encode()


async def test_chunks_of_a_node_that_dies_are_misses(
    store: RangeStore, redis_cluster: RedisClusterServers
) -> None:
    kv = KVStore(store, ACME)
    keys = [key(number) for number in range(20)]
    for each in keys:
        await kv.put(each, RAW, container(each, section_bytes=(200_000, 200_000)), ttl_s=60)
    before = await kv.find(keys, [RAW])
    assert all(RAW in found for found in before)
    gone = redis_cluster.nodes[1]
    lost = [redis_cluster.node_of(slot_of(f[RAW].store_key)) is gone for f in before]
    assert 0 < sum(lost) < len(keys)
    gone.kill()
    after = await kv.find(keys, [RAW])
    assert [not found for found in after] == lost
    assert kv.report.misses == {KVMiss.UNREACHABLE: sum(lost)}
    reasons: Counter[str] = Counter()
    for found in before:
        try:
            assert [len(part) async for _, part in kv.fetch(found[RAW])] == [200_000] * 2
        except KVMissError as error:
            reasons[error.reason] += 1
    assert reasons == {KVMiss.UNREACHABLE: sum(lost)}


async def test_a_cluster_that_is_gone(redis_cluster: RedisClusterServers) -> None:
    store = create_store(redis_cluster.url, timeout_ms=TIMEOUT_MS)
    await store.put("k", b"1", ttl_s=60)
    for node in redis_cluster.nodes:
        node.kill()
    for _ in range(3):
        started = time.monotonic()
        with pytest.raises(StoreError, match="cannot be reached"):
            await store.get("k")
        assert time.monotonic() - started < IN_TIME_S
    await store.aclose()
    fresh = create_store(redis_cluster.url, timeout_ms=TIMEOUT_MS)
    with pytest.raises(StoreError, match="cannot be reached"):
        await fresh.get_ranges([("k", 0, 1)])
    await fresh.aclose()


async def test_a_server_that_is_no_cluster(redis_server) -> None:  # type: ignore[no-untyped-def]
    store = create_store(f"redis+cluster://127.0.0.1:{redis_server.port}", timeout_ms=TIMEOUT_MS)
    with pytest.raises(StoreError, match="no cluster"):
        await store.get("k")
    await store.aclose()


async def test_a_cluster_given_as_one_server(redis_cluster: RedisClusterServers) -> None:
    store = create_store(f"redis://127.0.0.1:{redis_cluster.nodes[0].port}", timeout_ms=TIMEOUT_MS)
    with pytest.raises(StoreError, match="redis\\+cluster://"):
        await store.get_many(KEYS)
    await store.aclose()


async def test_many_tasks_and_cancelled_ones(redis_cluster: RedisClusterServers) -> None:
    store = create_store(redis_cluster.url, timeout_ms=10_000)
    await fill(store)

    async def read(name: str) -> None:
        assert await store.get_many([name, KEYS[0]]) == [name.encode(), KEYS[0].encode()]

    for round_ in range(5):
        tasks = [asyncio.create_task(read(name)) for name in KEYS]
        await asyncio.sleep(0.001 * round_)
        for task in tasks[::2]:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert results[1::2] == [None] * (len(KEYS) // 2)
    await store.aclose()
