"""What the store has, asked in the background: many requests in one round trip."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace

from ctxpress.cache.chunk_key import CacheKey, KVLevel
from ctxpress.cache.chunks import KVStore
from ctxpress.integrations.vllm.background import Background

__all__ = ["Lookups"]

Sizes = list[int | None]


class Lookups:
    """Look-ups of the scheduler's half, which never waits for one.

    ``shards``: of all tensor-parallel ranks; a chunk is there when all of them stored theirs.
    """

    def __init__(
        self,
        background: Background,
        store: KVStore,
        level: KVLevel,
        shards: Sequence[str],
        *,
        ttl_s: float,
    ) -> None:
        self._background = background
        self._store = store
        self._level = level
        self._shards = list(shards)
        self._ttl_s = ttl_s
        self._changed = threading.Condition()
        self._waiting: dict[str, list[CacheKey]] = {}
        self._answers: dict[str, Sizes] = {}
        self._wanted: set[str] = set()
        self._running = False

    def begin(self, request_id: str, keys: Sequence[CacheKey]) -> None:
        """Ask for ``keys``; those that wait for the store at the same time are asked together."""
        with self._changed:
            self._wanted.add(request_id)
            self._waiting[request_id] = list(keys)
            if self._running:
                return
            self._running = True
        self._background.submit(self._drain())

    def answer(self, request_id: str) -> Sizes | None:
        """The bytes of every chunk over all shards, None for one that is not there.

        None instead of a list while the store has not answered.
        """
        with self._changed:
            return self._answers.get(request_id)

    def drop(self, request_id: str) -> None:
        """The answer is not wanted any more."""
        with self._changed:
            self._wanted.discard(request_id)
            self._waiting.pop(request_id, None)
            self._answers.pop(request_id, None)

    def wait(self, timeout_s: float) -> None:
        """Give the store that long where it owes an answer; for when there is nothing else to do.

        Otherwise vLLM's loop asks as fast as it can, and takes the time of the core that answers.
        """
        with self._changed:
            if self._running:
                self._changed.wait(timeout_s)

    async def _drain(self) -> None:
        while True:
            with self._changed:
                batch, self._waiting = self._waiting, {}
                if not batch:
                    self._running = False
                    self._changed.notify_all()
                    return
            try:
                found = await self._find([key for keys in batch.values() for key in keys])
            except BaseException:
                with self._changed:
                    self._running = False
                raise
            with self._changed:
                for request_id, keys in batch.items():
                    sizes, found = found[: len(keys)], found[len(keys) :]
                    if request_id in self._wanted:
                        self._answers[request_id] = sizes
                self._changed.notify_all()

    async def _find(self, keys: Sequence[CacheKey]) -> Sizes:
        all_shards = [
            replace(key, identity=replace(key.identity, shard=shard))
            for key in keys
            for shard in self._shards
        ]
        here = await self._store.find(all_shards, [self._level], ttl_s=self._ttl_s)
        sizes = iter(
            None if self._level not in one else one[self._level].container_bytes for one in here
        )
        found: Sizes = []
        for _ in keys:
            of_ranks = [next(sizes) for _ in self._shards]
            whole = [size for size in of_ranks if size is not None]
            found.append(sum(whole) if len(whole) == len(of_ranks) else None)
        return found
