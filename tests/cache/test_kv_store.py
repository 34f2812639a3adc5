"""Chunks of KV over every kind of store: whole, section by section, and never anybody else's."""

from __future__ import annotations

import pytest

from ctxpress.cache.chunks import KVStore, create_kv_store
from ctxpress.cache.container import parse_header
from ctxpress.cache.kv_report import KVDrop, KVMiss, KVReport
from ctxpress.cache.sealed_kv import open_front
from ctxpress.cache.store import RangeStore
from ctxpress.errors import CorruptContainerError, IdentityMismatchError, KVMissError
from tests.cache.containers import ACME, OTHER, RAW, SMALL, container, key
from tests.cache.stores import URLS

pytestmark = pytest.mark.parametrize("store_url", sorted(URLS), indirect=True)

SECTIONS = (200_000, 0, 3, 150_000, 1, 1, 90_000)


@pytest.fixture
def kv(store: RangeStore) -> KVStore:
    return KVStore(store, ACME)


async def sections_of(kv: KVStore, number: int = 0, report: KVReport | None = None) -> list[bytes]:
    (found,) = await kv.find([key(number)], [RAW], report=report)
    return [bytes(part) async for _, part in kv.fetch(found[RAW], report=report)]


async def test_a_chunk_comes_back_whole_and_in_sections(kv: KVStore) -> None:
    data = container(key(), section_bytes=SECTIONS)
    assert await kv.put(key(), RAW, data, ttl_s=60)
    (found,) = await kv.find([key()], [RAW])
    stored = found[RAW]
    assert stored.container_bytes == len(data)
    assert stored.section_bytes == SECTIONS
    assert stored.header() == parse_header(data)
    assert await kv.fetch_whole(stored) == data
    assert await kv.get(key(), RAW, ttl_s=60) == data
    got = [(index, bytes(part)) async for index, part in kv.fetch(stored)]
    header = parse_header(data)
    assert got == [
        (n, data[s.offset : s.offset + s.size_bytes]) for n, s in enumerate(header.sections)
    ]


async def test_a_chunk_of_empty_sections(kv: KVStore) -> None:
    await kv.put(key(), RAW, container(key(), section_bytes=(0, 0)), ttl_s=60)
    assert await sections_of(kv) == [b"", b""]


async def test_levels_and_chunks_are_found_in_one_go(kv: KVStore) -> None:
    await kv.put(key(0), RAW, container(key(0), section_bytes=(9000,)), ttl_s=60)
    await kv.put(key(0), SMALL, container(key(0), SMALL, section_bytes=(800,)), ttl_s=60)
    await kv.put(key(2), SMALL, container(key(2), SMALL, section_bytes=(700,)), ttl_s=60)
    report = KVReport()
    found = await kv.find([key(0), key(1), key(2)], [SMALL, RAW], report=report, ttl_s=60)
    assert [set(levels) for levels in found] == [{SMALL, RAW}, set(), {SMALL}]
    assert found[0][RAW].section_bytes == (9000,)
    assert found[2][SMALL].section_bytes == (700,)
    assert (report.found, dict(report.misses)) == (2, {KVMiss.ABSENT: 1})
    assert await kv.find([], [RAW]) == []
    assert await kv.find([key(0)], []) == [{}]


async def test_many_layers_need_more_than_the_first_read(kv: KVStore) -> None:
    wide = container(key(), section_bytes=(1000,) * 500)
    await kv.put(key(), RAW, wide, ttl_s=60)
    await kv.put(key(1), RAW, container(key(1), section_bytes=(5,)), ttl_s=60)
    for _ in range(2):
        found = await kv.find([key(1), key()], [RAW])
        assert [len(levels[RAW].section_bytes) for levels in found] == [1, 500]
        assert await kv.fetch_whole(found[1][RAW]) == wide


async def test_tenants_cannot_find_or_plant_chunks(store: RangeStore, kv: KVStore) -> None:
    other = KVStore(store, OTHER)
    data = container(key(), section_bytes=SECTIONS)
    await other.put(key(), RAW, data, ttl_s=60)
    assert await kv.find([key()], [RAW]) == [{}]
    assert kv.report.misses == {KVMiss.ABSENT: 1}
    # Even where it learns our key, what it writes there does not open.
    planted = await store.get(other._sealed.name(key(), RAW))
    assert planted is not None
    await store.put(kv._sealed.name(key(), RAW), planted, ttl_s=60)
    assert await kv.find([key()], [RAW]) == [{}]
    assert kv.report.misses == {KVMiss.ABSENT: 1, KVMiss.UNSEALED: 1}


async def test_a_chunk_moved_to_another_key_does_not_open(store: RangeStore, kv: KVStore) -> None:
    await kv.put(key(0), RAW, container(key(0), section_bytes=(50,)), ttl_s=60)
    moved = await store.get(kv._sealed.name(key(0), RAW))
    assert moved is not None
    await store.put(kv._sealed.name(key(1), RAW), moved, ttl_s=60)
    assert await kv.get(key(1), RAW) is None
    assert kv.report.misses == {KVMiss.UNSEALED: 1}


