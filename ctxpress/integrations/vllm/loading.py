"""Stored KV put into vLLM's pages: section by section, as it arrives, off the model's thread."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, aclosing, nullcontext
from dataclasses import replace
from typing import Any

import torch

from ctxpress.cache.chunk_key import CacheKey, KVLevel
from ctxpress.cache.chunks import KVStore
from ctxpress.cache.codec import Codec
from ctxpress.cache.container import ContainerHeader
from ctxpress.cache.kv_report import KVMiss
from ctxpress.cache.sealed_kv import StoredKV
from ctxpress.engine.rope import RotaryAngles, RotaryPositions
from ctxpress.errors import CodecError, IdentityMismatchError, KVMissError, StoreError
from ctxpress.integrations.vllm.background import Background, OnceLog
from ctxpress.integrations.vllm.pages import PagedKV
from ctxpress.integrations.vllm.statistics import Counts
from ctxpress.integrations.vllm.transfers import ChunkLoad, RequestLoad

__all__ = ["LoadedRequest", "Loader"]

logger = logging.getLogger("vllm.ctxpress")

_MOST_CHUNKS_AT_A_TIME = 16


class LoadedRequest:
    """What became of a load: ``failed_blocks`` hold nothing of use. Timings for the policy."""

    def __init__(self, load: RequestLoad) -> None:
        self.load = load
        self.failed_blocks: set[int] = set()
        self.n_bytes = 0
        self.link_ms = 0.0
        self.decodes: list[tuple[int, float]] = []


class Loader:
    """Loads of one worker, many at a time. ``done`` is told of each, in the background's thread.

    ``rope`` is None where keys are stored with their positions.
    """

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
        threads: int,
        timeout_ms: float,
        done: Callable[[LoadedRequest], None],
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
        self._timeout_s = timeout_ms / 1000
        self._done = done
        self._once = OnceLog(logger)
        self._decoders = ThreadPoolExecutor(threads, thread_name_prefix="ctxpress-decode")
        self._stream = torch.cuda.Stream(pages.device) if pages.device.type == "cuda" else None

    def begin(self, load: RequestLoad) -> None:
        """Load it in the background; ``done`` is told in any case.

        On a GPU, what the calling thread has queued until now is done before pages are written:
        it may still read what they held before.
        """
        if self._stream is not None:
            self._stream.wait_stream(torch.cuda.current_stream(self._pages.device))
        self._background.submit(self._run(load))

    def close(self) -> None:
        """End the threads; what is under way is finished first."""
        self._decoders.shutdown()

    async def _run(self, load: RequestLoad) -> None:
        begun_s = time.perf_counter()
        result = LoadedRequest(load)
        failed: list[ChunkLoad] = list(load.chunks)
        try:
            failed = await self._load(load, result)
        except Exception:  # whatever it was, vLLM must get its blocks back
            logger.exception("a load failed")
            self._counts.add("loads_failed", reason="fault")
        finally:
            if failed:
                result.failed_blocks = self._blocks_of(load, failed)
            else:
                self._count_loaded(load, (time.perf_counter() - begun_s) * 1000)
            self._counts.add("loaded_bytes", result.n_bytes)
            self._done(result)

    def _count_loaded(self, load: RequestLoad, ms: float) -> None:
        """Requests and tokens are counted by the first rank alone."""
        if self._shard.startswith("0/"):
            self._counts.add("loads", reason="parallel" if load.whole else "prefix")
            self._counts.add("loaded_tokens", sum(chunk.take for chunk in load.chunks))
            self._counts.add("load_ms", ms)

    async def _load(self, load: RequestLoad, result: LoadedRequest) -> list[ChunkLoad]:
        """The chunks that did not come."""
        keys = [self._of_shard(chunk.key) for chunk in load.chunks]
        begun_s = time.perf_counter()
        found = await self._store.find(keys, [self._level])
        places = asyncio.Semaphore(_MOST_CHUNKS_AT_A_TIME)
        job = _Job(deadline_s=time.monotonic() + self._timeout_s)

        async def one(chunk: ChunkLoad, stored: StoredKV | None) -> bool:
            async with places:
                if load.whole and job.failure:
                    return False  # the rest of it is worth nothing
                return await self._chunk(load, chunk, stored, job, result)

        # All of them end before anything is told: none may write into blocks of somebody else.
        came = await asyncio.gather(
            *(
                one(chunk, here.get(self._level))
                for chunk, here in zip(load.chunks, found, strict=True)
            ),
            return_exceptions=True,
        )
        for fault in came:
            if isinstance(fault, BaseException):
                raise fault
        if job.failure:
            self._counts.add("loads_failed", reason=job.failure)
        result.link_ms = (job.received_s - begun_s) * 1000 if job.received_s else 0.0
        return [chunk for chunk, ok in zip(load.chunks, came, strict=True) if not ok]

    async def _chunk(
        self,
        load: RequestLoad,
        chunk: ChunkLoad,
        stored: StoredKV | None,
        job: _Job,
        result: LoadedRequest,
    ) -> bool:
        try:
            if stored is None:
                raise KVMissError("it is not there any more", reason=KVMiss.GONE)
            async with asyncio.timeout(job.deadline_s - time.monotonic()):
                ms = await self._receive(load, chunk, stored, job)
        except (StoreError, CodecError, TimeoutError) as error:
            reason = _reason(error)
            job.failure = job.failure or reason
            why = str(error) or f"not here within {self._timeout_s:g} s"
            self._once.warn(reason, "stored KV cannot be used (%s): %s", reason, why)
            return False
        result.n_bytes += stored.container_bytes
        result.decodes.append((chunk.n_tokens, ms))
        return True

    async def _receive(
        self, load: RequestLoad, chunk: ChunkLoad, stored: StoredKV, job: _Job
    ) -> float:
        """Milliseconds of decoding. Nothing writes into the pages any more when this ends."""
        header = stored.header()
        self._check(header, chunk)
        with self._on_stream():
            slots = self._pages.slots(load.block_ids, chunk.first + chunk.skip, chunk.take)
        angles = self._angles(chunk)
        stopped = threading.Event()
        shared = memoryview(b"")
        loop = asyncio.get_running_loop()
        writes: list[asyncio.Future[float]] = []

        def decode(index: int, section: memoryview, shared: memoryview) -> float:
            begun_s = time.perf_counter()
            if not stopped.is_set():
                self._put(header, index, section, shared, chunk, angles, slots)
            return (time.perf_counter() - begun_s) * 1000

        try:
            async with aclosing(self._store.fetch(stored)) as sections:
                async for index, section in sections:
                    if header.sections[index].layers == (0, 0):
                        shared = section
                    else:
                        writes.append(
                            loop.run_in_executor(self._decoders, decode, index, section, shared)
                        )
            job.received_s = time.perf_counter()
            # Shielded, for a cancelled future says nothing about the thread that works on it.
            return sum(await asyncio.gather(*map(asyncio.shield, writes)))
        finally:
            # vLLM may give the blocks to others as soon as it is told of a failure.
            stopped.set()
            await asyncio.shield(asyncio.gather(*writes, return_exceptions=True))

    def _put(
        self,
        header: ContainerHeader,
        index: int,
        section: memoryview,
        shared: memoryview,
        chunk: ChunkLoad,
        angles: RotaryAngles | None,
        slots: torch.Tensor,
    ) -> None:
        part = self._codec.decode_section(header, index, section, shared)
        first_layer = header.sections[index].layers[0]
        used = slice(chunk.skip, chunk.skip + chunk.take)
        with self._on_stream():
            for offset in range(part.n_layers):
                keys = part.keys[offset, :, used].to(self._pages.device)
                if angles is not None:
                    keys = angles.rotate(keys, first_layer + offset)
                if chunk.key_scale != 1.0:
                    keys = keys * chunk.key_scale
                values = part.values[offset, :, used]
                self._pages.write(first_layer + offset, keys, values, slots)
        if self._stream is not None:
            self._stream.synchronize()

    def _on_stream(self) -> AbstractContextManager[Any]:
        """Work for a GPU goes beside the model's own."""
        return nullcontext() if self._stream is None else torch.cuda.stream(self._stream)

    def _angles(self, chunk: ChunkLoad) -> RotaryAngles | None:
        if self._rope is None or chunk.key.rotated_from is not None:
            return None
        start = chunk.position + chunk.skip
        with self._on_stream():
            places = torch.arange(start, start + chunk.take, device=self._pages.device)
            return self._rope.at(places)

    def _check(self, header: ContainerHeader, chunk: ChunkLoad) -> None:
        layout, pages = header.layout, self._pages
        found = (layout.n_layers, layout.n_kv_heads, layout.n_tokens, layout.head_dim)
        wanted = (pages.n_layers, pages.n_kv_heads, chunk.n_tokens, pages.head_dim)
        if found != wanted:
            raise IdentityMismatchError(
                f"stored KV of {found} layers, heads, tokens and dimensions; wanted {wanted}"
            )

    def _of_shard(self, key: CacheKey) -> CacheKey:
        return replace(key, identity=replace(key.identity, shard=self._shard))

    def _blocks_of(self, load: RequestLoad, failed: list[ChunkLoad]) -> set[int]:
        """The blocks of the first failed chunk and all behind it; or all there are."""
        if load.whole:
            return set(load.block_ids)
        first = min(chunk.first + chunk.skip for chunk in failed)
        return set(load.block_ids[first // self._block_size :])


class _Job:
    """The load of one request while it runs."""

    def __init__(self, *, deadline_s: float) -> None:
        self.deadline_s = deadline_s
        self.failure = ""  # why its first chunk failed
        self.received_s = 0.0


def _reason(error: Exception) -> str:
    if isinstance(error, KVMissError):
        return str(error.reason)
    if isinstance(error, TimeoutError):
        return "late"
    if isinstance(error, IdentityMismatchError):
        return "mismatch"
    return "undecodable" if isinstance(error, CodecError) else "unreachable"
