"""A store of one tenant over a store of many: hashed keys, sealed values (laws 7 and 8)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from ctxpress.cache.key import Namespace

if TYPE_CHECKING:
    from ctxpress.cache.store import Store

__all__ = ["NamespacedStore"]

T = TypeVar("T")

_PURPOSE = "value"
_INLINE_BYTES = 256 * 2**10  # a hash over more goes to a thread: the event loop stays free


class NamespacedStore:
    """Any text as a key, values that only this namespace can read or write.

    A value that was damaged, moved to another key, or written by somebody else is a miss; it is
    overwritten by ``put``, and never overruled by ``set_if_absent``, which then gives ``b""``.
    """

    def __init__(self, store: Store, namespace: Namespace) -> None:
        self._store = store
        self._namespace = namespace

    async def get(self, key: str, *, ttl_s: float | None = None) -> bytes | None:
        """See :class:`~ctxpress.cache.store.Store`."""
        return (await self.get_many((key,), ttl_s=ttl_s))[0]

    async def get_many(
        self, keys: Sequence[str], *, ttl_s: float | None = None
    ) -> list[bytes | None]:
        """See :class:`~ctxpress.cache.store.Store`."""
        hashed = [self._key(key) for key in keys]
        return await self._opened(hashed, await self._store.get_many(hashed, ttl_s=ttl_s))

    async def put(self, key: str, value: bytes, *, ttl_s: float) -> None:
        """See :class:`~ctxpress.cache.store.Store`."""
        ((hashed, sealed),) = await self._sealed(((key, value),))
        await self._store.put(hashed, sealed, ttl_s=ttl_s)

    async def set_if_absent(self, key: str, value: bytes, *, ttl_s: float) -> bytes:
        """See :class:`~ctxpress.cache.store.Store`."""
        return (await self.set_many_if_absent(((key, value),), ttl_s=ttl_s))[0]

    async def set_many_if_absent(
        self, items: Sequence[tuple[str, bytes]], *, ttl_s: float
    ) -> list[bytes]:
        """See :class:`~ctxpress.cache.store.Store`."""
        sealed = await self._sealed(items)
        held = await self._store.set_many_if_absent(sealed, ttl_s=ttl_s)
        opened = await self._opened([key for key, _ in sealed], held)
        return [b"" if value is None else value for value in opened]

    async def delete(self, key: str) -> None:
        """See :class:`~ctxpress.cache.store.Store`."""
        await self._store.delete(self._key(key))

    async def ping(self) -> None:
        """See :class:`~ctxpress.cache.store.Store`."""
        await self._store.ping()

    async def aclose(self) -> None:
        """See :class:`~ctxpress.cache.store.Store`; closes the store beneath."""
        await self._store.aclose()

    def _key(self, key: str) -> str:
        return self._namespace.key(_PURPOSE, key)

    async def _sealed(self, items: Sequence[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
        hashed = [(self._key(key), value) for key, value in items]
        return await _aside(
            sum(len(value) for _, value in hashed),
            lambda: [(key, self._namespace.seal(key, value)) for key, value in hashed],
        )

    async def _opened(
        self, keys: Sequence[str], values: Sequence[bytes | None]
    ) -> list[bytes | None]:
        return await _aside(
            sum(len(value or b"") for value in values),
            lambda: [
                self._namespace.open(key, value) for key, value in zip(keys, values, strict=True)
            ],
        )


async def _aside(size_bytes: int, function: Callable[[], T]) -> T:
    return function() if size_bytes <= _INLINE_BYTES else await asyncio.to_thread(function)
