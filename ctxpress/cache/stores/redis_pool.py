"""Connections to one Redis server from one event loop.

redis-py's own pools await locks when they take a connection back, so a task that is cancelled
twice (a time-out, then a client that hangs up) loses the connection for good. Here a connection
goes back, or is thrown away, without awaiting: only one that has read all of its replies is kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from redis.asyncio.connection import AbstractConnection

__all__ = ["Command", "RedisPool", "Reply"]

Command = tuple[str | bytes | int, ...]
# A server's answer; an error that it answered to one command is a value here, not raised.
Reply = bytes | int | list[object] | Exception | None


class RedisPool:
    """At most ``max_connections`` connections; callers above that wait in line."""

    def __init__(
        self, create_connection: Callable[[], AbstractConnection], *, max_connections: int
    ) -> None:
        self._create_connection = create_connection
        self._slots = asyncio.Semaphore(max_connections)
        self._idle: list[AbstractConnection] = []
        self._closed = False

    async def exchange(self, commands: Sequence[Command]) -> list[Reply]:
        """Send all commands at once; their replies, in order.

        Commands must be safe to repeat: they are sent again over a new connection when an idle
        one turns out to be dead. Raises what redis-py and the operating system raise.
        """
        import redis

        async with self._slots:
            while True:
                reused = bool(self._idle)
                connection = self._idle.pop() if reused else self._create_connection()
                try:
                    replies = await _exchange(connection, commands)
                except BaseException as error:
                    await connection.disconnect(nowait=True)  # does not suspend
                    if reused and isinstance(error, redis.ConnectionError | OSError):
                        continue  # the server was restarted since; try the next
                    raise
                if self._closed:
                    await connection.disconnect(nowait=True)
                else:
                    self._idle.append(connection)
                return replies

    async def aclose(self) -> None:
        """Close idle connections, and those in use as soon as they come back."""
        self._closed = True
        idle, self._idle = self._idle, []
        for connection in idle:
            await connection.disconnect(nowait=True)


async def _exchange(connection: AbstractConnection, commands: Sequence[Command]) -> list[Reply]:
    import redis

    if not connection.is_connected:
        await connection.connect()  # type: ignore[no-untyped-call]  # redis-py's decorator hides it
    await connection.send_packed_command(connection.pack_commands(commands), check_health=False)
    replies: list[Reply] = []
    for _ in commands:
        try:
            replies.append(await connection.read_response(disable_decoding=True))
        except redis.ResponseError as error:
            replies.append(error)
    return replies
