"""Round-trip times of the stores: ``python -m benchmarks.stores memory:// disk:// redis://…``.

For each URL: microseconds at the median and the 99th percentile of one operation at a time on
values of 1 KiB, and operations a second of 32 tasks at once.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import statistics
import time
from collections.abc import Awaitable, Callable

from ctxpress.cache.store import Store, create_store

_VALUE_BYTES = 1024
_ROUNDS = 2000
_TASKS = 32


async def measure(name: str, operation: Callable[[int], Awaitable[object]]) -> None:
    """Print one line."""
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


async def measure_store(store: Store) -> None:
    """Print a line for every operation."""
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


async def main() -> None:
    """Measure every URL given."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("urls", nargs="+")
    for url in parser.parse_args().urls:
        store = create_store(url, timeout_ms=10_000)
        await store.ping()
        print(f"{url.partition('://')[0]:26} {'median':>8}    {'p99':>8}    {'32 tasks':>10}")
        await measure_store(store)
        await store.aclose()


if __name__ == "__main__":
    asyncio.run(main())