async def test_only_what_the_key_says_is_stored(kv: KVStore) -> None:
    data = container(key(0), section_bytes=(50,))
    for of, level in ((key(1), RAW), (key(0, model="n"), RAW), (key(0), SMALL)):
        with pytest.raises(IdentityMismatchError):
            await kv.put(of, level, data, ttl_s=60)
    with pytest.raises(IdentityMismatchError, match="rotated from None"):
        await kv.put(key(0, rotated_from=7), RAW, data, ttl_s=60)
    for wrong in (data[:-1], data + b"x", b"", b"noise" * 20):
        with pytest.raises(CorruptContainerError):
            await kv.put(key(0), RAW, wrong, ttl_s=60)
    rotated = container(key(0, rotated_from=7), section_bytes=(50,))
    assert await kv.put(key(0, rotated_from=7), RAW, rotated, ttl_s=60)
    assert await kv.get(key(0), RAW) is None
    assert await kv.get(key(0, rotated_from=7), RAW) == rotated


async def test_values_behind_the_end_are_not_read(store: RangeStore, kv: KVStore) -> None:
    data = container(key(), section_bytes=(300,))
    await kv.put(key(), RAW, data, ttl_s=60)
    name = kv._sealed.name(key(), RAW)
    await store.put_parts(name, [await store.get(name) or b"", b"more"], ttl_s=60)
    assert await kv.get(key(), RAW) == data


async def test_what_vanishes_while_it_is_read_is_a_miss(store: RangeStore, kv: KVStore) -> None:
    await kv.put(key(), RAW, container(key(), section_bytes=(3_000_000,) * 4), ttl_s=60)
    (found,) = await kv.find([key()], [RAW])
    got = []

    async def read() -> None:
        async for index, _ in kv.fetch(found[RAW]):
            got.append(index)
            await kv.delete(key(), RAW)

    with pytest.raises(KVMissError) as caught:
        await read()
    assert caught.value.reason == KVMiss.GONE
    assert got[0] == 0
    assert len(got) < 4
    assert await kv.fetch_whole(found[RAW]) is None
    assert kv.report.misses == {KVMiss.GONE: 2}
    assert kv.report.hits == 0


async def test_a_chunk_overwritten_while_it_is_read(store: RangeStore, kv: KVStore) -> None:
    await kv.put(key(), RAW, container(key(), section_bytes=(900, 900)), ttl_s=60)
    (found,) = await kv.find([key()], [RAW])
    await store.put(kv._sealed.name(key(), RAW), b"x" * (found[RAW].front_bytes + 1800), ttl_s=60)
    assert await kv.fetch_whole(found[RAW]) is None
    with pytest.raises(KVMissError) as caught:
        _ = [part async for part in kv.fetch(found[RAW])]
    assert caught.value.reason == KVMiss.DAMAGED


async def test_a_chunk_above_the_cap_is_dropped_and_said(store_url: str) -> None:
    kv = create_kv_store(store_url, namespace=ACME, max_value_bytes=10_000)
    report = KVReport()
    data = container(key(), section_bytes=(10_000,))
    assert not await kv.put(key(), RAW, data, ttl_s=60, report=report)
    assert report.dropped_writes == {KVDrop.TOO_LARGE: 1}
    assert "max_value_bytes" in report.last_error
    assert await kv.get(key(), RAW) is None
    assert kv.report.dropped_writes == {KVDrop.TOO_LARGE: 1}
    await kv.aclose()


async def test_a_sealed_front_with_a_header_of_something_else(
    store: RangeStore, kv: KVStore
) -> None:
    # A front that this namespace sealed for another key by mistake: its header still tells.
    await kv.put(key(1), RAW, container(key(1), section_bytes=(50,)), ttl_s=60)
    name = kv._sealed.name(key(1), RAW)
    value = await store.get(name)
    assert value is not None
    stored = open_front(ACME, name, value, key=key(0), level=RAW)
    assert stored is not None
    with pytest.raises(KVMissError) as caught:
        stored.header()
    assert caught.value.reason == KVMiss.MISMATCH


async def test_the_report_counts_bytes_and_hits(kv: KVStore) -> None:
    data = container(key(), section_bytes=SECTIONS)
    mine = KVReport()
    await kv.put(key(), RAW, data, ttl_s=60, report=mine)
    await sections_of(kv, report=mine)
    await kv.get(key(), RAW)
    assert (mine.writes, mine.found, mine.hits) == (1, 1, 1)
    assert (mine.bytes_written, mine.bytes_read) == (len(data), sum(SECTIONS))
    assert mine.read_ms > 0
    assert mine.write_ms > 0
    whole = kv.report
    assert (whole.writes, whole.found, whole.hits) == (1, 2, 2)
    assert whole.bytes_read == len(data) + sum(SECTIONS)
    assert not whole.misses
