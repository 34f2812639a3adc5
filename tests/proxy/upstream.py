"""An upstream over a real socket that records every byte and misbehaves on request."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field


@dataclass
class Received:
    """One request as it came over the wire; ``gone`` is set when the caller hung up."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name), None)


class Reply:
    """What a handler writes with."""

    def __init__(self, writer: asyncio.StreamWriter, method: str = "GET") -> None:
        self._writer = writer
        self._bodiless = method == "HEAD"

    async def raw(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def full(
        self, status: int = 200, body: bytes = b"{}", headers: tuple[tuple[str, str], ...] = ()
    ) -> None:
        given = {name.lower() for name, _ in headers}
        lines = [f"HTTP/1.1 {status} Whatever", *(f"{k}: {v}" for k, v in headers)]
        if "content-type" not in given:
            lines.append("content-type: application/json")
        lines.append(f"content-length: {len(body)}")
        await self.raw(
            "\r\n".join(lines).encode() + b"\r\n\r\n" + (b"" if self._bodiless else body)
        )

    async def json(self, value: object, status: int = 200, **headers: str) -> None:
        named = tuple((key.replace("_", "-"), item) for key, item in headers.items())
        await self.full(status, json.dumps(value).encode(), named)

    async def begin_stream(self, content_type: str = "text/event-stream", extra: str = "") -> None:
        await self.raw(
            f"HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\n{extra}"
            "transfer-encoding: chunked\r\n\r\n".encode()
        )

    async def chunk(self, data: bytes) -> None:
        await self.raw(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    async def end_stream(self) -> None:
        await self.raw(b"0\r\n\r\n")

    def die(self) -> None:
        self._writer.transport.abort()


Handler = Callable[[Received, Reply], Awaitable[None]]


async def echo(request: Received, reply: Reply) -> None:
    await reply.json({"target": request.target, "length": len(request.body)})


class FakeUpstream:
    """``received`` holds all requests; ``handler`` answers them."""

    def __init__(self, handler: Handler = echo) -> None:
        self.handler = handler
        self.received: list[Received] = []
        self.port = 0
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def last(self) -> Received:
        return self.received[-1]

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[FakeUpstream]:
        server = await asyncio.start_server(self._connection, "127.0.0.1", self.port)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while await self._request(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
        method, target, _ = first.split(" ")
        headers = [(k, v.strip()) for k, _, v in (line.partition(":") for line in lines)]
        request = Received(method, target, headers, b"")
        self.received.append(request)
        if request.header("transfer-encoding"):
            while size := int(await reader.readline(), 16):
                request.body += await reader.readexactly(size)
                await reader.readline()
            await reader.readline()
        else:
            request.body = await reader.readexactly(int(request.header("content-length") or 0))
        answering = asyncio.create_task(self.handler(request, Reply(writer, method)))
        try:
            while not answering.done():
                watching = asyncio.create_task(_until_gone(reader))
                await asyncio.wait({answering, watching}, return_when=asyncio.FIRST_COMPLETED)
                if watching.done() and not watching.cancelled() and watching.result():
                    request.gone.set()
                    return False
                watching.cancel()
            await answering
        finally:
            answering.cancel()
        return not writer.transport.is_closing()


async def _until_gone(reader: asyncio.StreamReader) -> bool:
    while not reader.at_eof():  # noqa: ASYNC110 - reading would take the next request's bytes
        await asyncio.sleep(0.01)
    return True
