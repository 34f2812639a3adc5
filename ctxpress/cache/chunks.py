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

import contextlib
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence

from ctxpress.cache.chunk_key import CacheKey, KVLevel
from ctxpress.cache.container import byte_view
from ctxpress.cache.key import Namespace
from ctxpress.cache.kv_report import KVDrop, KVMiss, KVReport
from ctxpress.cache.sealed_kv import StoredKV
from ctxpress.cache.sealed_store import SealedStore, check_container
from ctxpress.cache.single_flight import SingleFlight
from ctxpress.cache.store import RangeStore, create_store
from ctxpress.cache.store_kinds import BUILTIN_STORES, StoreKind
from ctxpress.cache.stores.resp import Buffer
from ctxpress.errors import ConfigError, KVMissError, StoreError

__all__ = ["DEFAULT_MAX_KV_BYTES", "KVStore", "create_kv_store"]

# A chunk of 256 tokens of a model of 70 billion parameters has 84 MB when nothing is compressed.
DEFAULT_MAX_KV_BYTES = 256 * 2**20


def create_kv_store(
    url: str,
    *,
    namespace: Namespace,
    timeout_ms: float = 1000.0,
    max_value_bytes: int = DEFAULT_MAX_KV_BYTES,
    lease_s: float = 10.0,
    kinds: Mapping[str, StoreKind] = BUILTIN_STORES,
) -> KVStore:
    """The store of KV of ``namespace`` at ``url``, with the options of ``create_store``.

    ``timeout_ms`` is for one round trip of a small value; large ones get what they need at
    ``min_bytes_per_s`` on top. ``lease_s``: see :meth:`KVStore.get_or_compute`.

    :raises ConfigError: as ``create_store``, and where the store cannot read ranges.
    :raises MissingDependencyError: as ``create_store``, and without the package ``blake3``.
    """
    store = create_store(url, timeout_ms=timeout_ms, max_value_bytes=max_value_bytes, kinds=kinds)
    if not isinstance(store, RangeStore):
        raise ConfigError("a store of KV must read ranges, and this kind of store does not")
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
        self._sealed = SealedStore(store, namespace)
        self._flight = SingleFlight(store, namespace, lease_s=lease_s)
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
        with self._counted(report) as count:
            front, sections = await self._sealed.seal(key, level, data)
            size_bytes, most = len(front) + len(sections), self._store.max_value_bytes
            if size_bytes > most:
                error = f"{size_bytes} bytes are above the store's max_value_bytes, {most}"
                count.drop(KVDrop.TOO_LARGE, error)
                return False
            begun_s = time.perf_counter()
            try:
                name = self._sealed.name(key, level)
                await self._store.put_parts(name, (front, sections), ttl_s=ttl_s)
            except StoreError as error:
                count.drop(KVDrop.UNREACHABLE, str(error))
                return False
            finally:
                count.write_ms += _since_ms(begun_s)
            count.writes += 1
            count.bytes_written += len(data)
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
        with self._counted(report) as count:
            async with contextlib.aclosing(self._sealed.stream(stored)) as groups:
                while True:
                    begun_s = time.perf_counter()
                    try:
                        group = await anext(groups, None)
                    except StoreError as error:
                        raise count.miss(error) from error
                    finally:
                        count.read_ms += _since_ms(begun_s)
                    if group is None:
                        break
                    for index, section in group:
                        count.bytes_read += len(section)
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
                check_container(key, level, byte_view(data))
                return data

            async def write(data: Buffer) -> None:
                await self.put(key, level, data, ttl_s=ttl_s, report=report)

            data, mine = await self._flight.run(
                self._sealed.name(key, level), read=read, compute=make, write=write
            )
            count.computed += mine
            count.waited += not mine and looks != 1
            return data

    async def delete(self, key: CacheKey, level: KVLevel) -> None:
        """Forget a chunk at one level.

        :raises StoreError: the store failed; it may still hold the chunk.
        """
        await self._store.delete(self._sealed.name(key, level))

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
        wanted = [(key, level) for key in keys for level in levels]
        begun_s = time.perf_counter()
        seen = iter(await self._sealed.search(wanted, ttl_s=ttl_s))
        count.read_ms += _since_ms(begun_s)
        found = []
        for _ in keys:
            here: dict[KVLevel, StoredKV] = {}
            failure: StoreError = KVMissError("", reason=KVMiss.ABSENT)
            for level in levels:
                stored = next(seen)
                if isinstance(stored, StoreError):
                    failure = stored
                elif stored is not None:
                    here[level] = stored
            count.found += bool(here)
            if not here and levels:
                count.miss(failure)
            found.append(here)
        return found

    async def _fetch_whole(self, stored: StoredKV, count: KVReport) -> memoryview | None:
        begun_s = time.perf_counter()
        try:
            data = await self._sealed.read(stored)
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


def _since_ms(begun_s: float) -> float:
    return (time.perf_counter() - begun_s) * 1000
