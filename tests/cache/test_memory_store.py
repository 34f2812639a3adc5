"""The memory store's cap."""

from __future__ import annotations

import pytest

from ctxpress.cache.store import create_store
from ctxpress.errors import StoreError


async def test_the_least_recently_used_go_first() -> None:
    store = create_store("memory://?max_bytes=10kb")
    for number in range(9):
        await store.put(f"k{number}", b"x" * 800, ttl_s=60)
        assert await store.get("k0") is not None
    for number in range(9, 15):
        await store.set_if_absent(f"k{number}", b"x" * 800, ttl_s=60)
    values = await store.get_many([f"k{number}" for number in range(15)])
    held = [number for number, value in enumerate(values) if value is not None]
    assert held == [0, 7, 8, 9, 10, 11, 12, 13, 14]
    await store.aclose()


async def test_a_value_larger_than_the_store() -> None:
    store = create_store("memory://?max_bytes=1kb")
    with pytest.raises(StoreError, match="max_bytes"):
        await store.put("k", b"x" * 1024, ttl_s=60)
    await store.aclose()
