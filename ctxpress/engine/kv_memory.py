"""Blocks of KV that this worker holds uncompressed: the least recently used go first."""

from __future__ import annotations

import threading
from collections import OrderedDict

from ctxpress.cache.kv import KVBlock

__all__ = ["KVMemory"]


class KVMemory:
    """KV by the digest of its tokens and of all before them, ``max_bytes`` in all.

    Safe from any thread. A block that is being used stays alive by itself, forgotten or not.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._blocks: OrderedDict[str, KVBlock] = OrderedDict()
        self._held_bytes = 0

    @property
    def held_bytes(self) -> int:
        """What the blocks take up."""
        return self._held_bytes

    def get(self, digest: str) -> KVBlock | None:
        """The block, which counts as used now."""
        with self._lock:
            block = self._blocks.get(digest)
            if block is not None:
                self._blocks.move_to_end(digest)
            return block

    def put(self, digest: str, block: KVBlock) -> None:
        """Keep a block; one that is larger than the whole memory is not kept."""
        if block.size_bytes > self._max_bytes:
            return
        with self._lock:
            self._drop(digest)
            self._blocks[digest] = block
            self._held_bytes += block.size_bytes
            while self._held_bytes > self._max_bytes:
                self._drop(next(iter(self._blocks)))

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._blocks.clear()
            self._held_bytes = 0

    def _drop(self, digest: str) -> None:
        block = self._blocks.pop(digest, None)
        if block is not None:
            self._held_bytes -= block.size_bytes
