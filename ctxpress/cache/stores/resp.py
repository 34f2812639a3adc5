"""Redis's wire protocol (RESP2) over a connection that redis-py has opened and logged in.

redis-py reads through an asyncio stream and copies a large value five times; here the kernel
writes it into the buffer that is handed out. Replies are hostile until they are checked: their
sizes and counts are capped before anything is allocated, and a reply that nobody asked for ends
the connection.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

__all__ = ["Buffer", "Command", "ProtocolError", "Reply", "RespStream", "ServerError", "size_of"]

Buffer = bytes | memoryview
# A tuple among the arguments is one argument in several pieces.
Command = tuple[str | int | Buffer | tuple[Buffer, ...], ...]

_SCRATCH_BYTES = 64 * 2**10
_PIECE_BYTES = 2**20  # a write above it would be copied whole into the transport's own buffer
_LARGE_ARGUMENT_BYTES = 16 * 2**10
_MAX_ARRAY_ITEMS = 2**16  # a cluster has 16,384 slots
_MAX_DEPTH = 8
_CODE = re.compile(r"[A-Z]{2,20}\b")


class ProtocolError(Exception):
    """The server does not speak RESP2, or says more than is allowed."""


class ServerError(Exception):
    """An error that the server answered to one command. A value, not raised by this module.

    ``code`` is its first word, as in ``OOM`` or ``MOVED``; empty where there is none.
    ``text`` may quote arguments of the command: not for messages.
    """

    def __init__(self, text: str) -> None:
        found = _CODE.match(text)
        self.code = found[0] if found else ""
        self.text = text
        super().__init__(self.code or "ERR")


# A large value is a view of a buffer of its own. An exception is what became of one command: the
# server's error, or of a cluster the failure of the node that holds its key.
Reply = Buffer | int | list[object] | Exception | None


@dataclass(slots=True)
class _Array:
    items: list[object]
    missing: int


class RespStream(asyncio.BufferedProtocol):
    """Commands out, replies in, in order. Belongs to one task at a time."""

    def __init__(self, transport: asyncio.Transport, *, max_reply_bytes: int) -> None:
        """Takes ``transport`` over from its protocol; nothing may be on its way."""
        self._transport = transport
        self._max_reply_bytes = max_reply_bytes
        self._scratch = bytearray(_SCRATCH_BYTES)
        self._begin = self._end = 0
        self._bulk: bytearray | None = None
        self._bulk_end = 0
        self._arrays: list[_Array] = []
        self._replies: deque[Reply] = deque()
        self._missing = 0  # replies that were asked for and are not here yet
        self._failure: Exception | None = None
        self._arrived: asyncio.Future[None] | None = None
        self._drained: asyncio.Future[None] | None = None
        self._paused = False
        self.announce: Callable[[int], None] | None = None
        transport.set_protocol(self)

    @property
    def is_alive(self) -> bool:
        """Whether the connection still stands, as far as is known here."""
        return self._failure is None and not self._transport.is_closing()

    def abort(self) -> None:
        """Close the connection at once and forget what is not yet sent."""
        self._transport.abort()

    async def send(self, commands: Sequence[Command]) -> None:
        """Write ``commands``; returns when the transport has taken them.

        :raises ConnectionError: the connection is gone.
        """
        self._missing += len(commands)
        for buffer in _packed(commands):
            view = memoryview(buffer)
            for start in range(0, len(view), _PIECE_BYTES):
                if self._failure is not None:
                    raise self._failure
                self._transport.write(view[start : start + _PIECE_BYTES])
                if self._paused:
                    self._drained = asyncio.get_running_loop().create_future()
                    await self._drained

    async def receive(self) -> Reply:
        """The next reply. ``announce`` is told the size of a large value when it begins.

        :raises ConnectionError, ProtocolError: the connection is gone, or speaks nonsense.
        """
        while not self._replies:
            if self._failure is not None:
                raise self._failure
            self._arrived = asyncio.get_running_loop().create_future()
            await self._arrived
        return self._replies.popleft()

    # What the transport calls.

    def pause_writing(self) -> None:
        """See :class:`asyncio.BaseProtocol`."""
        self._paused = True

    def resume_writing(self) -> None:
        """See :class:`asyncio.BaseProtocol`."""
        self._paused = False
        _wake(self._drained)

    def connection_lost(self, exc: Exception | None) -> None:
        """See :class:`asyncio.BaseProtocol`."""
        self._fail(exc or ConnectionError("closed by the server"))

    def get_buffer(self, sizehint: int) -> memoryview:
        """See :class:`asyncio.BufferedProtocol`."""
        if self._bulk is not None:
            return memoryview(self._bulk)[self._bulk_end :]
        return memoryview(self._scratch)[self._end :]

    def buffer_updated(self, nbytes: int) -> None:
        """See :class:`asyncio.BufferedProtocol`."""
        try:
            if self._bulk is None:
                self._end += nbytes
                self._parse()
                return
            self._bulk_end += nbytes
            if self._bulk_end == len(self._bulk):
                whole, self._bulk = self._bulk, None
                if whole[-2:] != b"\r\n":
                    raise ProtocolError("a value does not end where it should")
                self._deliver(memoryview(whole)[:-2].toreadonly())
        except ProtocolError as error:
            self._fail(error)
            self._transport.abort()

    def _parse(self) -> None:
        """Read whole replies out of the scratch buffer; keep the beginning of the next."""
        while self._bulk is None:
            line_end = self._scratch.find(b"\r\n", self._begin, self._end)
            if line_end < 0:
                break
            line = bytes(self._scratch[self._begin : line_end])
            if not line.startswith(b"$"):
                self._begin = line_end + 2
                self._read_line(line)
            elif not self._read_bulk(line, line_end + 2):
                break
        if self._begin == self._end:
            self._begin = self._end = 0
        elif self._begin:
            rest = self._scratch[self._begin : self._end]
            self._scratch[: len(rest)] = rest
            self._begin, self._end = 0, len(rest)
        if self._end == len(self._scratch):
            raise ProtocolError("a line without an end")

    def _read_line(self, line: bytes) -> None:
        kind, rest = line[:1], line[1:]
        if kind == b"+":
            self._deliver(rest)
        elif kind == b"-":
            self._deliver(ServerError(rest.decode("utf-8", "replace")))
        elif kind == b":":
            self._deliver(_integer(rest))
        elif kind == b"*":
            count = _integer(rest)
            if count > _MAX_ARRAY_ITEMS or len(self._arrays) >= _MAX_DEPTH:
                raise ProtocolError("an array larger or deeper than any that was asked for")
            if count > 0:
                self._arrays.append(_Array([], count))
            else:
                self._deliver([] if count == 0 else None)
        else:
            raise ProtocolError("not RESP2")

    def _read_bulk(self, line: bytes, start: int) -> bool:
        """Read a value whose first byte is at ``start``; whether there may be more behind it."""
        size_bytes = _integer(line[1:])
        if size_bytes < 0:
            self._begin = start
            self._deliver(None)
            return True
        if size_bytes > self._max_reply_bytes:
            raise ProtocolError("a value larger than was asked for")
        end = start + size_bytes + 2
        if end <= self._end:
            self._begin = end
            if self._scratch[end - 2 : end] != b"\r\n":
                raise ProtocolError("a value does not end where it should")
            self._deliver(bytes(self._scratch[start : end - 2]))
            return True
        if end - self._begin <= _LARGE_ARGUMENT_BYTES:
            return False  # its rest will be here soon: read the line again then
        if self._missing == 0:
            raise ProtocolError("a reply that nobody asked for")
        self._bulk = bytearray(size_bytes + 2)
        self._bulk_end = self._end - start
        self._bulk[: self._bulk_end] = self._scratch[start : self._end]
        self._begin = self._end
        if self.announce is not None:
            self.announce(size_bytes)
        return True

    def _deliver(self, value: Reply) -> None:
        whole: object = value
        while self._arrays:
            array = self._arrays[-1]
            array.items.append(whole)
            array.missing -= 1
            if array.missing:
                return
            whole = self._arrays.pop().items
        if self._missing == 0:
            raise ProtocolError("a reply that nobody asked for")
        self._missing -= 1
        self._replies.append(whole)  # type: ignore[arg-type]  # a Reply: what _deliver was given
        _wake(self._arrived)

    def _fail(self, error: Exception) -> None:
        if self._failure is None:
            self._failure = error
        _wake(self._arrived)
        _wake(self._drained)


def size_of(commands: Sequence[Command]) -> int:
    """How many bytes of values ``commands`` carry, about."""
    return sum(
        len(piece)
        for command in commands
        for argument in command
        if not isinstance(argument, str | int)
        for piece in (argument if isinstance(argument, tuple) else (argument,))
    )


def _packed(commands: Sequence[Command]) -> list[bytes | bytearray | memoryview]:
    """The bytes of ``commands``: small arguments joined, large ones as they are."""
    buffers: list[bytes | bytearray | memoryview] = []
    joined = bytearray()
    for command in commands:
        joined += b"*%d\r\n" % len(command)
        for argument in command:
            pieces = argument if isinstance(argument, tuple) else (_encoded(argument),)
            joined += b"$%d\r\n" % sum(len(piece) for piece in pieces)
            for piece in pieces:
                if len(piece) < _LARGE_ARGUMENT_BYTES:
                    joined += piece
                else:
                    buffers += (joined, piece)
                    joined = bytearray()
            joined += b"\r\n"
    buffers.append(joined)
    return buffers


def _encoded(argument: str | int | Buffer) -> Buffer:
    if isinstance(argument, str):
        return argument.encode("utf-8", "surrogatepass")
    return b"%d" % argument if isinstance(argument, int) else argument


def _integer(text: bytes) -> int:
    # Python refuses to read numbers of thousands of digits; those are nonsense here anyway.
    if not re.fullmatch(rb"-?[0-9]{1,18}", text):
        raise ProtocolError("a number that is none")
    return int(text)


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)
