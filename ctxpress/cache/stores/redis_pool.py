"""Connections to one Redis server from one event loop.

redis-py's own pools await locks when they take a connection back, so a task that is cancelled
twice (a time-out, then a client that hangs up) loses the connection for good. Here a connection
goes back, or is thrown away, without awaiting: only one that has read all of its replies is kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import TYPE_CHECKING, cast

from ctxpress.cache.stores.limits import StoreLimits
from ctxpress.cache.stores.redis_address import RedisAddress
from ctxpress.cache.stores.resp import Command, Reply, RespStream

if TYPE_CHECKING:
    from redis.asyncio.connection import AbstractConnection

__all__ = ["Announce", "RedisPool"]

Announce = Callable[[int], None]
_FIRST_BYTES = 256 * 2**10


class RedisPool:
    """At most ``max_connections`` connections; callers above that wait in line."""

    def __init__(self, address: RedisAddress, *, limits: StoreLimits, max_connections: int) -> None:
        self._address = address
        self._limits = limits
        self._slots = asyncio.Semaphore(max_connections)
        self._idle: list[_Connection] = []
        self._closed = False

    async def exchange(
        self, commands: Sequence[Command], *, announce: Announce | None = None
    ) -> list[Reply]:
        """Send all commands at once; their replies, in order.

        Commands must be safe to repeat: they are sent again over a new connection when an idle
        one turns out to be dead. ``announce`` is told the size of a large value in a reply when
        it begins. Raises what redis-py and the operating system raise, and ProtocolError.
        """
        async with self._slots:
            while True:
                connection, reused = self._take()
                try:
                    stream = await connection.open(announce)
                    await stream.send(commands)
                    replies = [await stream.receive() for _ in commands]
                except BaseException as error:
                    connection.discard()
                    if reused and isinstance(error, OSError):
                        continue  # the server was restarted since; try the next
                    raise
                self._give_back(connection)
                return replies

    async def stream(
        self, commands: Sequence[Command], *, sizes_bytes: Sequence[int], ahead_bytes: int
    ) -> AsyncGenerator[Reply]:
        """The replies to ``commands`` one by one, over one connection.

        ``sizes_bytes`` is how large each reply may be: replies of up to ``ahead_bytes`` in all, and
        at least one, are asked for before they are waited for: first few, then twice as much as
        has come. A server answers all that it was asked by all before it sends anything, so many
        readers that ask for much at once wait for each other's last replies with their first.
        Each may take what the limits give for its size. Close it where it is not read to its end.
        """
        if not commands:
            return
        async with self._slots:
            connection, reused = self._take()
            received = received_bytes = 0
            try:
                while received < len(commands):
                    try:
                        async with asyncio.timeout(self._limits.wait_s(sizes_bytes[received])):
                            stream = await connection.open(None)
                            sent = connection.sent
                            ahead = min(ahead_bytes, max(_FIRST_BYTES, 2 * received_bytes))
                            until = _window(sizes_bytes, received, ahead)
                            if until > sent:
                                await stream.send(commands[sent:until])
                                connection.sent = until
                            reply = await stream.receive()
                    except OSError as error:
                        if not reused or received or isinstance(error, TimeoutError):
                            raise
                        connection.discard()
                        connection, reused = self._take()
                        continue
                    received_bytes += sizes_bytes[received]
                    received += 1
                    if received == len(commands):
                        # Before the last is handed out: whoever has it may not ask again.
                        connection.sent = 0
                        self._give_back(connection)
                    yield reply
            except BaseException:
                if received < len(commands):
                    connection.discard()
                raise

    async def aclose(self) -> None:
        """Close idle connections, and those in use as soon as they come back."""
        self._closed = True
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.discard()

    def _take(self) -> tuple[_Connection, bool]:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_alive:
                return connection, True
            connection.discard()
        fresh = self._address.create_connection(timeout_s=self._limits.timeout_s)
        # One byte more than the cap is asked for, to tell what is above it.
        return _Connection(fresh, max_reply_bytes=self._limits.max_value_bytes + 1), False

    def _give_back(self, connection: _Connection) -> None:
        connection.rest()
        if self._closed:
            connection.discard()
        else:
            self._idle.append(connection)


class _Connection:
    """A redis-py connection, and the stream over it once it is open."""

    def __init__(self, connection: AbstractConnection, *, max_reply_bytes: int) -> None:
        self._connection = connection
        self._max_reply_bytes = max_reply_bytes
        self._stream: RespStream | None = None
        self.sent = 0

    @property
    def is_alive(self) -> bool:
        return self._stream is not None and self._stream.is_alive

    async def open(self, announce: Announce | None) -> RespStream:
        if self._stream is None:
            # redis-py resolves, connects, speaks TLS and logs in; what follows is ours.
            await self._connection.connect()  # type: ignore[no-untyped-call]
            writer = self._connection._writer
            if writer is None:
                raise ConnectionError("closed by the server")
            # What its type says is less than what it is: uvloop's has no base class at all.
            transport = cast("asyncio.Transport", writer.transport)
            self._stream = RespStream(transport, max_reply_bytes=self._max_reply_bytes)
        self._stream.announce = announce
        return self._stream

    def rest(self) -> None:
        if self._stream is not None:
            self._stream.announce = None

    def discard(self) -> None:
        """Close at once, without waiting and without suspending."""
        self.rest()
        if self._stream is not None:
            self._stream.abort()  # a server that stands still would keep what is not yet sent
        self._connection._close()  # type: ignore[no-untyped-call]


def _window(sizes_bytes: Sequence[int], received: int, ahead_bytes: int) -> int:
    """How many commands may have been sent when ``received`` replies are here."""
    until, ahead = received, 0
    while until < len(sizes_bytes) and (until == received or ahead < ahead_bytes):
        ahead += sizes_bytes[until]
        until += 1
    return until
