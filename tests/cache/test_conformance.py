"""What every store promises, run over all of them."""

from __future__ import annotations

import asyncio
import gc
import math
import threading
import time

import pytest

from ctxpress.cache.store import Store, create_store
from ctxpress.errors import StoreError
from tests.cache.stores import URLS

pytestmark = pytest.mark.parametrize("store_url", sorted(URLS), indirect=True)


async def test_values_come_back_as_they_went(store: Store) -> None:
    assert await store.get("k") is None
    for value in (b"", b"\0", b"\r\n$5\r\n", bytes(range(256)) * 500):
        await store.put("k", value, ttl_s=60)
        assert await store.get("k") == value
        assert await store.get("k", ttl_s=60) == value


async def test_many_keys_in_order(store: Store) -> None:
    await store.put("a", b"1", ttl_s=60)
    await store.put("c", b"", ttl_s=60)
    assert await store.get_many(["c", "b", "a", "a"]) == [b"", None, b"1", b"1"]
    assert await store.get_many(["c", "b", "a", "a"], ttl_s=9) == [b"", None, b"1", b"1"]
    assert await store.get_many([]) == []
    assert await store.set_many_if_absent([], ttl_s=60) == []


async def test_the_first_one_holds(store: Store) -> None:
    assert await store.set_if_absent("k", b"first", ttl_s=60) == b"first"
    assert await store.set_if_absent("k", b"second", ttl_s=60) == b"first"
    items = [("k", b"third"), ("n", b"new"), ("n", b"newer"), ("e", b"")]
    assert await store.set_many_if_absent(items, ttl_s=60) == [b"first", b"new", b"new", b""]
    assert await store.set_if_absent("e", b"full", ttl_s=60) == b""
    assert await store.get_many(["k", "n", "e"]) == [b"first", b"new", b""]


async def test_put_overrules_and_delete_forgets(store: Store) -> None:
    await store.set_if_absent("k", b"first", ttl_s=60)
    await store.put("k", b"second", ttl_s=60)
    assert await store.get("k") == b"second"
    await store.delete("k")
    await store.delete("k")
    assert await store.get("k") is None
    assert await store.set_if_absent("k", b"third", ttl_s=60) == b"third"


async def test_values_expire(store: Store) -> None:
    await store.put("a", b"1", ttl_s=0.15)
    await store.set_if_absent("b", b"2", ttl_s=0.15)
    await store.put("stays", b"3", ttl_s=60)
    await asyncio.sleep(0.2)
    assert await store.get_many(["a", "b", "stays"]) == [None, None, b"3"]
    assert await store.set_if_absent("a", b"new", ttl_s=60) == b"new"


async def test_a_read_with_a_ttl_renews(store: Store) -> None:
    for key in ("renewed", "read"):
        await store.put(key, b"1", ttl_s=0.4)
    assert await store.get("renewed", ttl_s=60) == b"1"
    assert await store.get("read") == b"1"
    await asyncio.sleep(0.5)
    assert await store.get_many(["renewed", "read"]) == [b"1", None]


@pytest.mark.parametrize("ttl_s", [0, -1, math.nan])
async def test_a_ttl_is_above_zero(store: Store, ttl_s: float) -> None:
    with pytest.raises(ValueError, match="ttl_s"):
        await store.put("k", b"1", ttl_s=ttl_s)
    with pytest.raises(ValueError, match="ttl_s"):
        await store.get("k", ttl_s=ttl_s)


async def test_a_ttl_may_be_huge(store: Store) -> None:
    await store.put("k", b"1", ttl_s=math.inf)
    assert await store.get("k", ttl_s=1e300) == b"1"


async def test_large_values_are_refused_before_they_are_sent(store_url: str) -> None:
    store = create_store(store_url, max_value_bytes=1000)
    await store.put("k", b"x" * 1000, ttl_s=60)
    with pytest.raises(StoreError, match="1001 bytes"):
        await store.put("k", b"y" * 1001, ttl_s=60)
    with pytest.raises(StoreError, match="1001 bytes"):
        await store.set_many_if_absent([("n", b"y"), ("k", b"y" * 1001)], ttl_s=60)
    assert await store.get_many(["k", "n"]) == [b"x" * 1000, None]
    await store.aclose()


async def test_a_closed_store_says_so(store_url: str) -> None:
    store = create_store(store_url)
    await store.ping()
    await store.aclose()
    await store.aclose()
    for call in (store.get("k"), store.put("k", b"1", ttl_s=1), store.ping(), store.delete("k")):
        with pytest.raises(StoreError, match="closed"):
            await call


async def test_many_tasks_agree(store: Store) -> None:
    held = await asyncio.gather(
        *(store.set_if_absent("k", b"%d" % number, ttl_s=60) for number in range(50))
    )
    assert len(set(held)) == 1
    assert await store.get("k") == held[0]


async def test_cancelled_tasks_mix_nothing_up(store: Store) -> None:
    keys = [f"k{number}" for number in range(20)]
    await store.set_many_if_absent([(key, key.encode() * 50) for key in keys], ttl_s=60)

    async def read(key: str) -> None:
        assert await store.get(key) == key.encode() * 50

    for round_ in range(15):
        tasks = [asyncio.create_task(read(key)) for key in keys]
        await asyncio.sleep(0.0004 * round_)
        for number, task in enumerate(tasks):
            if number % 2 == 0:
                task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert results[1::2] == [None] * (len(keys) // 2)
        assert all(r is None or isinstance(r, asyncio.CancelledError) for r in results), results
    await asyncio.gather(*(read(key) for key in keys))


def test_event_loops_one_after_another(store_url: str) -> None:
    store = create_store(store_url)
    assert asyncio.run(store.set_if_absent("k", b"1", ttl_s=60)) == b"1"
    assert asyncio.run(store.get("k")) == b"1"
    asyncio.run(store.aclose())


def test_event_loops_side_by_side(store_url: str) -> None:
    store = create_store(store_url)
    held: list[bytes] = []

    async def work(number: int) -> None:
        for turn in range(20):
            held.append(await store.set_if_absent(f"k{turn}", b"%d" % number, ttl_s=60))
            assert await store.get(f"k{turn}") is not None

    threads = [threading.Thread(target=lambda n=n: asyncio.run(work(n))) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(held) == 80
    values = asyncio.run(store.get_many([f"k{turn}" for turn in range(20)]))
    assert all(value is not None and held.count(value) >= 4 for value in values)
    asyncio.run(store.aclose())


def test_a_forgotten_store_leaves_nothing_behind(store_url: str) -> None:
    asyncio.run(create_store(store_url).put("k", b"1", ttl_s=60))
    gc.collect()  # resource warnings are errors here
    deadline = time.monotonic() + 5
    while any(t.name.startswith("ctxpress-disk") for t in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
