"""KV that arrives layer by layer: used before it is whole, never used where it is damaged."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from ctxpress.cache.chunk_key import CacheKey, KVLevel, chunk_keys
from ctxpress.cache.chunks import KVStore, create_kv_store
from ctxpress.cache.codec import create_codec
from ctxpress.cache.container import parse_header
from ctxpress.cache.key import Namespace
from ctxpress.cache.kv import KVBlock
from ctxpress.cache.kv_report import KVMiss
from ctxpress.cache.sealed_kv import StoredKV
from ctxpress.engine.arriving import ArrivingKV, KVLoadError
from ctxpress.engine.attention import Row
from ctxpress.engine.forward import run_rows
from ctxpress.engine.generation import PreparedPrompt, Work
from ctxpress.engine.kv_memory import KVMemory
from ctxpress.engine.kv_source import WantedKV
from ctxpress.engine.kv_tier import KVTier
from ctxpress.engine.parallel import Mixing, parallel_row
from ctxpress.engine.scheduler import Scheduler
from ctxpress.engine.worker import WorkerOptions
from ctxpress.errors import KVMissError
from tests.engine.small_worker import serving
from tests.engine.test_kv_tier import MODEL, SECRET, chunk, tier_at
from tests.engine.test_scheduler import Answer, request
from tests.engine.test_server import ASK, DOCUMENTS


def announced(block: KVBlock, *, kept: bool = True) -> ArrivingKV:
    return ArrivingKV(parse_header(create_codec("raw").encode(block)), kept=kept)


def layers(block: KVBlock, first: int, last: int) -> KVBlock:
    return KVBlock(keys=block.keys[first:last], values=block.values[first:last])


def logits(placed: Any) -> torch.Tensor:
    ids = torch.tensor([[7, 8, 9]])
    places = torch.arange(placed.next_position, placed.next_position + 3)[None]
    return run_rows(MODEL.model, [placed.row], ids, places)


def test_a_pass_begins_before_the_last_layers_are_there() -> None:
    blocks = [chunk(seed)[1] for seed in range(3)]
    arriving = [announced(block) for block in blocks]
    placed = parallel_row(MODEL, arriving[0], [blocks[1], arriving[2]], Mixing(temperature=0.9))
    for one, block in ((arriving[0], blocks[0]), (arriving[2], blocks[2])):
        one.put(0, layers(block, 0, 1))

    def rest() -> None:
        # A section of two layers, as some codecs have.
        for one, block in ((arriving[0], blocks[0]), (arriving[2], blocks[2])):
            one.put(1, layers(block, 1, 3))

    timer = threading.Timer(0.05, rest)
    timer.start()
    found = logits(placed)
    timer.join()
    expected = logits(parallel_row(MODEL, blocks[0], blocks[1:], Mixing(temperature=0.9)))
    assert torch.equal(found, expected)
    assert torch.equal(arriving[2].whole().keys, blocks[2].keys)


def test_answers_go_on_while_another_ones_layers_are_late() -> None:
    _, block = chunk(0)
    arriving = announced(block)
    arriving.put(0, layers(block, 0, 2))

    def late() -> Work[PreparedPrompt]:
        yield None
        placed = parallel_row(MODEL, None, [arriving], Mixing())
        return PreparedPrompt(
            row=placed.row, tokens=(7, 8), position=placed.next_position, n_prompt_tokens=22,
            late=lambda: arriving.late_layer,
        )  # fmt: skip

    scheduler = Scheduler(MODEL)
    running, waiting = Answer(), Answer()
    scheduler.submit(request([5], 400), running.tell)
    running.wait_for_a_token()
    scheduler.submit(request([5], 2, prepare=late), waiting.tell)
    assert running.end().reason == "length"  # its end does not wait for the layer
    arriving.put(2, layers(block, 2, 3))
    assert waiting.end().reason == "length"
    scheduler.close()


def test_what_does_not_come_fails_the_pass_and_says_why() -> None:
    _, block = chunk(0)
    arriving = announced(block)
    placed = parallel_row(MODEL, None, [arriving], Mixing())
    arriving.put(0, layers(block, 0, 2))
    arriving.fail(KVMissError("cut off", reason=KVMiss.GONE))
    arriving.put(2, layers(block, 2, 3))  # too late
    with pytest.raises(KVLoadError, match="cut off"):
        logits(placed)
    with pytest.raises(ValueError, match="not whole"):
        announced(block).whole()


def test_what_is_placed_and_not_kept_is_forgotten() -> None:
    _, block = chunk(0)
    arriving = announced(block, kept=False)
    arriving.put(0, layers(block, 0, 1))
    placed = parallel_row(MODEL, None, [arriving, arriving], Mixing())  # a document that is twice
    arriving.release()
    memory = block.keys[1:3].numpy().copy()
    held = weakref.ref(memory)
    arriving.put(1, KVBlock(keys=torch.from_numpy(memory), values=block.values[1:3]))
    del memory
    gc.collect()
    assert held() is None
    assert arriving.late_layer is None
    assert torch.equal(logits(placed), logits(parallel_row(MODEL, None, [block] * 2, Mixing())))
    with pytest.raises(KVLoadError, match="placed already"):
        logits(parallel_row(MODEL, None, [arriving], Mixing()))
    with pytest.raises(ValueError, match="not whole"):
        arriving.whole()


def test_a_block_goes_with_its_last_user_without_the_garbage_collector() -> None:
    _, block = chunk(0)
    arriving = announced(block)
    placed = parallel_row(MODEL, None, [arriving], Mixing())
    arriving.put(0, block)
    logits(placed)
    held = weakref.ref(arriving)
    gc.disable()
    try:
        del arriving, placed
        assert held() is None
    finally:
        gc.enable()


def test_a_load_that_two_requests_want_is_made_once(tmp_path: Path) -> None:
    key, block = chunk(0)
    writer = tier_at(f"disk://{tmp_path}")
    writer.put(key, block)
    writer.close()
    reader = tier_at(f"disk://{tmp_path}")
    both = [drained(reader.arriving([wanted(key)] * 2)).blocks for _ in range(2)]
    for found in both:
        assert all(found)
        for one in found:
            if isinstance(one, ArrivingKV):
                one.placed(MODEL.rope.at(torch.arange(20)), torch.float32, [None] * 3)[-1].result(
                    30
                )
    deadline = time.monotonic() + 30
    while "store" not in reader.counts:  # counted when it is kept, just behind the last layer
        assert time.monotonic() < deadline
        time.sleep(0.01)
    reader.close()
    assert reader.report.hits == 1
    assert reader.counts["store"] == 1


def wanted(key: CacheKey) -> WantedKV:
    return WantedKV(key=key, n_tokens=20, context_tokens=0)


def drained(work: Any) -> Any:
    try:
        while True:
            future = next(work)
            if future is not None:
                future.exception(30)
    except StopIteration as done:
        return done.value


class Damaged(KVStore):
    """A store of which some reads break off, after so many sections."""

    def __init__(self, store: KVStore, after: int) -> None:
        self._whole = store
        self.after = after
        self.broken = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._whole, name)

    async def find(self, *args: Any, **options: Any) -> Any:
        return await self._whole.find(*args, **options)

    async def put(self, *args: Any, **options: Any) -> bool:
        return await self._whole.put(*args, **options)

    async def fetch_whole(self, *args: Any, **options: Any) -> memoryview | None:
        return None  # what is damaged is damaged however it is read

    async def fetch(
        self, stored: StoredKV, **options: Any
    ) -> AsyncGenerator[tuple[int, memoryview]]:
        self.broken += 1
        async for index, section in self._whole.fetch(stored):
            if index == self.after:
                raise KVMissError("a section is not the one that was stored", reason=KVMiss.DAMAGED)
            yield index, section

    async def aclose(self) -> None:
        await self._whole.aclose()

    @property
    def report(self) -> Any:
        return self._whole.report


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"disk://{tmp_path}"


@pytest.mark.parametrize("after", [0, 1, 2])
@pytest.mark.parametrize("form", ["documents", "prefix"])
def test_damage_half_way_costs_a_computation_and_never_another_answer(
    url: str, after: int, form: str
) -> None:
    options = WorkerOptions(mixing=Mixing(temperature=0.9) if form == "documents" else None)
    documents = [{**one, "text": one["text"] * 4} for one in DOCUMENTS]
    body = {
        "messages": ASK, "temperature": 0, "max_tokens": 6, "ctxpress": {"documents": documents},
    }  # fmt: skip
    answers = []
    for damaged in (False, True):
        store = create_kv_store(url, namespace=Namespace.derive(SECRET, "a"))
        tier = KVTier(
            KVMemory(2**24), Damaged(store, after) if damaged else store, create_codec("raw")
        )
        with serving(options, source=tier) as (at, worker):
            answers.append(httpx.post(f"{at}/v1/chat/completions", json=body, timeout=60).json())
            assert worker.scheduler.state.n_running == 0
        tier.close()
    good, mended = answers
    assert mended["choices"] == good["choices"]
    assert mended["ctxpress"]["loaded_again"] is True
    assert mended["ctxpress"]["cached_tokens"] == 0


def test_a_layer_that_is_waited_for_when_the_tier_closes_fails(url: str) -> None:
    key, block = chunk(0)
    writer = tier_at(url)
    writer.put(key, block)
    writer.close()
    reader = tier_at(url)
    (found,) = drained(reader.arriving([wanted(key)])).blocks
    reader.close()
    placed = parallel_row(MODEL, None, [found], Mixing())
    assert isinstance(placed.row, Row)
    if isinstance(found, ArrivingKV) and found.first_layer.exception(30):
        with pytest.raises(KVLoadError):
            logits(placed)


@pytest.mark.parametrize("lost", [0, 1])
def test_a_chunk_that_is_missing_in_between_is_computed_and_kept(url: str, lost: int) -> None:
    body = {"prompt": "Tell me more. " * 60, "max_tokens": 6, "temperature": 0}
    found = []
    for attempt in range(3):
        tier = tier_at(url)
        if attempt == 1:  # of three chunks, one is forgotten
            key = chunk_keys(MODEL.identity, MODEL.token_ids(body["prompt"]))[lost]
            asyncio.run(forget(url, key))
        with serving(WorkerOptions(), source=tier) as (at, _):
            found.append(httpx.post(f"{at}/v1/completions", json=body, timeout=60).json())
        tier.close()
    assert [one["usage"]["prompt_tokens_details"]["cached_tokens"] for one in found] == [
        0,
        512,
        768,
    ]
    assert len({one["choices"][0]["text"] for one in found}) == 1


async def forget(url: str, key: CacheKey) -> None:
    store = create_kv_store(url, namespace=Namespace.derive(SECRET, "a"))
    await store.delete(key, KVLevel(codec="raw"))
    await store.aclose()
