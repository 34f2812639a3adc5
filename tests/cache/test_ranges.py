"""Reading values in part, writing them in parts, over every kind of store."""

from __future__ import annotations

import asyncio
import contextlib
import random

import pytest

from ctxpress.cache.store import RangeStore, create_store
from ctxpress.errors import StoreError
from tests.cache.stores import URLS

pytestmark = pytest.mark.parametrize("store_url", sorted(URLS), indirect=True)

SIZES = (0, 1, 4096, 131_071, 131_072, 3 * 2**20 + 7)


def value(size_bytes: int) -> bytes:
    return random.Random(size_bytes).randbytes(size_bytes)


@pytest.mark.parametrize("size_bytes", SIZES)
async def test_any_range_of_a_value(store: RangeStore, size_bytes: int) -> None:
    whole = value(size_bytes)
    await store.put("k", whole, ttl_s=60)
    for start in {0, 1, size_bytes // 2, max(size_bytes - 1, 0), size_bytes, size_bytes + 9}:
        for length in (1, 17, 200_000, size_bytes + 5):
            assert await store.get_range("k", start, length) == whole[start : start + length]
    assert await store.get("k", ttl_s=60) == whole


async def test_ranges_of_many_keys_in_order(store: RangeStore) -> None:
    small, large = value(1000), value(300_000)
    await store.put("small", small, ttl_s=60)
    await store.put("large", large, ttl_s=60)
    wanted = [("large", 5, 250_000), ("absent", 0, 10), ("small", 990, 100), ("large", 0, 1)]
    expected = [large[5:250_005], b"", small[990:], large[:1]]
    assert await store.get_ranges(wanted) == expected
    assert await store.get_ranges(wanted, ttl_s=60) == expected
    assert await store.get_ranges([]) == []


async def test_a_range_read_with_a_ttl_renews(store: RangeStore) -> None:
    for key in ("renewed", "read"):
        await store.put(key, value(200_000), ttl_s=0.4)
    assert await store.get_ranges([("renewed", 0, 3)], ttl_s=60) == [value(200_000)[:3]]
    assert await store.get_ranges([("read", 0, 3)]) == [value(200_000)[:3]]
    await asyncio.sleep(0.5)
    assert [len(v) for v in await store.get_ranges([("renewed", 0, 3), ("read", 0, 3)])] == [3, 0]  # type: ignore[arg-type]


async def test_parts_become_one_value(store: RangeStore) -> None:
    whole = value(2_500_000)
    parts = [whole[:10], memoryview(whole)[10:10], memoryview(whole)[10:1_500_000]]
    parts += [whole[n : n + 1000] for n in range(1_500_000, len(whole), 1000)]
    await store.put_parts("k", parts, ttl_s=60)
    assert await store.get("k") == whole
    await store.put_parts("k", [], ttl_s=60)
    assert await store.get("k") == b""


async def test_large_and_small_values_replace_each_other(store: RangeStore) -> None:
    for size_bytes in (10, 400_000, 300_000, 10):
        await store.put("k", value(size_bytes), ttl_s=60)
        assert await store.get("k") == value(size_bytes)
    assert await store.set_if_absent("l", value(400_000), ttl_s=60) == value(400_000)
    assert await store.set_if_absent("l", b"late", ttl_s=60) == value(400_000)
    await store.delete("l")
    assert await store.get_range("l", 0, 10) == b""


async def test_ranges_arrive_in_order(store: RangeStore) -> None:
    whole = value(2_000_000)
    await store.put("k", whole, ttl_s=60)
    edges = [0, 1, 1000, 400_000, 400_001, 1_900_000, 2_000_000]
    ranges = [(a, b - a) for a, b in zip(edges, edges[1:], strict=False)]
    for ahead_bytes in (0, 500_000, 10**9):
        got = [part async for part in store.read_ranges("k", ranges, ahead_bytes=ahead_bytes)]
        assert [bytes(part) for part in got] == [whole[a : a + n] for a, n in ranges]
    assert [p async for p in store.read_ranges("none", ranges, ahead_bytes=0)] == [b""] * len(
        ranges
    )
    assert [p async for p in store.read_ranges("k", [], ahead_bytes=0)] == []


async def test_a_reader_that_leaves_costs_nothing(store: RangeStore) -> None:
    await store.put("k", value(2_000_000), ttl_s=60)
    ranges = [(n * 100_000, 100_000) for n in range(20)]
    for stop in range(0, 20, 3):
        async with contextlib.aclosing(store.read_ranges("k", ranges, ahead_bytes=10**6)) as parts:
            for _ in range(stop):
                await anext(parts)
        assert await store.get_range("k", 5, 3) == value(2_000_000)[5:8]


async def test_ranges_that_are_none(store: RangeStore) -> None:
    for start, size_bytes in ((-1, 5), (0, 0), (0, -1)):
        with pytest.raises(ValueError, match="not a range"):
            await store.get_range("k", start, size_bytes)


async def test_the_cap_counts_all_parts(store_url: str) -> None:
    store = create_store(store_url, max_value_bytes=1000)
    assert store.max_value_bytes == 1000
    await store.put_parts("k", [b"x" * 500, b"y" * 500], ttl_s=60)
    with pytest.raises(StoreError, match="1001 bytes"):
        await store.put_parts("k", [b"x" * 500, b"y" * 501], ttl_s=60)
    assert await store.get_range("k", 499, 2) == b"xy"
    await store.aclose()
    for call in (store.get_range("k", 0, 1), store.put_parts("k", [b"1"], ttl_s=1)):
        with pytest.raises(StoreError, match="closed"):
            await call
    with pytest.raises(StoreError, match="closed"):
        await anext(store.read_ranges("k", [(0, 1)], ahead_bytes=0))
