"""KV out of vLLM's pages into the store: copied in the step, all else in the background."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

import torch

from ctxpress.cache.chunk_key import KVLevel
from ctxpress.cache.chunks import KVStore
from ctxpress.cache.codec import Codec
from ctxpress.cache.kv import KVBlock
from ctxpress.cache.kv_report import KVReport
from ctxpress.engine.rope import RotaryPositions
from ctxpress.errors import CodecError
from ctxpress.integrations.vllm.background import Background, OnceLog
from ctxpress.integrations.vllm.pages import PagedKV
from ctxpress.integrations.vllm.statistics import Counts
from ctxpress.integrations.vllm.transfers import ChunkSave

__all__ = ["Saver"]

logger = logging.getLogger("vllm.ctxpress")

# How far the keys of one token at two places may differ once un-rotated, relative to their norm.
_TOLERANCE = 0.1
_FEWEST_APART = 8  # tokens; nearer ones hardly differ in their angles


class Saver:
    """Saves of one worker. Where ``max_pending`` wait already, more are dropped, and counted."""

    def __init__(
        self,
        background: Background,
        store: KVStore,
        codec: Codec,
        pages: PagedKV,
        rope: RotaryPositions | None,
        counts: Counts,
        *,
        shard: str,
        block_size: int,
        ttl_s: float,
        threads: int,
        max_pending: int,
    ) -> None:
        self._background = background
        self._store = store
        self._codec = codec
        self._level = KVLevel.of(codec)
        self._pages = pages
        self._rope = rope
        self._counts = counts
        self._shard = shard
        self._block_size = block_size
        self._ttl_s = ttl_s
        self._max_pending = max_pending
        self._once = OnceLog(logger)
        self._lock = threading.Lock()
        self._pending: set[Future[None]] = set()
        self._encoders = ThreadPoolExecutor(threads, thread_name_prefix="ctxpress-encode")
        self._rope_seen = False

    def begin(self, save: ChunkSave) -> None:
        """Copy a chunk out of the pages; encode and store it in the background."""
        with self._lock:
            full = len(self._pending) >= self._max_pending
        if full:
            self._dropped("queue full", f"{self._max_pending} chunks wait to be stored")
            return
        first = save.first % self._block_size
        keys, values = self._pages.read(save.block_ids, first, len(save.token_ids))
        copied = None
        if keys.is_cuda:
            copied = torch.cuda.Event()
            copied.record()
        future = self._background.submit(self._save(save, keys, values, copied))
        with self._lock:
            self._pending.add(future)
        future.add_done_callback(self._ended)

    def flush(self, timeout_s: float) -> None:
        """Wait for the saves that are under way."""
        with self._lock:
            pending = list(self._pending)
        for future in pending:
            try:
                future.exception(timeout_s)
            except TimeoutError:
                return

    def close(self) -> None:
        """End the threads."""
        self._encoders.shutdown(cancel_futures=True)

    async def _save(
        self,
        save: ChunkSave,
        keys: torch.Tensor,
        values: torch.Tensor,
        copied: torch.cuda.Event | None,
    ) -> None:
        identity = replace(save.key.identity, shard=self._shard)
        key = replace(save.key, identity=identity)

        def encode() -> bytes:
            if copied is not None:
                copied.synchronize()
            block = self._block(save, keys.cpu(), values.cpu())
            return self._codec.encode(replace(block, identity=identity))

        loop = self._background.loop
        data = await loop.run_in_executor(self._encoders, encode)
        report = KVReport()
        if await self._store.put(key, self._level, data, ttl_s=self._ttl_s, report=report):
            self._counts.add("saves")
            self._counts.add("saved_bytes", len(data))
            return
        for reason in report.dropped_writes:
            self._dropped(str(reason), report.last_error)

    def _block(self, save: ChunkSave, keys: torch.Tensor, values: torch.Tensor) -> KVBlock:
        rotated_from = save.key.rotated_from
        if rotated_from is not None or self._rope is None:
            return KVBlock(
                keys=keys, values=values, position_start=rotated_from or 0, keys_rotated=True
            )
        places = torch.arange(save.first, save.first + len(save.token_ids))
        plain = self._rope.unrotate(keys, places)
        self._require_rope(save, plain[0])
        return KVBlock(keys=plain.to(keys.dtype), values=values, position_start=save.first)

    def _require_rope(self, save: ChunkSave, keys: torch.Tensor) -> None:
        """Look whether keys really lose their positions, on what is at hand.

        Those of the first layer depend on token and position alone: of a token that stands at two
        places they are the same, once un-rotated.

        :raises CodecError: they are not.
        """
        if self._rope_seen:
            return
        places: dict[int, int] = {}
        for place, token in enumerate(save.token_ids):
            first = places.setdefault(token, place)
            if place - first >= _FEWEST_APART:
                one, other = keys[:, first].float(), keys[:, place].float()
                if (one - other).norm() > _TOLERANCE * one.norm():
                    raise CodecError(
                        "keys of one token at two places differ once their positions are taken "
                        "off; the model does not rotate as its configuration says"
                    )
                self._rope_seen = True
                return

    def _dropped(self, reason: str, why: str) -> None:
        self._counts.add("saves_dropped", reason=reason)
        self._once.warn(reason, "KV is not stored (%s): %s", reason, why)

    def _ended(self, future: Future[None]) -> None:
        with self._lock:
            self._pending.discard(future)
        error = None if future.cancelled() else future.exception()
        if error is not None:
            self._dropped("not encodable", f"{type(error).__name__}: {error}")
