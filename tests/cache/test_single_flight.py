"""Many callers of one missing chunk: one computes, in this process and in all others."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from ctxpress.cache.chunks import KVStore, create_kv_store
from ctxpress.cache.kv_report import KVDrop
from ctxpress.cache.store import RangeStore, create_store
from ctxpress.errors import ConfigError, IdentityMismatchError
from tests.cache.containers import ACME, OTHER, RAW, container, key
from tests.redis_server import RedisServer

DATA = container(key(), section_bytes=(300_000, 1000))


class Work:
    """A computation that counts how often it is begun."""

    def __init__(self, seconds: float = 0.05, error: Exception | None = None) -> None:
        self.begun = 0
        self.ended = 0
        self.started = asyncio.Event()
        self._seconds = seconds
        self._error = error

    async def __call__(self) -> bytes:
        self.begun += 1
        self.started.set()
        await asyncio.sleep(self._seconds)
        if self._error is not None:
            raise self._error
        self.ended += 1
        return DATA


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    return f"{redis_server.url}?timeout_ms=5000"


def kv_store(url: str, lease_s: float = 10.0) -> KVStore:
    return create_kv_store(url, namespace=ACME, lease_s=lease_s)


async def test_fifty_callers_compute_once(redis_url: str) -> None:
    kv, work = kv_store(redis_url), Work()
    calls = (kv.get_or_compute(key(), RAW, work, ttl_s=60) for _ in range(50))
    assert set(map(bytes, await asyncio.gather(*calls))) == {DATA}
    assert work.begun == 1
    assert (kv.report.computed, kv.report.waited) == (1, 49)
    assert await kv.get_or_compute(key(), RAW, work, ttl_s=60) == DATA
    await kv.aclose()
    assert work.begun == 1
    assert kv.report.writes == 1


async def test_two_stores_in_one_process_count_as_two(redis_url: str) -> None:
    work = Work(0.3)
    stores = [kv_store(redis_url), kv_store(redis_url)]
    calls = [s.get_or_compute(key(), RAW, work, ttl_s=60) for s in stores for _ in range(10)]
    assert set(map(bytes, await asyncio.gather(*calls))) == {DATA}
    assert work.begun == 1
    for store in stores:
        await store.aclose()


async def test_what_fails_fails_for_all_and_is_tried_again(redis_url: str) -> None:
    kv, work = kv_store(redis_url), Work(error=RuntimeError("no GPU"))
    calls = (kv.get_or_compute(key(), RAW, work, ttl_s=60) for _ in range(10))
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [str(result) for result in results] == ["no GPU"] * 10
    assert work.begun == 1
    started = time.monotonic()
    assert await kv.get_or_compute(key(), RAW, Work(), ttl_s=60) == DATA
    assert time.monotonic() - started < 5  # the lease was given back
    await kv.aclose()


async def test_what_is_computed_must_be_what_was_asked_for(redis_url: str) -> None:
    kv = kv_store(redis_url)
    with pytest.raises(IdentityMismatchError):
        await kv.get_or_compute(key(1), RAW, Work(), ttl_s=60)
    assert await kv.get(key(1), RAW) is None
    await kv.aclose()


async def test_a_caller_that_leaves_takes_nothing_along(redis_url: str) -> None:
    kv, work = kv_store(redis_url), Work(0.2)
    tasks = [
        asyncio.create_task(kv.get_or_compute(key(), RAW, work, ttl_s=60)) for _ in range(5)  # type: ignore[arg-type]
    ]  # fmt: skip
    await asyncio.sleep(0.1)
    for task in tasks[:4]:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(result, asyncio.CancelledError) for result in results[:4]] == [True] * 4
    assert results[4] == DATA
    assert (work.begun, work.ended) == (1, 1)
    await kv.aclose()


async def test_with_the_last_caller_the_work_ends(redis_url: str) -> None:
    kv, work = kv_store(redis_url), Work(0.5)
    tasks = [
        asyncio.create_task(kv.get_or_compute(key(), RAW, work, ttl_s=60)) for _ in range(3)  # type: ignore[arg-type]
    ]  # fmt: skip
    await work.started.wait()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    started = time.monotonic()
    assert await kv.get_or_compute(key(), RAW, Work(), ttl_s=60) == DATA
    assert time.monotonic() - started < 5  # nor did it keep its lease
    assert work.ended == 0
    await kv.aclose()


async def test_work_longer_than_its_lease_keeps_it(redis_url: str) -> None:
    first, second, work = kv_store(redis_url, 0.6), kv_store(redis_url, 0.6), Work(2.0)
    calls = [store.get_or_compute(key(), RAW, work, ttl_s=60) for store in (first, second)]
    assert await asyncio.gather(*calls) == [DATA, DATA]
    assert work.begun == 1
    await first.aclose()
    await second.aclose()


async def test_a_planted_lease_blocks_nobody(redis_url: str) -> None:
    kv, work = kv_store(redis_url), Work()
    lease = ACME.key("lease", kv._sealed.name(key(), RAW))
    plain = create_store(redis_url)
    await plain.put(lease, OTHER.seal(lease, b"mine for ever"), ttl_s=3600)
    started = time.monotonic()
    assert await kv.get_or_compute(key(), RAW, work, ttl_s=60) == DATA
    assert time.monotonic() - started < 5
    await kv.aclose()
    await plain.aclose()


@pytest.mark.parametrize("how", ["killed", "paused"])
async def test_without_a_store_the_work_is_done(redis_server: RedisServer, how: str) -> None:
    kv = create_kv_store(f"{redis_server.url}?timeout_ms=300", namespace=ACME)
    redis_server.kill() if how == "killed" else redis_server.pause()
    work = Work()
    calls = (kv.get_or_compute(key(), RAW, work, ttl_s=60) for _ in range(50))
    assert set(map(bytes, await asyncio.gather(*calls))) == {DATA}
    assert work.begun == 1
    await kv.aclose()
    assert kv.report.dropped_writes == {KVDrop.UNREACHABLE: 1}
    redis_server.resume()
    redis_server.restart()


async def test_a_memory_store_does_it_too(store_of_memory: RangeStore) -> None:
    kv, work = KVStore(store_of_memory, ACME), Work()
    calls = (kv.get_or_compute(key(), RAW, work, ttl_s=60) for _ in range(50))
    assert set(map(bytes, await asyncio.gather(*calls))) == {DATA}
    assert work.begun == 1
    await kv.aclose()


@pytest.fixture
def store_of_memory() -> RangeStore:
    return create_store("memory://")


def test_a_lease_has_a_length(store_of_memory: RangeStore) -> None:
    with pytest.raises(ConfigError, match="lease_s"):
        KVStore(store_of_memory, ACME, lease_s=0)


_PROGRAM = textwrap.dedent(
    """
    import asyncio, sys
    from ctxpress.cache.chunks import create_kv_store
    from tests.cache.containers import ACME, RAW, container, key

    async def main(url, seconds, lease_s):
        kv = create_kv_store(url, namespace=ACME, lease_s=float(lease_s))
        await kv.find([key()], [RAW])
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)

        async def compute():
            print("computing", flush=True)
            await asyncio.sleep(float(seconds))
            return container(key(), section_bytes=(300_000, 1000))

        calls = (kv.get_or_compute(key(), RAW, compute, ttl_s=60) for _ in range(25))
        lengths = {len(data) for data in await asyncio.gather(*calls)}
        await kv.aclose()
        print("done", *lengths, flush=True)

    asyncio.run(main(*sys.argv[1:]))
    """
)


def start(url: str, seconds: float, lease_s: float) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", _PROGRAM, url, str(seconds), str(lease_s)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_two_processes_of_25_callers_compute_once(redis_url: str) -> None:
    processes = [start(redis_url, 0.5, 10), start(redis_url, 0.5, 10)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.communicate(timeout=50)[0] for process in processes]
    assert sorted("computing" in text for text in said) == [False, True]
    assert all(f"done {len(DATA)}\n" in text for text in said)


def test_a_process_that_dies_costs_its_lease(redis_url: str) -> None:
    leader = start(redis_url, 60, 1.5)
    assert leader.stdin is not None
    assert leader.stdout is not None
    leader.stdin.write("go\n")
    leader.stdin.flush()
    assert leader.stdout.readline() == "computing\n"
    other = start(redis_url, 0.1, 1.5)
    leader.send_signal(signal.SIGKILL)
    leader.communicate()
    said = other.communicate("go\n", timeout=50)[0]
    assert said == f"computing\ndone {len(DATA)}\n"
