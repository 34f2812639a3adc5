"""What the pipelines of one configuration share: stores, threads, remembered counts."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from ctxpress.cache.store import Store, create_store
from ctxpress.counting import CountCache

__all__ = ["Services", "create_services"]

NEAR_STORE_URL = "memory://?max_bytes=64mb"


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Closed together by :meth:`aclose`.

    ``near`` is this process's own copy of what is in ``store``; what is remembered lives
    ``ttl_s`` seconds. Stages work in ``stage_executor``, our own counting and parsing in
    ``executor``: a stage that never returns can use up its own threads, but cannot hold up a
    request beyond its deadline.
    """

    store: Store
    near: Store
    executor: ThreadPoolExecutor
    stage_executor: ThreadPoolExecutor
    ttl_s: float
    counts: CountCache = field(default_factory=CountCache)

    async def aclose(self) -> None:
        """Release the threads and the stores."""
        for executor in (self.executor, self.stage_executor):
            executor.shutdown(wait=False, cancel_futures=True)
        await self.near.aclose()
        await self.store.aclose()


def create_services(store: Store, *, ttl_s: float) -> Services:
    """Services over ``store``, with as many threads of each kind as there are cores."""
    threads = max(2, os.cpu_count() or 2)
    return Services(
        store=store,
        near=create_store(NEAR_STORE_URL),
        executor=ThreadPoolExecutor(threads, thread_name_prefix="ctxpress"),
        stage_executor=ThreadPoolExecutor(threads, thread_name_prefix="ctxpress-stage"),
        ttl_s=ttl_s,
    )
