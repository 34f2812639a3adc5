"""The store of one process: a dictionary with times to live, least recently used out first."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Sequence
from typing import NamedTuple

from ctxpress.cache.stores.limits import StoreLimits
from ctxpress.cache.stores.resp import Buffer
from ctxpress.errors import StoreError

__all__ = ["MemoryStore"]

_OVERHEAD_BYTES = 250  # measured: what Python needs for an entry beside its key and value


class _Entry(NamedTuple):
    value: bytes
    expires_s: float


class MemoryStore:
    """Values in memory, ``max_bytes`` in all (keys and bookkeeping included).

    Nothing ever waits: the lock is held for a few dictionary operations at a time, so that
    several threads, each with its own event loop, can share the store.
    """

    def __init__(self, *, max_bytes: int, limits: StoreLimits) -> None:
        self._max_bytes = max_bytes
        self._limits = limits
        self._lock = threading.Lock()
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._used_bytes = 0
        self._closed = False

    @property
    def max_value_bytes(self) -> int:
        """See :class:`~ctxpress.cache.store.RangeStore`."""
        return self._limits.max_value_bytes

    async def get(self, key: str, *, ttl_s: float | None = None) -> bytes | None:
        """See :class:`~ctxpress.cache.store.Store`."""
        return (await self.get_many((key,), ttl_s=ttl_s))[0]

    async def get_many(
        self, keys: Sequence[str], *, ttl_s: float | None = None
    ) -> list[bytes | None]:
        """See :class:`~ctxpress.cache.store.Store`."""
        ttl_s = None if ttl_s is None else self._limits.check_ttl(ttl_s)
        now_s = time.monotonic()
        return [self._read(key, now_s, ttl_s) for key in keys]

    async def put(self, key: str, value: bytes, *, ttl_s: float) -> None:
        """See :class:`~ctxpress.cache.store.Store`."""
        self._check_value(key, value)
        expires_s = time.monotonic() + self._limits.check_ttl(ttl_s)
        with self._lock:
            self._check_open()
            self._write(key, value, expires_s)

    async def put_parts(self, key: str, parts: Sequence[Buffer], *, ttl_s: float) -> None:
        """See :class:`~ctxpress.cache.store.RangeStore`."""
        self._limits.check_size(sum(len(part) for part in parts))
        await self.put(key, b"".join(parts), ttl_s=ttl_s)

    async def get_range(self, key: str, start: int, size_bytes: int) -> Buffer:
        """See :class:`~ctxpress.cache.store.RangeStore`; a view of the stored value."""
        return self._range(key, start, size_bytes, time.monotonic(), None)

    async def get_ranges(
        self, ranges: Sequence[tuple[str, int, int]], *, ttl_s: float | None = None
    ) -> list[Buffer | StoreError]:
        """See :class:`~ctxpress.cache.store.RangeStore`; views of the stored values."""
        ttl_s = None if ttl_s is None else self._limits.check_ttl(ttl_s)
        now_s = time.monotonic()
        return [self._range(key, start, size, now_s, ttl_s) for key, start, size in ranges]

    async def read_ranges(
        self, key: str, ranges: Sequence[tuple[int, int]], *, ahead_bytes: int
    ) -> AsyncGenerator[Buffer]:
        """See :class:`~ctxpress.cache.store.RangeStore`; views of the stored value."""
        for start, size_bytes in ranges:
            yield self._range(key, start, size_bytes, time.monotonic(), None)

    async def set_if_absent(self, key: str, value: bytes, *, ttl_s: float) -> bytes:
        """See :class:`~ctxpress.cache.store.Store`."""
        return (await self.set_many_if_absent(((key, value),), ttl_s=ttl_s))[0]

    async def set_many_if_absent(
        self, items: Sequence[tuple[str, bytes]], *, ttl_s: float
    ) -> list[bytes]:
        """See :class:`~ctxpress.cache.store.Store`."""
        for key, value in items:
            self._check_value(key, value)
        now_s = time.monotonic()
        expires_s = now_s + self._limits.check_ttl(ttl_s)
        return [self._claim(key, value, now_s, expires_s) for key, value in items]

    async def delete(self, key: str) -> None:
        """See :class:`~ctxpress.cache.store.Store`."""
        with self._lock:
            self._check_open()
            self._drop(key)

    async def ping(self) -> None:
        """See :class:`~ctxpress.cache.store.Store`."""
        with self._lock:
            self._check_open()

    async def aclose(self) -> None:
        """Forget everything."""
        with self._lock:
            self._closed = True
            self._entries.clear()
            self._used_bytes = 0

    def _range(
        self, key: str, start: int, size_bytes: int, now_s: float, ttl_s: float | None
    ) -> Buffer:
        self._limits.check_range(start, size_bytes)
        value = self._read(key, now_s, ttl_s)
        return b"" if value is None else memoryview(value)[start : start + size_bytes]

    def _read(self, key: str, now_s: float, ttl_s: float | None) -> bytes | None:
        with self._lock:
            self._check_open()
            entry = self._live(key, now_s)
            if entry is None:
                return None
            self._entries.move_to_end(key)
            if ttl_s is not None:
                self._entries[key] = entry._replace(expires_s=now_s + ttl_s)
            return entry.value

    def _claim(self, key: str, value: bytes, now_s: float, expires_s: float) -> bytes:
        with self._lock:
            self._check_open()
            entry = self._live(key, now_s)
            if entry is not None:
                self._entries.move_to_end(key)
                return entry.value
            self._write(key, value, expires_s)
            return value

    # The methods below are called with the lock held.

    def _live(self, key: str, now_s: float) -> _Entry | None:
        entry = self._entries.get(key)
        if entry is not None and entry.expires_s <= now_s:
            self._drop(key)
            return None
        return entry

    def _write(self, key: str, value: bytes, expires_s: float) -> None:
        self._drop(key)
        self._entries[key] = _Entry(value, expires_s)
        self._used_bytes += _size_bytes(key, value)
        while self._used_bytes > self._max_bytes:
            self._drop(next(iter(self._entries)))

    def _drop(self, key: str) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._used_bytes -= _size_bytes(key, entry.value)

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError("memory store: closed")

    def _check_value(self, key: str, value: bytes) -> None:
        self._limits.check_value(value)
        if _size_bytes(key, value) > self._max_bytes:
            raise StoreError(
                f"memory store: a value of {len(value)} bytes is larger than the whole store "
                f"({self._max_bytes} bytes; max_bytes)"
            )


def _size_bytes(key: str, value: bytes) -> int:
    return len(key) + len(value) + _OVERHEAD_BYTES
