"""A thousand requests of every kind: what they took is given back."""

from __future__ import annotations

import asyncio
import gc
import json
import random
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest

from ctxpress.engine.kv_tier import KVTier
from ctxpress.engine.parallel import Mixing
from ctxpress.engine.scheduler import SchedulerLimits
from ctxpress.engine.worker import Worker, WorkerOptions
from tests.engine.small_worker import serving
from tests.engine.test_kv_tier import tier_at
from tests.engine.test_server import ASK

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

N_REQUESTS = 1000
N_CLIENTS = 8
MEMORY_BYTES = 2**20  # small, so that it is full long before the level is taken
GROWTH_BYTES = 24 * 2**20
FACTS = [{"title": f"Fact {n}", "text": f"Number {n} is {n * n}. " * 5} for n in range(40)]


def body_of(kind: str, draw: random.Random) -> dict[str, Any]:
    body: dict[str, Any] = {"messages": ASK, "max_tokens": 4, "seed": draw.randrange(9)}
    if kind == "documents":
        body["ctxpress"] = {"documents": draw.sample(FACTS, 3)}
    elif kind == "prefix":
        text = f"{draw.randrange(4)} " + "A long story. " * 30
        body["messages"] = [{"role": "user", "content": text}]
    elif kind == "wrong":
        body |= draw.choice([{"n": 2}, {"temperature": 9}, {"model": "other"}, {"messages": []}])
    elif kind == "leaves in prefill":
        text = f"{draw.random()} " * 40
        body["messages"] = [{"role": "user", "content": text}]
    elif kind == "leaves in decode":
        body |= {"max_tokens": 400, "stream": True}
    return body


KINDS = (
    "plain", "documents", "documents", "prefix", "wrong", "leaves in prefill", "leaves in decode",
)  # fmt: skip


async def one_request(client: httpx.AsyncClient, kind: str, draw: random.Random) -> str:
    """Send a request of ``kind``; how it ended."""
    body = body_of(kind, draw)
    if kind == "leaves in prefill":
        try:
            await client.post("/v1/chat/completions", json=body, timeout=draw.uniform(0.001, 0.02))
        except httpx.TimeoutException:
            return "left"
        return "answered"
    if kind == "leaves in decode":
        async with client.stream("POST", "/v1/chat/completions", json=body) as answer:
            async for line in answer.aiter_lines():
                if line.startswith("data: {") and json.loads(line[6:])["choices"]:
                    return "left"
        return "answered"
    answer = await client.post("/v1/chat/completions", json=body)
    if kind == "wrong":
        return "refused" if answer.status_code in (400, 404) else f"{answer.status_code}"
    return "answered" if answer.status_code == 200 else f"{answer.status_code} {answer.text}"


async def requests(url: str, n: int, seed: int) -> Counter[str]:
    draw = random.Random(seed)
    ended: Counter[str] = Counter()
    todo = iter(range(n))
    async with httpx.AsyncClient(base_url=url, timeout=120) as client:

        async def serve() -> None:
            for _ in todo:
                ended[await one_request(client, draw.choice(KINDS), draw)] += 1

        await asyncio.gather(*(serve() for _ in range(N_CLIENTS)))
    return ended


async def at_rest(worker: Worker, tier: KVTier) -> None:
    """Wait until nothing runs and nothing waits to be written."""
    for _ in range(600):
        state = worker.scheduler.state
        if state.n_running == state.n_waiting == 0:
            break
        await asyncio.sleep(0.1)
    assert worker.scheduler.state.n_running == worker.scheduler.state.n_waiting == 0
    await asyncio.to_thread(tier.flush, 60)


def resident_bytes() -> int:
    gc.collect()
    fields = Path("/proc/self/statm").read_text("ascii").split()
    return int(fields[1]) * 4096


def test_memory_threads_and_kv_return_to_their_level(tmp_path: Path) -> None:
    before = {thread.name for thread in threading.enumerate()}
    tier = tier_at(f"disk://{tmp_path}", codec="int8", memory=MEMORY_BYTES)
    limits = SchedulerLimits(max_rows=4, max_waiting=64)
    options = WorkerOptions(limits=limits, mixing=Mixing(temperature=0.9))

    async def soak(url: str, worker: Worker) -> tuple[Counter[str], int, int]:
        await requests(url, N_REQUESTS // 4, 1)  # compiles, fills memory and pools
        await at_rest(worker, tier)
        level = resident_bytes()
        ended = await requests(url, N_REQUESTS, 2)
        await at_rest(worker, tier)
        return ended, level, resident_bytes()

    with serving(options, source=tier) as (url, worker):
        ended, level, after = asyncio.run(soak(url, worker))
        assert tier.stats.held_bytes <= MEMORY_BYTES
        assert worker.scheduler.state.reserved_tokens == 0
        assert "error" not in worker.scheduler.state.finished
    tier.close()
    assert set(ended) == {"answered", "left", "refused"}, ended
    assert sum(ended.values()) == N_REQUESTS
    assert min(ended.values()) > N_REQUESTS // 20
    assert after - level < GROWTH_BYTES
    until = time.monotonic() + 20  # a store's thread ends by itself, soon after it is closed
    while left := {thread.name for thread in threading.enumerate()} - before:
        assert time.monotonic() < until, left
        time.sleep(0.05)
