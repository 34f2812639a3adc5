"""The worker over HTTP: raw ASGI, OpenAI's paths and shapes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any

import orjson

from ctxpress.engine.api.answering import EventStream, generating
from ctxpress.engine.api.answers import AnswerWriter
from ctxpress.engine.api.errors import ApiError, api_error_of
from ctxpress.engine.api.requests import AnswerRequest, parse_chat, parse_completion
from ctxpress.engine.generation import Finished, Piece
from ctxpress.engine.metrics import CONTENT_TYPE, WorkerMetrics
from ctxpress.engine.worker import Worker
from ctxpress.errors import EngineClosedError

__all__ = ["MAX_BODY_BYTES", "WorkerApp"]

logger = logging.getLogger("ctxpress.engine")

MAX_BODY_BYTES = 64 * 2**20
_EVENTS = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")]

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class ClientGone(Exception):
    """The client left before its request was whole."""


class WorkerApp:
    """Serves a worker. Holds nothing of a request."""

    def __init__(self, worker: Worker, *, max_body_bytes: int = MAX_BODY_BYTES) -> None:
        self._worker = worker
        self._max_body_bytes = max_body_bytes
        self.metrics = WorkerMetrics(worker)
        self.draining = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection of the ASGI server."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif scope["type"] == "http":
            send = self._counted(scope["path"], send)
            try:
                await self._serve(scope, receive, send)
            except ApiError as error:
                self.metrics.failed(error.code or error.kind)
                await _respond(send, error.status, error.body, error.headers)
            except ClientGone:
                self.metrics.failed("client_gone")

    def _counted(self, path: str, send: Send) -> Send:
        """``send``, which also counts the answer."""

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.metrics.answered(path, message["status"])
            await send(message)

        return counted

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        method, path = scope["method"], scope["path"]
        if method == "POST" and path == "/v1/chat/completions":
            await self._answer(path, parse_chat, receive, send)
        elif method == "POST" and path == "/v1/completions":
            await self._answer(path, parse_completion, receive, send)
        elif method == "POST" and path == "/v1/ctxpress/prefetch":
            await self._prefetch(await self._body(receive), receive, send)
        elif method == "GET" and path == "/v1/models":
            await _respond(send, 200, self._models())
        elif method == "GET" and path == "/metrics":
            await _respond(send, 200, self.metrics.render(), kind=CONTENT_TYPE.encode())
        elif method == "GET" and path in ("/livez", "/health"):
            await _respond(send, 200, b'{"status":"alive"}')
        elif method == "GET" and path == "/readyz":
            ready = not self.draining
            body = b'{"status":"ready"}' if ready else b'{"status":"draining"}'
            await _respond(send, 200 if ready else 503, body)
        else:
            raise ApiError(f"nothing answers {method} {path}", status=404, code="not_found")

    async def _answer(
        self, path: str, parse: Callable[[bytes], AnswerRequest], receive: Receive, send: Send
    ) -> None:
        body = await self._body(receive)
        begun_s = time.perf_counter()
        try:
            request = parse(body)
            wanted = await asyncio.to_thread(self._worker.generation_request, request)
            writer = AnswerWriter(
                self._worker.model.name,
                self._worker.token_text,
                chat=request.is_chat,
                logprobs=request.logprobs,
                include_usage=request.include_usage,
                begun_tokens=wanted.begun_tokens,
            )

            def first() -> None:
                self.metrics.first_token(path, time.perf_counter() - begun_s)

            async with generating(self._worker.scheduler, wanted, on_first=first) as events:
                answer = _stream if request.stream else _whole
                await _unless_gone(receive, answer(events, writer, send))
        except ApiError:
            raise
        except Exception as error:
            raise api_error_of(error) from error

    async def _prefetch(self, body: bytes, receive: Receive, send: Send) -> None:
        """Documents are computed and kept; the body is that of a request that would use them."""
        try:
            request = parse_chat(body) if b'"messages"' in body else parse_completion(body)
            wanted = await asyncio.to_thread(self._worker.prefetch_request, request)
            async with generating(self._worker.scheduler, wanted) as events:
                await _unless_gone(receive, _fetched(events, send))
        except ApiError:
            raise
        except Exception as error:
            raise api_error_of(error) from error

    async def _body(self, receive: Receive) -> bytes:
        pieces, size = [], 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            piece = message.get("body", b"")
            size += len(piece)
            if size > self._max_body_bytes:
                raise ApiError(
                    f"the body has more than {self._max_body_bytes} bytes",
                    status=413,
                    code="body_too_large",
                )
            pieces.append(piece)
            if not message.get("more_body"):
                return b"".join(pieces)

    def _models(self) -> bytes:
        model = self._worker.model
        return orjson.dumps(
            {
                "object": "list",
                "data": [
                    {
                        "id": model.name,
                        "object": "model",
                        "created": 0,
                        "owned_by": "ctxpress",
                        "max_model_len": model.max_tokens,
                    }
                ],
            }
        )


async def _whole(events: EventStream, writer: AnswerWriter, send: Send) -> None:
    pieces = []
    while isinstance(event := await events.next(), Piece):
        pieces.append(event)
    _raise_if_failed(event)
    await _respond(send, 200, writer.whole(pieces, event))


async def _stream(events: EventStream, writer: AnswerWriter, send: Send) -> None:
    event = await events.next()  # an error before the first token still has its own status
    if isinstance(event, Finished):
        _raise_if_failed(event)
    await send({"type": "http.response.start", "status": 200, "headers": _EVENTS})
    data = writer.start()
    while isinstance(event, Piece):
        data += writer.piece(event)
        if data:
            await send({"type": "http.response.body", "body": data, "more_body": True})
        data = b""
        event = await events.next()
    if (failure := _failure(event)) is not None:
        data += b"data: " + failure.body + b"\n\n"
    else:
        data += writer.end(event)
    await send({"type": "http.response.body", "body": data, "more_body": False})


async def _fetched(events: EventStream, send: Send) -> None:
    event = await events.next()
    if isinstance(event, Finished):
        _raise_if_failed(event)
        await _respond(send, 200, orjson.dumps({"object": "ctxpress.prefetch", **event.report}))


def _raise_if_failed(event: Finished) -> None:
    failure = _failure(event)
    if failure is not None:
        raise failure


def _failure(event: Finished) -> ApiError | None:
    """Why an answer has no end of its own; None where it has."""
    if event.reason == "error":
        return api_error_of(event.error or RuntimeError())
    if event.reason == "cancelled":  # a client that leaves hears of nothing, so we are leaving
        return api_error_of(EngineClosedError("the worker is shutting down"))
    return None


async def _unless_gone(receive: Receive, work: Any) -> None:
    """Do ``work`` until it is done or the client is gone."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientGone
        working.result()
    finally:
        for task in (working, leaving):
            task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await task


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _respond(
    send: Send,
    status: int,
    body: bytes,
    headers: list[tuple[bytes, bytes]] | None = None,
    *,
    kind: bytes = b"application/json",
) -> None:
    head = [(b"content-type", kind), (b"content-length", str(len(body)).encode()), *(headers or [])]
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def _lifespan(receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})
