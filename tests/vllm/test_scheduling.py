"""The scheduler's half: what is looked up, loaded and saved; what never is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from ctxpress.cache.chunk_key import CacheKey, KVLevel
from ctxpress.cache.identity import KVIdentity
from ctxpress.engine.load_policy import LoadPolicy
from ctxpress.integrations.vllm import build_document_prompt, build_prompt
from ctxpress.integrations.vllm.background import Background
from ctxpress.integrations.vllm.lookups import Lookups
from ctxpress.integrations.vllm.plans import Planner
from ctxpress.integrations.vllm.scheduling import SchedulerSide
from ctxpress.integrations.vllm.statistics import Counts
from ctxpress.integrations.vllm.transfers import Measured

BLOCK, CHUNK = 16, 32
IDENTITY = KVIdentity(model="vllm-0.32.0/folder:1", dtype="float32")
LEVEL = KVLevel(codec="raw")


class Held:
    """A store that has what was put into it, and counts round trips."""

    def __init__(self) -> None:
        self.keys: set[CacheKey] = set()
        self.round_trips = 0
        self.slow_s = 0.0

    async def find(self, keys: Sequence[CacheKey], levels: Any, **_: Any) -> list[Any]:
        self.round_trips += 1
        await asyncio.sleep(self.slow_s)
        return [
            {LEVEL: SimpleNamespace(container_bytes=1000)} if k in self.keys else {} for k in keys
        ]


@pytest.fixture
def held() -> Held:
    return Held()


@pytest.fixture
def background() -> Iterator[Background]:
    made = Background("test")
    yield made
    made.close()


def side(
    held: Held, background: Background, *, n_ranks: int = 1, **options: Any
) -> tuple[SchedulerSide, Counts]:
    counts = Counts()
    shards = [f"{rank}/{n_ranks}" for rank in range(n_ranks)]
    lookups = Lookups(background, held, LEVEL, shards, ttl_s=60.0)  # type: ignore[arg-type]
    kinds: dict[str, Any] = {
        "chunk_tokens": CHUNK, "block_size": BLOCK, "rotated": False, "parallel_refused": "",
    }  # fmt: skip
    times: dict[str, Any] = {"policy": None, "lookup_timeout_ms": 2000.0, "document_wait_ms": 0.0}
    identity = options.pop("identity", IDENTITY)
    for name, value in options.items():
        (kinds if name in kinds else times)[name] = value
    planner = Planner(identity, counts, **kinds)
    block_size = kinds["block_size"]
    made = SchedulerSide(planner, lookups, counts, level="raw", block_size=block_size, **times)
    return made, counts


def request(ids: Sequence[int], name: str = "r", **change: Any) -> Any:
    values = {
        "request_id": name, "prompt_token_ids": list(ids), "num_tokens": len(ids),
        "kv_transfer_params": None, "prompt_embeds": None, "pooling_params": None,
        "lora_request": None, "mm_features": [], "cache_salt": None,
        "skip_reading_prefix_cache": False,
    }  # fmt: skip
    return SimpleNamespace(**{**values, **change})


def matched(one: SchedulerSide, asked: Any, n_computed: int = 0) -> int:
    until_s = time.monotonic() + 10
    while (found := one.matched(asked, n_computed)) is None:
        assert time.monotonic() < until_s
        time.sleep(0.001)
    return found


def step(one: SchedulerSide, name: str, n_computed: int, n_new: int, block_ids: list[int]) -> Any:
    new = SimpleNamespace(req_id=name, num_computed_tokens=n_computed)
    cached = SimpleNamespace(req_ids=[], num_computed_tokens=[])
    state = SimpleNamespace(get_block_ids=lambda _: (block_ids,))
    return one.step(
        SimpleNamespace(
            scheduled_new_reqs=[new],
            scheduled_cached_reqs=cached,
            num_scheduled_tokens={name: n_new},
            total_num_scheduled_tokens=n_new,
            kv_connector_block_state=state,
        )  # fmt: skip
    )


def saved_keys(held: Held, one: SchedulerSide, asked: Any, shards: Sequence[str]) -> list[Any]:
    """Run a prompt through, and put into the store what it saves."""
    from dataclasses import replace

    matched(one, asked)
    n = len(asked.prompt_token_ids)
    saves = step(one, asked.request_id, 0, n, list(range(100, 100 + n))).saves
    for save in saves:
        for shard in shards:
            held.keys.add(replace(save.key, identity=replace(save.key.identity, shard=shard)))
    one.finished(asked.request_id)
    return saves


def test_a_prompt_saves_its_full_chunks_and_the_next_one_loads_them(
    held: Held, background: Background
) -> None:
    one, _ = side(held, background)
    ids = list(range(100))
    saves = saved_keys(held, one, request(ids), ["0/1"])
    assert [(s.first, len(s.token_ids), s.block_ids) for s in saves] == [
        (0, 32, (100, 101)), (32, 32, (102, 103)), (64, 32, (104, 105)),
    ]  # fmt: skip
    again = request(ids, "again")
    assert matched(one, again) == 96
    one.allocated(again, [7, 8, 9, 10, 11, 12, 13], 96)
    transfers = step(one, "again", 96, 4, [7, 8, 9, 10, 11, 12, 13])
    (load,) = transfers.loads
    assert load.block_ids == (7, 8, 9, 10, 11, 12)
    assert [(c.first, c.skip, c.take) for c in load.chunks] == [
        (0, 0, 32),
        (32, 0, 32),
        (64, 0, 32),
    ]
    assert not transfers.saves


def test_what_vllm_has_is_not_loaded_and_half_a_chunk_is(
    held: Held, background: Background
) -> None:
    one, _ = side(held, background)
    ids = list(range(100))
    saved_keys(held, one, request(ids), ["0/1"])
    again = request(ids, "again")
    assert matched(one, again, n_computed=48) == 48
    one.allocated(again, list(range(7)), 48)
    (load,) = step(one, "again", 96, 4, list(range(7))).loads
    assert [(c.first, c.skip, c.take) for c in load.chunks] == [(32, 16, 16), (64, 0, 32)]


def test_one_token_is_always_left_to_compute(held: Held, background: Background) -> None:
    one, _ = side(held, background)
    ids = list(range(64))
    saved_keys(held, one, request(ids), ["0/1"])
    assert matched(one, request(ids, "again")) == 32


def test_a_chunk_is_there_when_all_ranks_stored_theirs(held: Held, background: Background) -> None:
    one, _ = side(held, background, n_ranks=2)
    ids = list(range(100))
    saved_keys(held, one, request(ids), ["0/2"])
    assert matched(one, request(ids, "half")) == 0
    other, _ = side(held, background, n_ranks=2)
    saved_keys(held, other, request(ids), ["0/2", "1/2"])
    assert matched(other, request(ids, "whole")) == 96


@pytest.mark.parametrize(
    "foreign",
    [
        {"identity": KVIdentity(model="vllm-0.32.0/folder:2", dtype="float32")},
        {"identity": KVIdentity(model="vllm-0.32.1/folder:1", dtype="float32")},
        {"identity": KVIdentity(model="vllm-0.32.0/folder:1", dtype="bfloat16")},
        {"n_ranks": 2},
        {"chunk_tokens": 64},
    ],
    ids=["model", "release", "dtype", "tensor parallel size", "chunk size"],
)
def test_kv_of_another_deployment_is_never_found(
    held: Held, background: Background, foreign: dict[str, Any]
) -> None:
    writer, _ = side(held, background, **foreign)
    ids = list(range(200))
    n_ranks = foreign.get("n_ranks", 1)
    saved_keys(held, writer, request(ids), [f"{r}/{n_ranks}" for r in range(n_ranks)])
    assert held.keys
    reader, _ = side(held, background)
    assert matched(reader, request(ids)) == 0


def test_another_block_size_shares_where_chunks_are_the_same(
    held: Held, background: Background
) -> None:
    writer, _ = side(held, background, block_size=8)
    ids = list(range(100))
    saved_keys(held, writer, request(ids), ["0/1"])
    reader, _ = side(held, background)
    assert matched(reader, request(ids)) == 96


@pytest.mark.parametrize(
    "change",
    [
        {"lora_request": object()},
        {"mm_features": [object()]},
        {"cache_salt": "mine"},
        {"prompt_embeds": object()},
        {"skip_reading_prefix_cache": True},
    ],
    ids=lambda change: next(iter(change)),
)
def test_kv_of_more_than_model_and_tokens_is_left_alone(
    held: Held, background: Background, change: dict[str, Any]
) -> None:
    one, _ = side(held, background)
    asked = request(list(range(100)), **change)
    assert one.matched(asked, 0) == 0
    assert not step(one, "r", 0, 100, list(range(100))).saves
    assert held.round_trips == 0


def test_requests_that_wait_at_the_same_time_share_a_round_trip(
    held: Held, background: Background
) -> None:
    held.slow_s = 0.05
    one, _ = side(held, background)
    asked = [request(list(range(n, n + 64)), f"r{n}") for n in range(20)]
    for each in asked:
        assert one.matched(each, 0) is None
    for each in asked:
        matched(one, each)
    assert held.round_trips <= 3


def test_a_store_that_does_not_answer_costs_a_moment(held: Held, background: Background) -> None:
    held.slow_s = 0.3
    one, counts = side(held, background, lookup_timeout_ms=20.0)
    assert matched(one, request(list(range(100)))) == 0
    stats = counts.take()
    assert stats is not None
    assert stats.data["lookups_failed|late"] == 1


def output(**change: Any) -> Any:
    values = {
        "invalid_block_ids": set(), "finished_recving": set(), "kv_connector_worker_meta": None,
    }  # fmt: skip
    return SimpleNamespace(**{**values, **change})


def test_a_failed_load_is_not_tried_again_and_its_chunks_are_replaced(
    held: Held, background: Background
) -> None:
    one, _ = side(held, background)
    ids = list(range(100))
    saved_keys(held, one, request(ids), ["0/1"])
    fresh, _ = side(held, background)
    again = request(ids, "again")
    assert matched(fresh, again) == 96
    fresh.allocated(again, list(range(7)), 96)
    fresh.learned(output(invalid_block_ids={2, 3, 4, 5}, finished_recving={"again"}))
    assert matched(fresh, again, n_computed=32) == 0
    assert [s.first for s in step(fresh, "again", 32, 68, list(range(7))).saves] == [0, 32, 64]


def test_a_request_that_is_gone_leaves_nothing_for_whoever_gets_its_blocks(
    held: Held, background: Background
) -> None:
    one, _ = side(held, background)
    ids = list(range(100))
    saved_keys(held, one, request(ids), ["0/1"])
    for name in ("gone", "next"):
        matched(one, request(ids, name))
        one.allocated(request(ids, name), list(range(7)), 96)
        if name == "gone":
            one.finished(name)
            one.learned(output(invalid_block_ids={2}, finished_recving={name}))
    one.learned(output(finished_recving={"next"}))
    assert matched(one, request(ids, "next")) == 96


def test_documents_that_did_not_come_fail_as_a_whole(held: Held, background: Background) -> None:
    one, _ = side(held, background)
    prompt = build_prompt([1] * 8, [[2] * 20, [3] * 20], [4], block_size=BLOCK, pad_token_id=0)
    asked = request(
        prompt.prompt_token_ids,
        kv_transfer_params=prompt.kv_transfer_params,
        cache_salt=prompt.cache_salt,
    )
    assert matched(one, asked) == 0
    plan = one._plans["r"]
    assert plan is not None
    plan.sizes = [1000] * len(plan.chunks)
    assert matched(one, asked) == 48
    one.allocated(asked, [5, 6, 7, 8], 48)
    (load,) = step(one, "r", 48, 1, [5, 6, 7, 8]).loads
    assert load.whole
    one.learned(output(invalid_block_ids={5, 6, 7}, finished_recving={"r"}))
    assert one.failed_whole(["r"]) == {5, 6, 7}
    assert matched(one, asked) == 0


def test_documents_that_are_being_stored_are_waited_for_a_moment(
    held: Held, background: Background
) -> None:
    one, counts = side(held, background, document_wait_ms=5000.0)
    encoding = build_document_prompt([1] * 8, [2] * 20, block_size=BLOCK, pad_token_id=0)
    ids, params = encoding.prompt_token_ids, encoding.kv_transfer_params
    prompt = build_prompt([1] * 8, [[2] * 20], [4], block_size=BLOCK, pad_token_id=0)
    asked = request(
        prompt.prompt_token_ids,
        "asked",
        kv_transfer_params=prompt.kv_transfer_params,
        cache_salt=prompt.cache_salt,
    )
    for _ in range(20):
        assert one.matched(asked, 0) is None
        time.sleep(0.005)
    saved_keys(held, one, request(ids, kv_transfer_params=params), ["0/1"])
    assert matched(one, asked) == 32
    assert counts.take().data.get("parallel_computed|a document is not stored") is None  # type: ignore[union-attr]


def test_loading_is_refused_where_computing_is_sooner(held: Held, background: Background) -> None:
    policy = LoadPolicy()
    one, counts = side(held, background, policy=policy)
    ids = list(range(100))
    saved_keys(held, one, request(ids), ["0/1"])
    measured = Measured(
        links=[(1000, 500.0)] * 20, decodes=[(32, 50.0)] * 20, prefills=[(96, 0, 1.0)] * 20
    )
    one.learned(output(kv_connector_worker_meta=measured))
    assert matched(one, request(ids, "again")) == 0
    stats = counts.take()
    assert stats is not None
    assert stats.data["loads_refused|prefix"] == 1
