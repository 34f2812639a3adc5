"""The store of KV: chunks of compressed KV of one tenant over a store of bytes.

::

    namespace = Namespace.derive(load_secret(None, state_dir()), "acme")
    kv = create_kv_store("redis://127.0.0.1:6379/0", namespace=namespace)
    level = KVLevel.of(codec)
    keys = chunk_keys(identity, token_ids)
    await kv.put(keys[0], level, codec.encode(block), ttl_s=3600)
    (found,) = await kv.find(keys[:1], [level])
    if level in found:
        async for index, section in kv.fetch(found[level]):  # as they arrive, each one checked
            ...

It sees bytes, never tensors. Nothing here fails because a store does: what cannot be read is a
miss, what cannot be written is dropped, and the report says how often and why.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from itertools import accumulate
from typing import TypeVar

from ctxpress.cache.chunk_key import CacheKey, KVLevel
from ctxpress.cache.container import ContainerHeader, byte_view, parse_header
from ctxpress.cache.key import Namespace
from ctxpress.cache.kv_report import KVDrop, KVMiss, KVReport
from ctxpress.cache.sealed_kv import (
    SectionMac,
    StoredKV,
    front_bytes_of,
    open_front,
    require_key,
    seal_front,
)
from ctxpress.cache.single_flight import SingleFlight
from ctxpress.cache.store import RangeStore, create_store
from ctxpress.cache.stores.resp import Buffer
from ctxpress.errors import CorruptContainerError, KVMissError, StoreError

__all__ = ["DEFAULT_MAX_KV_BYTES", "KVStore", "create_kv_store"]

# A chunk of 256 tokens of a model of 70 billion parameters has 84 MB when nothing is compressed.
DEFAULT_MAX_KV_BYTES = 256 * 2**20
T = TypeVar("T")

_PURPOSE = "kv"
_FRONT_BYTES = 4096  # of a model with 32 layers
_READ_BYTES = 128 * 2**10  # smaller sections are read together
_AHEAD_BYTES = 4 * 2**20
_INLINE_BYTES = 2**20  # MACs over more are computed in a thread: the event loop stays free


def create_kv_store(
    url: str,
    *,
    namespace: Namespace,
    timeout_ms: float = 1000.0,
    max_value_bytes: int = DEFAULT_MAX_KV_BYTES,
    lease_s: float = 10.0,
) -> KVStore:
    """The store of KV of ``namespace`` at ``url``, with the options of ``create_store``.

    ``timeout_ms`` is for one round trip of a small value; large ones get what they need at
    ``min_bytes_per_s`` on top. ``lease_s``: see :meth:`KVStore.get_or_compute`.

    :raises ConfigError, MissingDependencyError: as ``create_store``.
    """
    store = create_store(url, timeout_ms=timeout_ms, max_value_bytes=max_value_bytes)
    return KVStore(store, namespace, lease_s=lease_s)


class KVStore:
    """Chunks of KV of one namespace. Safe to use from many tasks, threads and event loops.

    ``report`` counts what this object did; every method also adds to one of the caller's own.
    """

    def __init__(self, store: RangeStore, namespace: Namespace, *, lease_s: float = 10.0) -> None:
        """``store`` holds values as they are; they are sealed here.

        :raises MissingDependencyError: the package ``blake3`` is not installed.
        :raises ConfigError: ``lease_s`` is not above zero.
        """
        self._store = store
        self._namespace = namespace
        self._mac = SectionMac(namespace)
        self._flight = SingleFlight(store, namespace, lease_s=lease_s)
        self._front_bytes = _FRONT_BYTES
        self._report = KVReport()
        self._lock = threading.Lock()

    @property
    def report(self) -> KVReport:
        """What this object has done until now; a copy."""
        whole = KVReport()
        with self._lock:
            whole.add(self._report)
        return whole

    async def put(
        self,
        key: CacheKey,
        level: KVLevel,
        data: Buffer,
        *,
        ttl_s: float,
        report: KVReport | None = None,
    ) -> bool:
        """Store a container, which must be what ``key`` and ``level`` say; whether it was stored.

        :raises CodecError: ``data`` is no whole container, or of something else than the key.
        """
        view = byte_view(data)
        header = _header(key, level, view)
        begin = header.sections[0].offset
        parts = [view[s.offset : s.offset + s.size_bytes] for s in header.sections]
        name = self._key(key, level)
        with self._counted(report) as count:
            macs = await _aside(len(view), lambda: [self._mac.digest(part) for part in parts])
            rows = [(len(part), mac) for part, mac in zip(parts, macs, strict=True)]
            front = seal_front(self._namespace, name, view[:begin], rows)
            size_bytes = len(front) + len(view) - begin
            if size_bytes > self._store.max_value_bytes:
                count.drop(
                    KVDrop.TOO_LARGE,
                    f"{size_bytes} bytes are above max_value_bytes, {self._store.max_value_bytes}",
                )
                return False
            begun_s = time.perf_counter()
            try:
                await self._store.put_parts(name, (front, view[begin:]), ttl_s=ttl_s)
            except StoreError as error:
                count.drop(KVDrop.UNREACHABLE, str(error))
                return False
            finally:
                count.write_ms += _since_ms(begun_s)
            count.writes += 1
            count.bytes_written += len(view)
            return True

    async def find(
        self,
        keys: Sequence[CacheKey],
        levels: Sequence[KVLevel],
        *,
        ttl_s: float | None = None,
        report: KVReport | None = None,
    ) -> list[dict[KVLevel, StoredKV]]:
        """What there is of every key, by level, in one round trip; with their sizes.

        With ``ttl_s``, what is found lives that long from now. A store that fails holds nothing.
        """
        with self._counted(report) as count:
            return await self._find(keys, levels, ttl_s, count)

    async def fetch(
        self, stored: StoredKV, *, report: KVReport | None = None
    ) -> AsyncGenerator[tuple[int, memoryview]]:
        """The sections of ``stored`` with their indices, in order, as they arrive.

        Each has been checked against its MAC. Some are asked for ahead of the one that is waited
        for. Close it (``contextlib.aclosing``) where it is not read to its end.

        :raises KVMissError: the rest cannot be had; what was yielded before is good.
        """
        reads = stored.reads(at_least_bytes=_READ_BYTES)
        ranges = [(start, size_bytes) for start, size_bytes, _ in reads if size_bytes]
        parts = self._store.read_ranges(stored.store_key, ranges, ahead_bytes=_AHEAD_BYTES)
        with self._counted(report) as count:
            async with contextlib.aclosing(parts):
                for _, size_bytes, indices in reads:
                    begun_s = time.perf_counter()
                    try:
                        part = memoryview(await anext(parts) if size_bytes else b"")
                        sections = await self._checked(stored, part, indices)
                    except StoreError as error:
                        raise count.miss(error) from error
                    finally:
                        count.read_ms += _since_ms(begun_s)
                    count.bytes_read += size_bytes
                    for index, section in zip(indices, sections, strict=True):
                        yield index, section
            count.hits += 1

    async def fetch_whole(
        self, stored: StoredKV, *, report: KVReport | None = None
    ) -> memoryview | None:
        """The container of ``stored``, or ``None``; every section checked against its MAC."""
        with self._counted(report) as count:
            return await self._fetch_whole(stored, count)

    async def get(
        self,
        key: CacheKey,
        level: KVLevel,
        *,
        ttl_s: float | None = None,
        report: KVReport | None = None,
    ) -> memoryview | None:
        """The container under ``key`` at ``level``, or ``None``: find and fetch_whole in one."""
        with self._counted(report) as count:
            return await self._get(key, level, ttl_s, count)

    async def get_or_compute(
        self,
        key: CacheKey,
        level: KVLevel,
        compute: Callable[[], Awaitable[Buffer]],
        *,
        ttl_s: float,
        report: KVReport | None = None,
    ) -> Buffer:
        """The container under ``key``, computed and stored where it is missing: once.

        Of all callers at the same time, one computes, in this process and in all that share the
        store: it holds a lease there, renewed while it works, and the others wait for what it
        stores. A process that dies costs the others ``lease_s`` at most. A store that fails costs
        repeated work. What ``compute`` raises, its callers get. The result is written while they
        go on; :meth:`aclose` waits for that.

        :raises CodecError: as :meth:`put`, about what ``compute`` returned.
        """

        with self._counted(report) as count:
            looks = 0

            async def read() -> Buffer | None:
                nonlocal looks
                looks += 1
                seen = KVReport()
                data = await self._get(key, level, ttl_s, seen)
                if looks == 1 or data is not None:  # looks in between say nothing new
                    count.add(seen)
                return data

            async def make() -> Buffer:
                data = await compute()
                _header(key, level, byte_view(data))
                return data

            async def write(data: Buffer) -> None:
                await self.put(key, level, data, ttl_s=ttl_s, report=report)

            data, mine = await self._flight.run(
                self._key(key, level), read=read, compute=make, write=write
            )
            count.computed += mine
            count.waited += not mine and looks != 1
            return data

    async def delete(self, key: CacheKey, level: KVLevel) -> None:
        """Forget a chunk at one level.

        :raises StoreError: the store failed; it may still hold the chunk.
        """
        await self._store.delete(self._key(key, level))

    async def aclose(self) -> None:
        """Wait for what is being computed or written in this event loop; close the store."""
        await self._flight.settle()
        await self._store.aclose()

    async def _find(
        self,
        keys: Sequence[CacheKey],
        levels: Sequence[KVLevel],
        ttl_s: float | None,
        count: KVReport,
    ) -> list[dict[KVLevel, StoredKV]]:
        names = [self._key(key, level) for key in keys for level in levels]
        begun_s = time.perf_counter()
        fronts = iter(zip(names, await self._fronts(names, ttl_s), strict=True))
        count.read_ms += _since_ms(begun_s)
        found = []
        for key in keys:
            here: dict[KVLevel, StoredKV] = {}
            failure: StoreError | None = None
            for level in levels:
                name, front = next(fronts)
                if isinstance(front, StoreError):
                    failure = front
                elif front:
                    stored = open_front(self._namespace, name, front, key=key, level=level)
                    if stored is None:
                        failure = KVMissError("its seal does not open", reason=KVMiss.UNSEALED)
                    else:
                        here[level] = stored
            count.found += bool(here)
            if not here and levels:
                count.miss(failure or KVMissError("", reason=KVMiss.ABSENT))
            found.append(here)
        return found

    async def _fetch_whole(self, stored: StoredKV, count: KVReport) -> memoryview | None:
        header_bytes = len(stored.header_data)
        begun_s = time.perf_counter()
        try:
            data = memoryview(
                await self._store.get_range(
                    stored.store_key, stored.container_start, stored.container_bytes
                )
            )
            if len(data) >= header_bytes and data[:header_bytes] != stored.header_data:
                raise KVMissError("overwritten since it was found", reason=KVMiss.DAMAGED)
            await self._checked(stored, data[header_bytes:], range(len(stored.macs)))
        except StoreError as error:
            count.miss(error)
            return None
        finally:
            count.read_ms += _since_ms(begun_s)
        count.hits += 1
        count.bytes_read += len(data)
        return data

    async def _get(
        self, key: CacheKey, level: KVLevel, ttl_s: float | None, count: KVReport
    ) -> memoryview | None:
        (found,) = await self._find([key], [level], ttl_s, count)
        return await self._fetch_whole(found[level], count) if found else None

    async def _fronts(
        self, names: Sequence[str], ttl_s: float | None
    ) -> Sequence[Buffer | StoreError]:
        """The fronts under ``names``; errors where they cannot be had."""
        try:
            fronts = await self._store.get_ranges(
                [(name, 0, self._front_bytes) for name in names], ttl_s=ttl_s
            )
            sizes = [
                0 if isinstance(front, StoreError) else front_bytes_of(front) for front in fronts
            ]
            longer = [n for n, size in enumerate(sizes) if size > self._front_bytes]
            if longer:
                # Of this model they are all this long: from now on they are read at once.
                self._front_bytes = max(sizes)
                rest = await self._store.get_ranges([(names[n], 0, sizes[n]) for n in longer])
                for number, front in zip(longer, rest, strict=True):
                    fronts[number] = front
        except StoreError as error:
            return [error] * len(names)
        return fronts

    async def _checked(
        self, stored: StoredKV, data: memoryview, indices: Sequence[int]
    ) -> list[memoryview]:
        """The sections ``indices``, which are ``data`` one behind the other.

        :raises KVMissError: they are not whole, or not those that were stored.
        """
        sizes = [stored.section_bytes[index] for index in indices]
        if len(data) != sum(sizes):
            raise KVMissError(f"{len(data)} bytes of {sum(sizes)} are there", reason=KVMiss.GONE)
        sections = [
            data[end - size : end] for size, end in zip(sizes, accumulate(sizes), strict=True)
        ]
        macs = [stored.macs[index] for index in indices]
        if not await _aside(len(data), lambda: self._mac.check(sections, macs)):
            raise KVMissError("a section is not the one that was stored", reason=KVMiss.DAMAGED)
        return sections

    def _key(self, key: CacheKey, level: KVLevel) -> str:
        return self._namespace.key(_PURPOSE, key.digest(level))

    @contextlib.contextmanager
    def _counted(self, report: KVReport | None) -> Iterator[KVReport]:
        """A report that is added to ours, and to the caller's, when the block ends."""
        count = KVReport()
        try:
            yield count
        finally:
            with self._lock:
                self._report.add(count)
                if report is not None:
                    report.add(count)


def _header(key: CacheKey, level: KVLevel, data: memoryview) -> ContainerHeader:
    """The header of a whole container that is what ``key`` and ``level`` say.

    :raises CodecError: it is not.
    """
    header = parse_header(data)
    require_key(header, key, level)
    if len(data) != header.total_bytes:
        raise CorruptContainerError(
            f"{len(data)} bytes; the container's header speaks of {header.total_bytes}"
        )
    return header


async def _aside(size_bytes: int, function: Callable[[], T]) -> T:
    return function() if size_bytes <= _INLINE_BYTES else await asyncio.to_thread(function)


def _since_ms(begun_s: float) -> float:
    return (time.perf_counter() - begun_s) * 1000
