"""Loads of a worker: what arrives is put in place, what does not is told, nothing comes late."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from ctxpress.cache.chunk_key import CacheKey, KVLevel
from ctxpress.cache.chunks import KVStore, create_kv_store
from ctxpress.cache.codec import create_codec
from ctxpress.cache.identity import KVIdentity
from ctxpress.cache.key import Namespace
from ctxpress.cache.kv import KVBlock
from ctxpress.integrations.vllm.background import Background
from ctxpress.integrations.vllm.loading import LoadedRequest, Loader
from ctxpress.integrations.vllm.statistics import Counts
from ctxpress.integrations.vllm.transfers import ChunkLoad, RequestLoad

N_LAYERS, N_HEADS, N_TOKENS, HEAD_DIM, BLOCK = 4, 2, 8, 16, 4
CODEC = create_codec("raw")


class Pages:
    """Pages of one request, one slot after the other."""

    n_layers, n_kv_heads, head_dim = N_LAYERS, N_HEADS, HEAD_DIM
    dtype, device = torch.float32, torch.device("cpu")

    def __init__(self) -> None:
        self.keys = torch.zeros(N_LAYERS, N_HEADS, 64, HEAD_DIM)
        self.slow_s = 0.0
        self.last_write_s = 0.0
        self.failing = False

    def slots(self, block_ids: Any, first: int, n_tokens: int) -> torch.Tensor:
        return torch.arange(first, first + n_tokens)

    def write(self, layer: int, keys: torch.Tensor, values: torch.Tensor, slots: Any) -> None:
        time.sleep(self.slow_s)
        if self.failing:
            raise RuntimeError("a fault of the device")
        self.keys[layer][:, slots] = keys
        self.last_write_s = time.monotonic()


class Bench:
    """A loader with a store in memory, and what it told."""

    def __init__(self, background: Background, *, timeout_ms: float = 10_000.0) -> None:
        self.background = background
        self.pages = Pages()
        self.counts = Counts()
        self.store: KVStore = create_kv_store(
            "memory://", namespace=Namespace.derive(b"sixteen bytes are", "t")
        )
        self.told = threading.Event()
        self.result: LoadedRequest | None = None
        self.told_s = 0.0
        self.loader = Loader(
            background, self.store, CODEC, self.pages, None, self.counts,  # type: ignore[arg-type]
            shard="0/1", block_size=BLOCK, threads=2, timeout_ms=timeout_ms, done=self._done,
        )  # fmt: skip

    def _done(self, result: LoadedRequest) -> None:
        self.result, self.told_s = result, time.monotonic()
        self.told.set()

    def stored(self, number: int) -> tuple[ChunkLoad, torch.Tensor]:
        """A chunk in the store, the ``number``-th of a prompt."""
        identity = KVIdentity(model="m", tokens=f"{number}", shard="0/1")
        key = CacheKey(identity=identity, rotated_from=number * N_TOKENS)
        keys = torch.randn(N_LAYERS, N_HEADS, N_TOKENS, HEAD_DIM)
        block = KVBlock(
            keys=keys,
            values=keys,
            position_start=number * N_TOKENS,
            keys_rotated=True,
            identity=identity,
        )
        put = self.store.put(key, KVLevel.of(CODEC), CODEC.encode(block), ttl_s=60.0)
        assert self.background.submit(put).result(10)
        return wanted(key, number), keys

    def load(self, *chunks: ChunkLoad, whole: bool = False) -> LoadedRequest:
        blocks = tuple(range(100, 100 + len(chunks) * N_TOKENS // BLOCK))
        self.loader.begin(RequestLoad(request_id="r", block_ids=blocks, chunks=chunks, whole=whole))
        assert self.told.wait(20)
        assert self.result is not None
        return self.result

    def counted(self) -> dict[str, float]:
        stats = self.counts.take()
        return {} if stats is None else stats.data


def wanted(key: CacheKey, number: int) -> ChunkLoad:
    first = number * N_TOKENS
    return ChunkLoad(key=key, n_tokens=N_TOKENS, first=first, position=first, skip=0, take=N_TOKENS)


def missing(number: int) -> ChunkLoad:
    identity = KVIdentity(model="m", tokens="nowhere", shard="0/1")
    return wanted(CacheKey(identity=identity, rotated_from=number * N_TOKENS), number)


@pytest.fixture
def background() -> Iterator[Background]:
    made = Background("test")
    yield made
    made.close()


def test_what_is_stored_comes_into_its_place(background: Background) -> None:
    bench = Bench(background)
    (first, one), (second, two) = bench.stored(0), bench.stored(1)
    assert not bench.load(first, second).failed_blocks
    assert torch.equal(bench.pages.keys[:, :, :16], torch.cat([one, two], dim=2))
    assert bench.counted()["loaded_tokens|"] == 16


def test_blocks_from_the_first_missing_chunk_on_are_told(background: Background) -> None:
    bench = Bench(background)
    (first, _), (third, _) = bench.stored(0), bench.stored(2)
    result = bench.load(first, missing(1), third)
    assert result.failed_blocks == {102, 103, 104, 105}
    assert bench.counted()["loads_failed|gone"] == 1


def test_where_parts_are_worth_nothing_all_blocks_are_told(background: Background) -> None:
    bench = Bench(background)
    first, _ = bench.stored(0)
    assert bench.load(first, missing(1), whole=True).failed_blocks == {100, 101, 102, 103}


def test_a_load_that_takes_too_long_writes_nothing_once_it_was_told(
    background: Background,
) -> None:
    bench = Bench(background, timeout_ms=100.0)
    first, _ = bench.stored(0)
    bench.pages.slow_s = 0.3
    assert bench.load(first).failed_blocks == {100, 101}
    time.sleep(1.0)
    assert bench.pages.last_write_s <= bench.told_s
    assert bench.counted()["loads_failed|late"] == 1


def test_a_fault_gives_the_blocks_back(
    background: Background, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench(background)
    first, _ = bench.stored(0)
    bench.pages.failing = True
    assert bench.load(first).failed_blocks == {100, 101}
    assert bench.counted()["loads_failed|fault"] == 1
    assert "a fault of the device" in caplog.text
