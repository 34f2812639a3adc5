"""Containers of one namespace in a store of bytes: sealed as they go in, checked as they come out.

Beneath ``chunks.KVStore``: here failures are raised, there they are counted.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Sequence
from itertools import accumulate
from typing import TypeVar

from ctxpress.cache.chunk_key import CacheKey, KVLevel
from ctxpress.cache.container import ContainerHeader, byte_view, parse_header
from ctxpress.cache.key import Namespace
from ctxpress.cache.kv_report import KVMiss
from ctxpress.cache.sealed_kv import (
    SectionMac,
    StoredKV,
    front_bytes_of,
    open_front,
    require_key,
    seal_front,
)
from ctxpress.cache.store import RangeStore
from ctxpress.cache.stores.resp import Buffer
from ctxpress.errors import CorruptContainerError, KVMissError, StoreError

__all__ = ["SealedStore", "check_container"]

T = TypeVar("T")

_PURPOSE = "kv"
_FRONT_BYTES = 4096  # of a model with 32 layers
_READ_BYTES = 128 * 2**10  # smaller sections are read together
_AHEAD_BYTES = 4 * 2**20
_INLINE_BYTES = 2**20  # MACs over more are computed in a thread: the event loop stays free


class SealedStore:
    """Seals, finds and reads containers under their keys and levels."""

    def __init__(self, store: RangeStore, namespace: Namespace) -> None:
        """:raises MissingDependencyError: the package ``blake3`` is not installed."""
        self._store = store
        self._namespace = namespace
        self._mac = SectionMac(namespace)
        self._front_bytes = _FRONT_BYTES

    def name(self, key: CacheKey, level: KVLevel) -> str:
        """The store's key, which tells nothing to whoever lacks the namespace."""
        return self._namespace.key(_PURPOSE, key.digest(level))

    async def seal(self, key: CacheKey, level: KVLevel, data: Buffer) -> tuple[Buffer, Buffer]:
        """What to store under :meth:`name` for a container, in two parts.

        :raises CodecError: see :func:`check_container`.
        """
        view = byte_view(data)
        header = check_container(key, level, view)
        begin = header.sections[0].offset
        parts = [view[s.offset : s.offset + s.size_bytes] for s in header.sections]
        macs = await _aside(len(view), lambda: [self._mac.digest(part) for part in parts])
        rows = [(len(part), mac) for part, mac in zip(parts, macs, strict=True)]
        return seal_front(self._namespace, self.name(key, level), view[:begin], rows), view[begin:]

    async def search(
        self, wanted: Sequence[tuple[CacheKey, KVLevel]], *, ttl_s: float | None
    ) -> list[StoredKV | StoreError | None]:
        """What is held of ``wanted``, in order; an error where that cannot be had or trusted."""
        names = [self.name(key, level) for key, level in wanted]
        found: list[StoredKV | StoreError | None] = []
        for (key, level), name, front in zip(
            wanted, names, await self._fronts(names, ttl_s), strict=True
        ):
            if isinstance(front, StoreError):
                found.append(front)
            elif not front:
                found.append(None)
            else:
                stored = open_front(self._namespace, name, front, key=key, level=level)
                found.append(
                    stored or KVMissError("its seal does not open", reason=KVMiss.UNSEALED)
                )
        return found

    async def read(self, stored: StoredKV) -> memoryview:
        """The whole container.

        :raises KVMissError: it is not there any more, or not what was stored.
        :raises StoreError: the store failed.
        """
        data = memoryview(
            await self._store.get_range(
                stored.store_key, stored.container_start, stored.container_bytes
            )
        )
        header_bytes = len(stored.header_data)
        if len(data) >= header_bytes and data[:header_bytes] != stored.header_data:
            raise KVMissError("overwritten since it was found", reason=KVMiss.DAMAGED)
        await self._checked(stored, data[header_bytes:], range(len(stored.macs)))
        return data

    async def stream(self, stored: StoredKV) -> AsyncGenerator[Sequence[tuple[int, memoryview]]]:
        """Sections and their indices, in order, some at a time, as they arrive.

        :raises KVMissError, StoreError: as :meth:`read`, about the rest.
        """
        reads = stored.reads(at_least_bytes=_READ_BYTES)
        ranges = [(start, size_bytes) for start, size_bytes, _ in reads if size_bytes]
        parts = self._store.read_ranges(stored.store_key, ranges, ahead_bytes=_AHEAD_BYTES)
        async with contextlib.aclosing(parts):
            for _, size_bytes, indices in reads:
                part = memoryview(await anext(parts) if size_bytes else b"")
                sections = await self._checked(stored, part, indices)
                yield list(zip(indices, sections, strict=True))

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


def check_container(key: CacheKey, level: KVLevel, data: memoryview) -> ContainerHeader:
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
