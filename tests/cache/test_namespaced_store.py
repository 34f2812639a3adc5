"""Stores of tenants over one store: nobody reads, forges or guesses what is another's."""

from __future__ import annotations

import pytest

from ctxpress.cache.key import Namespace
from ctxpress.cache.store import Store, create_store
from ctxpress.errors import ConfigError, StoreError
from tests.cache.containers import ACME, OTHER
from tests.cache.stores import SHARED, URLS

LARGE = bytes(range(256)) * 2000


@pytest.mark.parametrize("store_url", sorted(URLS), indirect=True)
async def test_a_store_as_any_other(store_url: str) -> None:
    store = create_store(store_url, namespace=ACME)
    await store.ping()
    for key in ("", "a b:c", "\udcff", "k" * 10_000):
        await store.put(key, b"", ttl_s=60)
        assert await store.get(key, ttl_s=60) == b""
        await store.put(key, LARGE, ttl_s=60)
        assert await store.get_many([key, key + "x"]) == [LARGE, None]
        await store.delete(key)
        assert await store.get(key) is None
    assert await store.set_if_absent("k", b"first", ttl_s=60) == b"first"
    assert await store.set_many_if_absent([("k", b"late"), ("l", b"new")], ttl_s=60) == [
        b"first",
        b"new",
    ]
    await store.aclose()
    with pytest.raises(StoreError, match="closed"):
        await store.get("k")


async def pair(url: str) -> tuple[Store, Store]:
    return create_store(url, namespace=ACME), create_store(url, namespace=OTHER)


@pytest.mark.parametrize("store_url", SHARED, indirect=True)
async def test_tenants_do_not_meet(store_url: str) -> None:
    acme, other = await pair(store_url)
    assert await acme.set_if_absent("k", b"acme's", ttl_s=60) == b"acme's"
    assert await other.get("k") is None
    assert await other.set_if_absent("k", b"other's", ttl_s=60) == b"other's"
    assert await acme.get("k") == b"acme's"
    await other.delete("k")
    assert await acme.get("k") == b"acme's"
    for store in (acme, other):
        await store.aclose()


@pytest.mark.parametrize("store_url", SHARED, indirect=True)
async def test_what_is_planted_or_changed_is_a_miss(store_url: str) -> None:
    acme, other = await pair(store_url)
    plain = create_store(store_url)
    await acme.put("k", b"acme's", ttl_s=60)
    await acme.put("l", b"another", ttl_s=60)
    await other.put("k", b"other's", ttl_s=60)
    place, elsewhere = ACME.key("value", "k"), ACME.key("value", "l")
    mine, foreign = await plain.get(place), await plain.get(OTHER.key("value", "k"))
    moved = await plain.get(elsewhere)
    assert mine is not None
    for planted in (foreign, moved, mine[:-1], mine + b"x", b"", b"acme's", mine[16:]):
        assert planted is not None
        await plain.put(place, planted, ttl_s=60)
        assert await acme.get("k") is None
        assert await acme.set_if_absent("k", b"ours", ttl_s=60) == b""  # held, and not overruled
    await acme.put("k", b"again", ttl_s=60)
    assert await acme.get("k") == b"again"
    for store in (acme, other, plain):
        await store.aclose()


@pytest.mark.parametrize("store_url", ["redis"], indirect=True)
async def test_nothing_readable_is_in_a_key(store_url: str, redis_server) -> None:  # type: ignore[no-untyped-def]
    store = create_store(store_url, namespace=ACME)
    await store.put("patient 4711", b"v", ttl_s=60)
    keys = redis_server.command("KEYS", "*")
    assert b"4711" not in keys
    assert b"ctxpress:1:value:" in keys
    await store.aclose()


def test_a_tenants_name_is_no_namespace() -> None:
    with pytest.raises(ConfigError, match=r"Namespace\.derive"):
        create_store("memory://", namespace="acme")  # type: ignore[call-overload]


def test_keys_for_other_purposes_tell_nothing_of_each_other() -> None:
    keys = {ACME.derive_key("kv-section"), ACME.derive_key("lease"), OTHER.derive_key("lease")}
    assert len(keys) == 3
    assert all(len(key) == 32 for key in keys)
    assert ACME.derive_key("lease") == Namespace.derive(
        b"a secret of the tests", "acme"
    ).derive_key("lease")
    with pytest.raises(ValueError, match="purpose"):
        ACME.derive_key("Lease")
