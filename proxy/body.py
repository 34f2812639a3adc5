"""A request's body as it comes in: read up to a limit, or passed on piece by piece."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from .errors import ClientGoneError, RefusedError
from .headers import RequestHead
from .types import Receive

__all__ = ["RequestBody", "linger"]

LINGER_BYTES = 64 * 1024 * 1024
LINGER_S = 1.0


class RequestBody:
    """The body of one request.

    ``max_bytes`` is ``None`` where there is no limit. ``complete`` turns true when its last byte
    was received; until then nobody else may call ``receive``. ``failure`` holds what ended the
    body early, since an HTTP client that iterates over :meth:`stream` hides it.
    """

    __slots__ = ("_pieces", "_receive", "complete", "failure", "max_bytes", "received")

    def __init__(self, receive: Receive, head: RequestHead, max_bytes: int | None) -> None:
        self._receive = receive
        self._pieces: list[bytes] = []
        self.max_bytes = max_bytes
        self.received = 0
        self.complete = not head.has_body
        self.failure: ClientGoneError | RefusedError | None = None
        if max_bytes is not None and (head.content_length or 0) > max_bytes:
            raise too_large(max_bytes)

    async def read(self, limit: int) -> bytes | None:
        """The whole body, or ``None`` where it is larger than ``limit`` bytes.

        What was read is not lost: :meth:`stream` begins with it.

        :raises ClientGoneError: the client left before the end.
        :raises RefusedError: 413, the body is larger than ``max_bytes``.
        """
        if self.complete:
            return b""
        piece = await self._next()
        if self.complete and len(piece) <= limit:  # most bodies come in one piece
            return piece
        pieces = self._pieces
        pieces.append(piece)
        if self.received > limit:
            return None
        while not self.complete:
            pieces.append(await self._next())
            if self.received > limit:
                return None
        self._pieces = []
        return b"".join(pieces)

    async def stream(self) -> AsyncIterator[bytes]:
        """The pieces of the body as they come; what :meth:`read` took comes first."""
        pieces, self._pieces = self._pieces, []
        for piece in pieces:
            yield piece
        while not self.complete:
            piece = await self._next()
            if piece:
                yield piece

    async def _next(self) -> bytes:
        message = await self._receive()
        if message["type"] != "http.request":
            self.failure = ClientGoneError()
            raise self.failure
        piece: bytes = message.get("body", b"")
        self.received += len(piece)
        self.complete = not message.get("more_body", False)
        if self.max_bytes is not None and self.received > self.max_bytes:
            self.failure = too_large(self.max_bytes)
            raise self.failure
        return piece


def too_large(max_bytes: int) -> RefusedError:
    """The refusal of a body over the limit."""
    return RefusedError(
        413, "request_too_large", f"the request body is larger than {max_bytes} bytes"
    )


async def linger(receive: Receive, *, complete: bool) -> None:
    """Read what a refused client is still sending, until it stops or has sent too much.

    Closing at once would reset the connection, and the client would never read the refusal.
    """
    left = LINGER_BYTES
    try:
        while not complete and left > 0:
            message = await asyncio.wait_for(receive(), LINGER_S)
            if message["type"] != "http.request":
                return
            left -= len(message.get("body", b""))
            complete = not message.get("more_body", False)
    except TimeoutError:
        return
