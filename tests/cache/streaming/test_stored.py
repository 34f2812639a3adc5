"""From a real store: what it holds is loaded, decoded and put in place; what it lost is text."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import torch

from ctxpress.cache import KVBlock, KVIdentity, create_codec, decode_container
from ctxpress.cache.chunk_key import CacheKey, KVLevel
from ctxpress.cache.chunks import KVStore, create_kv_store
from ctxpress.cache.key import Namespace
from ctxpress.cache.kv_report import KVReport
from ctxpress.cache.sealed_kv import StoredKV
from ctxpress.cache.streaming import (
    DecodeMeter,
    LinkMeter,
    PrefillMeter,
    PrefillModel,
    StoreSource,
    StreamingController,
    StreamingReport,
    fetch_context,
)
from tests.cache.streaming.virtual_time import clock_ms

LOSSES = {"int8": 0.0001, "int4": 0.02}
N_TOKENS = 32


def block_of(index: int) -> KVBlock:
    torch.manual_seed(index)
    shape = (4, 2, N_TOKENS, 16)
    return KVBlock(
        keys=torch.randn(shape, dtype=torch.float16),
        values=torch.randn(shape, dtype=torch.float16),
        position_start=index * N_TOKENS,
        identity=KVIdentity(model="a-model", tokens=f"{index:064x}"),
    )


@asynccontextmanager
async def stored(n_chunks: int) -> AsyncIterator[tuple[KVStore, list[dict[KVLevel, StoredKV]]]]:
    """A store in memory with every chunk at two levels, and what it finds of them."""
    store = create_kv_store("memory://", namespace=Namespace.derive(b"s" * 32, "acme"))
    levels = [KVLevel(codec=name) for name in LOSSES]
    keys = []
    for index in range(n_chunks):
        block = block_of(index)
        keys.append(CacheKey(identity=block.identity))
        for level in levels:
            await store.put(keys[-1], level, create_codec(level.codec).encode(block), ttl_s=60)
    try:
        yield store, await store.find(keys, levels)
    finally:
        await store.aclose()


async def load(source: StoreSource, slo_ms: float) -> tuple[StreamingReport, list[object]]:
    in_place: list[object] = [None] * 6

    async def decode(chunk: int, level: str, data: bytes) -> None:
        in_place[chunk] = decode_container(data, expected=block_of(chunk).identity)

    async def prefill(chunk: int) -> None:
        await asyncio.sleep(0.005)
        in_place[chunk] = "text"

    control = StreamingController(
        source.options([N_TOKENS] * 6, LOSSES),
        slo_ms=slo_ms,
        now_ms=clock_ms(),
        link=LinkMeter(prior_bytes_per_ms=1e6),
        decode=DecodeMeter(default_ms_per_token=0.001),
        prefill=PrefillMeter(PrefillModel(fixed_ms=0, ms_per_token=1e4, ms_per_token_pair=0)),
    )
    report = await fetch_context(control, source, decode=decode, prefill=prefill, clock=clock_ms)
    return report, in_place


async def test_a_context_comes_from_the_store() -> None:
    async with stored(6) as (store, found):
        counts = KVReport()
        report, in_place = await load(StoreSource(store, found, report=counts), slo_ms=5000)
    assert {one.done for one in report.chunks} <= set(LOSSES)
    assert all(isinstance(one, KVBlock) for one in in_place)
    assert counts.hits >= 6
    assert report.met


async def test_a_chunk_that_vanished_is_recomputed() -> None:
    async with stored(6) as (store, found):
        for level, one in found[2].items():
            await store.delete(one.key, level)
        counts = KVReport()
        report, in_place = await load(StoreSource(store, found, report=counts), slo_ms=5000)
    assert in_place[2] == "text"
    assert len(report.chunks[2].failed) == 1
    assert [one for one in in_place if one == "text"] == ["text"]


async def test_only_levels_whose_loss_was_measured_are_offered() -> None:
    async with stored(6) as (store, found):
        source = StoreSource(store, found)
        options = source.options([N_TOKENS] * 6, {"int4": 0.02})
        assert [[one.level for one in chunk.levels] for chunk in options] == [["int4"]] * 6
        with pytest.raises(ValueError, match="shorter|longer"):
            source.options([N_TOKENS], LOSSES)
