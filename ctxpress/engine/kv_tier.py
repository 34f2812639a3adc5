"""KV in this worker's memory, and behind it in a store that many workers share, compressed.

Reading waits (the engine computes for others meanwhile), or hands out blocks whose layers arrive
while those before them compute: sections come in order, of many blocks at a time, and each is
decoded and turned to its place as soon as it is there. Writing never waits: blocks are encoded
and stored in the background, and where too many wait for that already, dropped and counted. A
store that is away, slow, or holds nonsense costs a computation, never an answer.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import Counter
from collections.abc import Coroutine, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

from ctxpress.cache.chunk_key import CacheKey, KVLevel
from ctxpress.cache.chunks import KVStore
from ctxpress.cache.codec import Codec
from ctxpress.cache.kv import KVBlock
from ctxpress.cache.kv_report import KVReport
from ctxpress.engine.generation import Work
from ctxpress.engine.kv_loads import KVLoads
from ctxpress.engine.kv_memory import KVMemory
from ctxpress.engine.kv_source import Arrivals, KVStats, WantedKV
from ctxpress.engine.load_policy import LoadPolicy
from ctxpress.engine.thread_pools import single_threaded_pool
from ctxpress.errors import CodecError

__all__ = ["KVTier"]

logger = logging.getLogger("ctxpress.engine")

T = TypeVar("T")

DEFAULT_TTL_S = 86_400.0
_MOST_FETCHES = 8  # whole blocks at a time


class KVTier:
    """A ``KVSource`` over memory and a store. Close it to end its thread and flush its writes.

    ``codec`` is what blocks are stored with; lossy ones were the operator's choice.
    ``max_pending_writes``: blocks that may wait to be stored. ``policy``: weighs loading against
    computing; without one, everything that is stored is loaded. ``threads``: sections that are
    decoded at a time, and blocks that are encoded.
    """

    def __init__(
        self,
        memory: KVMemory,
        store: KVStore,
        codec: Codec,
        *,
        ttl_s: float = DEFAULT_TTL_S,
        max_pending_writes: int = 64,
        policy: LoadPolicy | None = None,
        threads: int = 1,
    ) -> None:
        self._memory = memory
        self._store = store
        self._codec = codec
        self._level = KVLevel.of(codec)
        self._ttl_s = ttl_s
        self._max_pending_writes = max_pending_writes
        self._policy = policy
        self._lock = threading.Lock()
        self._pending: set[Future[None]] = set()
        self._counts: Counter[str] = Counter()
        # Pools of their own: what waits to be written must not hold up what is waited for.
        self._decoders = single_threaded_pool(threads, "ctxpress-decode")
        self._encoders = single_threaded_pool(threads, "ctxpress-encode")
        self._loop = asyncio.new_event_loop()
        self._loads = KVLoads(
            store,
            codec,
            self._decoders,
            keep=memory.put,
            wants=memory.takes,
            count=self._count,
            ttl_s=ttl_s,
            policy=policy,
        )
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="ctxpress-kv", daemon=True
        )
        self._thread.start()

    @property
    def report(self) -> KVReport:
        """What the store did until now."""
        return self._store.report

    @property
    def counts(self) -> dict[str, int]:
        """Blocks by what became of them: ``memory``, ``store``, ``missing``, ``undecodable``,
        ``written``, ``dropped``.
        """
        with self._lock:
            return dict(self._counts)

    @property
    def stats(self) -> KVStats:
        """See ``KVSource``; blocks are those of :attr:`counts`."""
        return KVStats(
            held_bytes=self._memory.held_bytes, blocks=self.counts, store=self._store.report
        )

    def get(self, keys: Sequence[CacheKey]) -> Work[list[KVBlock | None]]:
        """See ``KVSource``: from memory, else from the store, else None."""
        found = yield from self._memory.get(keys)
        missing = [key for key, block in zip(keys, found, strict=True) if block is None]
        self._count("memory", len(keys) - len(missing))
        if not missing:
            return found
        future = self._submit(self._load(missing))
        yield future
        loaded = dict(zip(missing, future.result(), strict=True))
        for key, block in loaded.items():
            if block is not None:
                self._memory.put(key, block)
        return [
            loaded.get(key) if block is None else block
            for key, block in zip(keys, found, strict=True)
        ]

    def arriving(self, runs: Sequence[WantedKV]) -> Work[Arrivals]:
        """See ``KVSource``: what the store has is on its way when this returns.

        Whole blocks go into memory as they become so. With a policy, what is sooner computed is
        left in the store.
        """
        found = yield from self._memory.get([run.key for run in runs])
        missing = {run.key: run for run, block in zip(runs, found, strict=True) if block is None}
        self._count("memory", sum(block is not None for block in found))
        if not missing:
            return Arrivals(blocks=found)
        future = self._submit(self._loads.begin(list(missing.values())))
        yield future
        begun, report = future.result()
        blocks = [
            begun.get(run.key) if block is None else block
            for run, block in zip(runs, found, strict=True)
        ]
        return Arrivals(blocks=blocks, report=report)

    def computed(self, n_tokens: int, context_tokens: int, ms: float) -> None:
        """See ``KVSource``."""
        if self._policy is not None:
            self._policy.computed(n_tokens, context_tokens, ms)

    def put(self, key: CacheKey, block: KVBlock) -> None:
        """See ``KVSource``: into memory at once, into the store in the background."""
        self._memory.put(key, block)
        with self._lock:
            if len(self._pending) >= self._max_pending_writes:
                self._counts["dropped"] += 1
                return
            future = self._submit(self._write(key, block))
            self._pending.add(future)
        future.add_done_callback(self._written)

    def held(self) -> dict[CacheKey, KVBlock]:
        """The blocks that are in memory; a copy."""
        return dict(self._memory.items())

    def flush(self, timeout_s: float | None = None) -> None:
        """Wait for the writes that are under way."""
        with self._lock:
            pending = list(self._pending)
        for future in pending:
            future.exception(timeout_s)

    def close(self) -> None:
        """Finish the writes that are under way, end the loads, close the store, end the thread."""
        self.flush()
        self._submit(self._loads.end()).result()
        self._submit(self._store.aclose()).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._decoders.shutdown()
        self._encoders.shutdown()

    async def _load(self, keys: Sequence[CacheKey]) -> list[KVBlock | None]:
        found = await self._store.find(keys, [self._level], ttl_s=self._ttl_s)
        places = asyncio.Semaphore(_MOST_FETCHES)

        async def load(key: CacheKey, stored: Any) -> KVBlock | None:
            if stored is None:
                self._count("missing")
                return None
            async with places:
                data = await self._store.fetch_whole(stored)
            if data is None:
                self._count("missing")
                return None
            try:
                block = await self._aside(self._codec.decode, data, key)
            except CodecError as error:
                logger.warning("stored KV cannot be decoded: %s", error)
                self._count("undecodable")
                return None
            self._count("store")
            return block

        return await asyncio.gather(
            *(load(key, here.get(self._level)) for key, here in zip(keys, found, strict=True))
        )

    async def _write(self, key: CacheKey, block: KVBlock) -> None:
        data = await self._loop.run_in_executor(self._encoders, self._codec.encode, block)
        if await self._store.put(key, self._level, data, ttl_s=self._ttl_s):
            self._count("written")
        else:
            self._count("dropped")

    async def _aside(self, decode: Any, data: memoryview, key: CacheKey) -> KVBlock:
        def work() -> KVBlock:
            block: KVBlock = decode(data, expected=key.identity)
            return block

        return await self._loop.run_in_executor(self._decoders, work)

    def _written(self, future: Future[None]) -> None:
        with self._lock:
            self._pending.discard(future)
        error = None if future.cancelled() else future.exception()
        if error is not None:
            self._count("dropped")
            logger.warning("KV was not stored: %s: %s", type(error).__name__, error)

    def _submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def _count(self, name: str, n: int = 1) -> None:
        with self._lock:
            self._counts[name] += n
