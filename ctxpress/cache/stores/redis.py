"""The store of many machines: Redis 4.0 or later, Valkey, or anything that speaks like them.

Every operation is one round trip of single-key commands (no scripts, no transactions), so a
cluster's client can split them by slot. ``SET NX GET`` in one command would need Redis 7.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncGenerator, Sequence

from ctxpress.cache.stores.limits import StoreLimits
from ctxpress.cache.stores.redis_address import RedisAddress
from ctxpress.cache.stores.redis_pool import Command, RedisPool, Reply
from ctxpress.errors import StoreError

__all__ = ["RedisStore"]


class RedisStore:
    """Values on a Redis server. Its memory limit and eviction policy are the operator's.

    Connections belong to event loops: each loop has its own, closed by :meth:`aclose` in that
    loop, or by the loop's own end (``asyncio.run`` shuts its asynchronous generators down).
    """

    def __init__(self, address: RedisAddress, *, limits: StoreLimits, max_connections: int) -> None:
        """Opens nothing.

        :raises MissingDependencyError: the package ``redis`` is not installed.
        """
        address.require_client()
        self._address = address
        self._limits = limits
        self._max_connections = max_connections
        self._pools: weakref.WeakKeyDictionary[
            asyncio.AbstractEventLoop, tuple[RedisPool, AsyncGenerator[None]]
        ] = weakref.WeakKeyDictionary()
        self._closed = False

    async def get(self, key: str, *, ttl_s: float | None = None) -> bytes | None:
        """See :class:`~ctxpress.cache.store.Store`."""
        return (await self.get_many((key,), ttl_s=ttl_s))[0]

    async def get_many(
        self, keys: Sequence[str], *, ttl_s: float | None = None
    ) -> list[bytes | None]:
        """See :class:`~ctxpress.cache.store.Store`."""
        # The second command also tells a missing value from an empty one.
        ttl_ms = None if ttl_s is None else self._ttl_ms(ttl_s)
        commands: list[Command] = []
        for key in keys:
            commands.append(self._read(key))
            commands.append(("EXISTS", key) if ttl_ms is None else ("PEXPIRE", key, ttl_ms))
        replies = await self._send(commands)
        return [
            self._value(value) if exists == 1 else None
            for value, exists in zip(replies[::2], replies[1::2], strict=True)
        ]

    async def put(self, key: str, value: bytes, *, ttl_s: float) -> None:
        """See :class:`~ctxpress.cache.store.Store`."""
        self._limits.check_value(value)
        (reply,) = await self._send([("SET", key, value, "PX", self._ttl_ms(ttl_s))])
        self._check(reply)

    async def set_if_absent(self, key: str, value: bytes, *, ttl_s: float) -> bytes:
        """See :class:`~ctxpress.cache.store.Store`."""
        return (await self.set_many_if_absent(((key, value),), ttl_s=ttl_s))[0]

    async def set_many_if_absent(
        self, items: Sequence[tuple[str, bytes]], *, ttl_s: float
    ) -> list[bytes]:
        """See :class:`~ctxpress.cache.store.Store`."""
        ttl_ms = self._ttl_ms(ttl_s)
        commands: list[Command] = []
        for key, value in items:
            self._limits.check_value(value)
            commands.append(("SET", key, value, "PX", ttl_ms, "NX"))
            commands.append(self._read(key))
            commands.append(("EXISTS", key))
        try:
            async with asyncio.timeout(self._limits.timeout_s):
                replies = await self._send(commands)
                held: list[bytes] = []
                for number, (key, value) in enumerate(items):
                    held.append(
                        value
                        if self._check(replies[3 * number]) is not None
                        else await self._rival(key, value, ttl_ms, replies[3 * number + 1 :])
                    )
        except TimeoutError as error:
            raise self._too_slow() from error
        return held

    async def delete(self, key: str) -> None:
        """See :class:`~ctxpress.cache.store.Store`."""
        (reply,) = await self._send([("UNLINK", key)])
        self._check(reply)

    async def ping(self) -> None:
        """See :class:`~ctxpress.cache.store.Store`."""
        (reply,) = await self._send([("PING",)])
        self._check(reply)

    async def aclose(self) -> None:
        """Close the connections of the running loop; those of other loops end with their loops."""
        self._closed = True
        _, lifetime = self._pools.pop(asyncio.get_running_loop(), (None, None))
        if lifetime is not None:
            await lifetime.aclose()

    async def _rival(self, key: str, value: bytes, ttl_ms: int, replies: Sequence[Reply]) -> bytes:
        """What a rival set before us, given our two replies; ours if it is gone meanwhile."""
        read, exists = replies[0], replies[1]
        while exists != 1:
            set_, read, exists = await self._send(
                [("SET", key, value, "PX", ttl_ms, "NX"), self._read(key), ("EXISTS", key)]
            )
            if self._check(set_) is not None:
                return value
        held = self._value(read)
        return b"" if held is None else held

    def _read(self, key: str) -> Command:
        # Not GET: a value above the cap is cut off by the server, before it costs memory here.
        return ("GETRANGE", key, 0, self._limits.max_value_bytes)

    def _value(self, reply: Reply) -> bytes | None:
        """The value in a reply; ``None`` if it is above the cap or of another type."""
        if isinstance(reply, Exception) and "WRONGTYPE" in str(reply):
            return None
        self._check(reply)
        if not isinstance(reply, bytes) or len(reply) > self._limits.max_value_bytes:
            return None
        return reply

    def _check(self, reply: Reply) -> Reply:
        if isinstance(reply, Exception):
            raise self._failure(reply) from reply
        return reply

    async def _send(self, commands: Sequence[Command]) -> list[Reply]:
        if self._closed:
            raise StoreError(f"{self._address.label}: closed")
        if not commands:
            return []
        try:
            async with asyncio.timeout(self._limits.timeout_s):
                pool = await self._pool()
                return await pool.exchange(commands)
        except TimeoutError as error:
            raise self._too_slow() from error
        except Exception as error:  # redis-py, sockets, TLS and parsers have no common base
            raise self._failure(error) from error

    async def _pool(self) -> RedisPool:
        loop = asyncio.get_running_loop()
        held = self._pools.get(loop)
        if held is None:
            address, timeout_s = self._address, self._limits.timeout_s
            pool = RedisPool(
                lambda: address.create_connection(timeout_s=timeout_s),
                max_connections=self._max_connections,
            )
            lifetime = _close_at_end(pool)
            held = self._pools[loop] = (pool, lifetime)
            await anext(lifetime)  # does not suspend; from here on the loop knows of it
        return held[0]

    def _ttl_ms(self, ttl_s: float) -> int:
        return max(1, round(self._limits.check_ttl(ttl_s) * 1000))

    def _too_slow(self) -> StoreError:
        return StoreError(
            f"{self._address.label}: no answer within {self._limits.timeout_s * 1000:g} ms"
        )

    def _failure(self, error: Exception) -> StoreError:
        # Only the kind of error: a server may quote the arguments of a command that it refuses.
        return StoreError(
            f"{self._address.label}: {_KINDS.get(type(error).__name__, 'failed')}"
            f" ({type(error).__name__})"
        )


_KINDS = {
    "AuthenticationError": "user or password refused",
    "NoPermissionError": "the user may not do this",
    "OutOfMemoryError": "out of memory (maxmemory)",
    "ReadOnlyError": "a read-only replica",
    "BusyLoadingError": "still loading its data",
    "ConnectionError": "cannot be reached",
    "TimeoutError": "cannot be reached in time",
}


async def _close_at_end(pool: RedisPool) -> AsyncGenerator[None]:
    """Closes ``pool`` when it is closed itself, at the latest when its loop ends."""
    try:
        yield
    finally:
        await pool.aclose()
