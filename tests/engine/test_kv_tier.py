"""KV behind a store: shared by workers, never in the way of an answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import torch

from ctxpress.cache.chunk_key import CacheKey, chunk_keys
from ctxpress.cache.chunks import create_kv_store
from ctxpress.cache.codec import create_codec
from ctxpress.cache.key import Namespace
from ctxpress.cache.kv import KVBlock
from ctxpress.engine.generation import Work
from ctxpress.engine.kv_memory import KVMemory
from ctxpress.engine.kv_tier import KVTier
from ctxpress.engine.parallel import Mixing, encode_behind
from ctxpress.engine.worker import WorkerOptions
from tests.engine.small_worker import byte_model, serving
from tests.engine.test_server import ASK, DOCUMENTS
from tests.redis_server import RedisServer

MODEL = byte_model()
SECRET = b"0123456789abcdef"


def tier_at(url: str, *, tenant: str = "a", codec: str = "raw", memory: int = 2**24) -> KVTier:
    store = create_kv_store(url, namespace=Namespace.derive(SECRET, tenant), timeout_ms=500)
    return KVTier(KVMemory(memory), store, create_codec(codec))


def got(work: Work[list[KVBlock | None]]) -> list[KVBlock | None]:
    try:
        while True:
            future = next(work)
            if future is not None:
                future.exception(30)
    except StopIteration as done:
        found: list[KVBlock | None] = done.value
        return found


def chunk(seed: int) -> tuple[CacheKey, KVBlock]:
    draw = torch.Generator().manual_seed(seed)
    tokens = torch.randint(3, 200, (20,), generator=draw).tolist()
    (key,) = chunk_keys(MODEL.identity, tokens, chunk_tokens=20)
    block = encode_behind(MODEL, None, (), tokens)
    return key, KVBlock(keys=block.keys, values=block.values, identity=key.identity)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"disk://{tmp_path}"


@pytest.fixture
def tiers(url: str) -> Iterator[tuple[KVTier, KVTier]]:
    pair = tier_at(url), tier_at(url)
    yield pair
    for tier in pair:
        tier.close()


def test_what_one_worker_computed_another_one_loads(tiers: tuple[KVTier, KVTier]) -> None:
    first, second = tiers
    key, block = chunk(0)
    absent, _ = chunk(1)
    first.put(key, block)
    first.flush(30)
    found = got(second.get([absent, key]))
    assert found[0] is None
    assert found[1] is not None
    assert torch.equal(found[1].keys, block.keys)
    assert second.counts == {"memory": 0, "missing": 1, "store": 1}
    assert got(second.get([key]))[0] is not None
    assert second.counts["memory"] == 1


def test_tenants_do_not_see_each_other(url: str) -> None:
    mine, other = tier_at(url), tier_at(url, tenant="b")
    key, block = chunk(0)
    mine.put(key, block)
    mine.flush(30)
    assert got(other.get([key])) == [None]
    mine.close()
    other.close()


def test_workers_of_different_models_share_a_store_and_no_kv(url: str) -> None:
    body = {
        "messages": ASK, "max_tokens": 6, "temperature": 0, "ctxpress": {"documents": DOCUMENTS},
    }  # fmt: skip
    options = WorkerOptions(mixing=Mixing())
    other = byte_model(num_hidden_layers=2)
    with serving(options, model=other) as (alone, _):
        expected = httpx.post(f"{alone}/v1/chat/completions", json=body).json()
    for model in (MODEL, other):
        tier = tier_at(url)
        with serving(options, model=model, source=tier) as (place, _):
            found = httpx.post(f"{place}/v1/chat/completions", json=body).json()
        tier.close()
    assert found["ctxpress"]["cached_documents"] == 0
    assert found["choices"] == expected["choices"]


def test_a_full_queue_drops_writes_and_counts_them(url: str) -> None:
    store = create_kv_store(url, namespace=Namespace.derive(SECRET, "a"))
    tier = KVTier(KVMemory(2**24), store, create_codec("raw"), max_pending_writes=0)
    key, block = chunk(0)
    tier.put(key, block)
    assert tier.counts == {"dropped": 1}
    assert got(tier.get([key]))[0] is block  # memory has it all the same
    tier.close()


@pytest.mark.parametrize("trouble", ["gone before", "gone after", "paused"])
def test_a_redis_in_trouble_costs_a_computation_and_no_answer(
    redis_server: RedisServer, trouble: str
) -> None:
    tier = tier_at(redis_server.url, memory=0)
    key, block = chunk(0)
    if trouble == "gone before":
        redis_server.kill()
    tier.put(key, block)
    tier.flush(30)
    if trouble == "gone after":
        redis_server.kill()
    elif trouble == "paused":
        redis_server.pause()
    assert got(tier.get([key])) == [None]
    assert tier.report.last_error
    redis_server.resume()
    redis_server.restart()
    tier.put(key, block)
    tier.flush(30)
    assert got(tier.get([key]))[0] is not None
    tier.close()


def test_a_second_worker_answers_from_the_kv_of_the_first(url: str) -> None:
    import httpx

    body = {
        "messages": ASK, "temperature": 0, "max_tokens": 6, "ctxpress": {"documents": DOCUMENTS},
    }  # fmt: skip
    options = WorkerOptions(mixing=Mixing(temperature=0.9, scale=0.9))
    answers = []
    for _ in range(2):
        tier = tier_at(url)
        with serving(options, source=tier) as (at, _):
            answers.append(httpx.post(f"{at}/v1/chat/completions", json=body, timeout=60).json())
        tier.close()
    cold, warm = answers
    assert warm["ctxpress"]["cached_documents"] == 3
    assert cold["ctxpress"]["cached_documents"] == 0
    assert warm["choices"] == cold["choices"]
