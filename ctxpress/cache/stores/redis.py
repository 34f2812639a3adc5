"""The store of many machines: Redis 4.0 or later, Valkey, or anything that speaks like them.

Every operation is one round trip of single-key commands (no scripts, no transactions), so that a
cluster's commands can be split by slot. ``SET NX GET`` in one command would need Redis 7.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncGenerator, Sequence

from ctxpress.cache.stores.deadline import Deadline
from ctxpress.cache.stores.limits import StoreLimits
from ctxpress.cache.stores.redis_address import RedisAddress
from ctxpress.cache.stores.redis_cluster import RedisCluster
from ctxpress.cache.stores.redis_failures import failure_of
from ctxpress.cache.stores.redis_pool import RedisPool
from ctxpress.cache.stores.resp import Buffer, Command, Reply, ServerError, size_of
from ctxpress.errors import StoreError

__all__ = ["RedisStore"]


class RedisStore:
    """Values on a Redis server or cluster. Memory limit and eviction policy are the operator's.

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
            asyncio.AbstractEventLoop, tuple[RedisPool | RedisCluster, AsyncGenerator[None]]
        ] = weakref.WeakKeyDictionary()
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
        # The second command also tells a missing value from an empty one.
        ttl_ms = None if ttl_s is None else self._ttl_ms(ttl_s)
        commands: list[Command] = []
        for key in keys:
            commands.append(self._read(key))
            commands.append(("EXISTS", key) if ttl_ms is None else ("PEXPIRE", key, ttl_ms))
        replies = [
            None if _of_another_type(reply) else self._check(reply)
            for reply in await self._send(commands)
        ]
        return [
            self._value(value) if exists == 1 else None
            for value, exists in zip(replies[::2], replies[1::2], strict=True)
        ]

    async def put(self, key: str, value: bytes, *, ttl_s: float) -> None:
        """See :class:`~ctxpress.cache.store.Store`."""
        await self.put_parts(key, (value,), ttl_s=ttl_s)

    async def put_parts(self, key: str, parts: Sequence[Buffer], *, ttl_s: float) -> None:
        """See :class:`~ctxpress.cache.store.RangeStore`."""
        self._limits.check_size(sum(len(part) for part in parts))
        (reply,) = await self._send([("SET", key, tuple(parts), "PX", self._ttl_ms(ttl_s))])
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
            async with asyncio.timeout(self._limits.wait_s(size_of(commands))):
                replies = await self._send(commands)
                held: list[bytes] = []
                for number, (key, value) in enumerate(items):
                    held.append(
                        value
                        if self._check(replies[3 * number]) is not None
                        else await self._rival(key, value, ttl_ms, replies[3 * number + 1 :])
                    )
        except TimeoutError as error:
            raise self._too_slow(size_of(commands)) from error
        return held

    async def get_range(self, key: str, start: int, size_bytes: int) -> Buffer:
        """See :class:`~ctxpress.cache.store.RangeStore`."""
        (found,) = await self.get_ranges(((key, start, size_bytes),))
        if isinstance(found, StoreError):
            raise found
        return found

    async def get_ranges(
        self, ranges: Sequence[tuple[str, int, int]], *, ttl_s: float | None = None
    ) -> list[Buffer | StoreError]:
        """See :class:`~ctxpress.cache.store.RangeStore`."""
        commands = [self._range(key, start, size) for key, start, size in ranges]
        if ttl_s is not None:
            ttl_ms = self._ttl_ms(ttl_s)
            commands += [("PEXPIRE", key, ttl_ms) for key, _, _ in ranges]
        replies = await self._send(commands)
        return [self._bytes_or_error(reply) for reply in replies[: len(ranges)]]

    async def read_ranges(
        self, key: str, ranges: Sequence[tuple[int, int]], *, ahead_bytes: int
    ) -> AsyncGenerator[Buffer]:
        """See :class:`~ctxpress.cache.store.RangeStore`."""
        self._check_open()
        commands = [self._range(key, start, size) for start, size in ranges]
        sizes = [size for _, size in ranges]
        try:
            pool = await self._pool()
            replies = pool.stream(commands, sizes_bytes=sizes, ahead_bytes=ahead_bytes)
            try:
                async for reply in replies:
                    yield self._bytes(reply)
            finally:
                await replies.aclose()
        except TimeoutError as error:
            raise self._too_slow(max(sizes)) from error
        except StoreError:
            raise
        except Exception as error:  # redis-py, sockets, TLS and parsers have no common base
            raise failure_of(self._address.label, error) from error

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
        while self._check(exists) != 1:
            set_, read, exists = await self._send(
                [("SET", key, value, "PX", ttl_ms, "NX"), self._read(key), ("EXISTS", key)]
            )
            if self._check(set_) is not None:
                return value
        held = None if _of_another_type(read) else self._value(self._check(read))
        return b"" if held is None else held

    def _read(self, key: str) -> Command:
        # Not GET: a value above the cap is cut off by the server, before it costs memory here.
        return ("GETRANGE", key, 0, self._limits.max_value_bytes)

    def _range(self, key: str, start: int, size_bytes: int) -> Command:
        self._limits.check_range(start, size_bytes)
        return ("GETRANGE", key, start, start + size_bytes - 1)

    def _value(self, reply: Reply) -> bytes | None:
        """The value in a reply; ``None`` if it is above the cap or of another type."""
        if not isinstance(reply, Buffer) or len(reply) > self._limits.max_value_bytes:
            return None
        return bytes(reply)

    def _bytes(self, reply: Reply) -> Buffer:
        """The bytes in a reply, none where the value is of another type."""
        checked = b"" if _of_another_type(reply) else self._check(reply)
        if not isinstance(checked, Buffer):
            raise StoreError(f"{self._address.label}: not an answer to what was asked")
        return checked

    def _bytes_or_error(self, reply: Reply) -> Buffer | StoreError:
        try:
            return self._bytes(reply)
        except StoreError as error:
            return error

    def _check(self, reply: Reply) -> Reply:
        if isinstance(reply, Exception):
            raise failure_of(self._address.label, reply) from reply
        return reply

    async def _send(self, commands: Sequence[Command]) -> list[Reply]:
        self._check_open()
        if not commands:
            return []
        deadline = Deadline(self._limits, size_of(commands))
        try:
            async with deadline:
                pool = await self._pool()
                return await pool.exchange(commands, announce=deadline.announce)
        except TimeoutError as error:
            raise self._too_slow(deadline.size_bytes) from error
        except Exception as error:  # redis-py, sockets, TLS and parsers have no common base
            raise failure_of(self._address.label, error) from error

    async def _pool(self) -> RedisPool | RedisCluster:
        loop = asyncio.get_running_loop()
        held = self._pools.get(loop)
        if held is None:
            kind = RedisCluster if self._address.nodes else RedisPool
            pool = kind(self._address, limits=self._limits, max_connections=self._max_connections)
            lifetime = _close_at_end(pool)
            held = self._pools[loop] = (pool, lifetime)
            await anext(lifetime)  # does not suspend; from here on the loop knows of it
        return held[0]

    def _ttl_ms(self, ttl_s: float) -> int:
        return max(1, round(self._limits.check_ttl(ttl_s) * 1000))

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError(f"{self._address.label}: closed")

    def _too_slow(self, size_bytes: int) -> StoreError:
        allowed_ms = self._limits.wait_s(size_bytes) * 1000
        return StoreError(f"{self._address.label}: no answer within {round(allowed_ms, 1):g} ms")


def _of_another_type(reply: Reply) -> bool:
    return isinstance(reply, ServerError) and reply.code == "WRONGTYPE"


async def _close_at_end(pool: RedisPool | RedisCluster) -> AsyncGenerator[None]:
    """Closes ``pool`` when it is closed itself, at the latest when its loop ends."""
    try:
        yield
    finally:
        await pool.aclose()
