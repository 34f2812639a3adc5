"""Blocks of KV that this worker holds uncompressed: the least recently used go first."""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Sequence

from ctxpress.cache.chunk_key import CacheKey
from ctxpress.cache.kv import KVBlock
from ctxpress.engine.generation import Work
from ctxpress.engine.kv_source import Arrivals, KVStats, WantedKV

__all__ = ["KVMemory"]


class KVMemory:
    """KV by its key, ``max_bytes`` in all.

    Safe from any thread. A block that is being used stays alive by itself, forgotten or not.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._blocks: OrderedDict[CacheKey, KVBlock] = OrderedDict()
        self._held_bytes = 0
        self._counts: Counter[str] = Counter()

    @property
    def held_bytes(self) -> int:
        """What the blocks take up."""
        return self._held_bytes

    @property
    def stats(self) -> KVStats:
        """See ``KVSource``; blocks are those in ``memory`` when asked for, and ``missing`` ones."""
        with self._lock:
            return KVStats(held_bytes=self._held_bytes, blocks=dict(self._counts))

    def get(self, keys: Sequence[CacheKey]) -> Work[list[KVBlock | None]]:
        """The blocks, which count as used now. Never waits."""
        yield from ()
        return [self._get(key) for key in keys]

    def arriving(self, runs: Sequence[WantedKV]) -> Work[Arrivals]:
        """As :meth:`get`."""
        return Arrivals(blocks=(yield from self.get([run.key for run in runs])))

    def computed(self, n_tokens: int, context_tokens: int, ms: float) -> None:
        """See ``KVSource``; nothing is far away here."""

    def _get(self, key: CacheKey) -> KVBlock | None:
        with self._lock:
            block = self._blocks.get(key)
            self._counts["missing" if block is None else "memory"] += 1
            if block is not None:
                self._blocks.move_to_end(key)
            return block

    def takes(self, size_bytes: int) -> bool:
        """Whether a block of that size would be kept."""
        return size_bytes <= self._max_bytes

    def put(self, key: CacheKey, block: KVBlock) -> None:
        """Keep a block; one that is larger than the whole memory is not kept."""
        if not self.takes(block.size_bytes):
            return
        with self._lock:
            self._drop(key)
            self._blocks[key] = block
            self._held_bytes += block.size_bytes
            while self._held_bytes > self._max_bytes:
                self._drop(next(iter(self._blocks)))

    def items(self) -> list[tuple[CacheKey, KVBlock]]:
        """All that is held, the least recently used first."""
        with self._lock:
            return list(self._blocks.items())

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._blocks.clear()
            self._held_bytes = 0

    def _drop(self, key: CacheKey) -> None:
        block = self._blocks.pop(key, None)
        if block is not None:
            self._held_bytes -= block.size_bytes
