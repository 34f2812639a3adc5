"""Blocks of KV from a store, handed out before they are here: layer by layer, many at a time.

Of every block sections come in order, and each is decoded as soon as it is there, so the first
layers of all blocks come early and a model can begin with them. Damage found half-way fails the
rest of that block; whoever used its first layers begins anew.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from contextlib import aclosing
from typing import Any

from ctxpress.cache.chunk_key import CacheKey, KVLevel
from ctxpress.cache.chunks import KVStore
from ctxpress.cache.codec import Codec
from ctxpress.cache.kv import KVBlock
from ctxpress.cache.kv_report import KVMiss
from ctxpress.cache.sealed_kv import StoredKV
from ctxpress.engine.arriving import ArrivingKV
from ctxpress.engine.kv_source import WantedKV
from ctxpress.engine.load_policy import LoadPolicy, StoredRun
from ctxpress.errors import CodecError, KVMissError, StoreError

__all__ = ["KVLoads"]

logger = logging.getLogger("ctxpress.engine")

_MOST_AT_A_TIME = 32


class KVLoads:
    """Loads of one event loop, the only thread that calls it.

    ``keep`` gets every block that became whole, if ``wants`` says so of its bytes; they are put
    together when all that began with them is here, so that nothing waits for that. ``count``
    is told what became of each: ``store``, ``missing``, ``undecodable`` or ``computed instead``.
    """

    def __init__(
        self,
        store: KVStore,
        codec: Codec,
        decoders: Executor,
        *,
        keep: Callable[[CacheKey, KVBlock], None],
        wants: Callable[[int], bool],
        count: Callable[[str], None],
        ttl_s: float,
        policy: LoadPolicy | None = None,
    ) -> None:
        self._store = store
        self._codec = codec
        self._level = KVLevel.of(codec)
        self._decoders = decoders
        self._keep = keep
        self._wants = wants
        self._count = count
        self._ttl_s = ttl_s
        self._policy = policy
        self._places = asyncio.Semaphore(_MOST_AT_A_TIME)
        self._arriving: dict[CacheKey, ArrivingKV] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def begin(
        self, runs: Sequence[WantedKV]
    ) -> tuple[dict[CacheKey, ArrivingKV], dict[str, Any]]:
        """Look ``runs`` up in one round trip and begin to load what is there and worth it.

        What arrives, by key, and how that was decided; empty without a policy.
        """
        begun = {run.key: self._arriving[run.key] for run in runs if run.key in self._arriving}
        wanted = [run for run in runs if run.key not in begun]
        found = await self._store.find(
            [run.key for run in wanted], [self._level], ttl_s=self._ttl_s
        )
        stored = [here.get(self._level) for here in found]
        load, report = self._decided(wanted, stored)
        batch = _Batch()
        for run, one, worth in zip(wanted, stored, load, strict=True):
            arriving = None if one is None or not worth else self._announced(one)
            if one is None or arriving is None:
                self._count("missing" if one is None or worth else "computed instead")
                continue
            begun[run.key] = arriving
            if arriving.kept:  # else it is for one user only
                self._arriving[run.key] = arriving
            task = asyncio.create_task(self._receive(run, one, arriving, batch))
            batch.begin_one()
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return begun, report

    def _decided(
        self, wanted: Sequence[WantedKV], stored: Sequence[StoredKV | None]
    ) -> tuple[Sequence[bool], dict[str, Any]]:
        n_stored = sum(one is not None for one in stored)
        if self._policy is None or not n_stored:
            return [True] * len(wanted), {}
        decision = self._policy.decide(
            str(self._level),
            [
                StoredRun(
                    n_tokens=run.n_tokens,
                    context_tokens=run.context_tokens,
                    size_bytes=None if one is None else one.container_bytes,
                )
                for run, one in zip(wanted, stored, strict=True)
            ],
        )
        return decision.load, {
            "stored": n_stored,
            "loaded": sum(decision.load),
            "expected_ms": round(decision.expected_ms, 1),
            "load_ms": round(decision.load_ms, 1),
            "compute_ms": round(decision.compute_ms, 1),
        }

    async def end(self) -> None:
        """End what is under way; it fails."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _announced(self, stored: StoredKV) -> ArrivingKV | None:
        try:
            header = stored.header()
        except KVMissError as error:
            logger.warning("stored KV is of something else: %s", error)
            return None
        return ArrivingKV(header, kept=self._wants(header.layout.decoded_bytes))

    async def _receive(
        self, run: WantedKV, stored: StoredKV, arriving: ArrivingKV, batch: _Batch
    ) -> None:
        key = run.key
        error: Exception = KVMissError("the load was ended", reason=KVMiss.UNREACHABLE)
        try:
            try:
                async with self._places:
                    await self._decode(run, stored, arriving, batch)
            finally:
                batch.end_one()
            if arriving.kept:
                await batch.ended.wait()
                self._keep(key, await self._aside(arriving.whole))
            self._count("store")
        except CodecError as problem:
            error = problem
            logger.warning("stored KV cannot be decoded: %s", problem)
            self._count("undecodable")
        except StoreError as problem:
            error = problem
            self._count("missing")
        except Exception as problem:  # a fault of a codec is told to whoever waits
            error = problem
            logger.exception("a load failed")
        finally:
            arriving.fail(error)  # nothing is left to fail where all went well
            if self._arriving.get(key) is arriving:
                del self._arriving[key]

    async def _aside(self, work: Callable[[], KVBlock]) -> KVBlock:
        return await asyncio.get_running_loop().run_in_executor(self._decoders, work)

    async def _decode(
        self, run: WantedKV, stored: StoredKV, arriving: ArrivingKV, batch: _Batch
    ) -> None:
        header = arriving.header
        shared = memoryview(b"")
        decodes: list[Future[float]] = []

        def decode(index: int, section: memoryview) -> float:
            begun_s = time.perf_counter()
            part = self._codec.decode_section(header, index, section, shared)
            arriving.put(header.sections[index].layers[0], part)
            return (time.perf_counter() - begun_s) * 1000

        try:
            async with aclosing(self._store.fetch(stored)) as sections:
                async for index, section in sections:
                    if header.sections[index].layers == (0, 0):
                        shared = section
                    else:
                        decodes.append(self._decoders.submit(decode, index, section))
            batch.received(stored.container_bytes, self._policy)
        finally:
            # Most are done: each that is waited for wakes this loop, which has more to read.
            late = [asyncio.wrap_future(one) for one in decodes if not one.done()]
            await asyncio.gather(*late, return_exceptions=True)
        took_ms = sum(one.result() for one in decodes)
        if self._policy is not None:
            self._policy.decoded(str(self._level), run.n_tokens, took_ms)


class _Batch:
    """Loads that began together: only all of their bytes over all of the time measure the link."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()
        self._n_pending = 0
        self._n_coming = 0
        self._n_bytes = 0
        self._begun_s = time.perf_counter()

    def begin_one(self) -> None:
        self._n_pending += 1
        self._n_coming += 1

    def end_one(self) -> None:
        """One of them is decoded, or has failed."""
        self._n_pending -= 1
        if not self._n_pending:
            self.ended.set()

    def received(self, n_bytes: int, policy: LoadPolicy | None) -> None:
        """One of them is here. Where one fails, the batch says nothing about the link."""
        self._n_bytes += n_bytes
        self._n_coming -= 1
        if self._n_coming == 0 and policy is not None:
            policy.transferred(self._n_bytes, (time.perf_counter() - self._begun_s) * 1000)
