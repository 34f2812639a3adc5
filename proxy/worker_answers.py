"""A request to workers of ours: who is asked, and how their answer reaches the client."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING

import aiohttp
import orjson

from ctxpress.formats.references import References

from .failover import BREAKS, Fallback, WorkerAnswer
from .headers import RequestHead, response_headers
from .joined_stream import WorkerFailedError
from .runtime import Runtime
from .sse import EventStream
from .upstream import Upstream

if TYPE_CHECKING:
    from .forward import Exchange

__all__ = ["FORMATS", "answer_by_workers"]

FORMATS = frozenset({"openai_chat", "openai_completions"})
_ACCEPT_ENCODING = "accept-encoding"  # a stream that is read on its way must not be compressed


async def answer_by_workers(
    exchange: Exchange,
    head: RequestHead,
    raw: bytes,
    references: References | None,
    bases: Sequence[str],
) -> None:
    """Have the workers at ``bases`` answer, the next one where one dies.

    ``raw`` is the request as plain text, ``references`` the same with documents as references.

    :raises UnreachableError, BrokenOffError, TimedOutError: nobody answers.
    """
    runtime, upstream = exchange.runtime, exchange.upstream
    if upstream is None:
        raise RuntimeError("the request has no upstream yet")

    async def ask(
        asked: Upstream, bases: Sequence[str], data: bytes
    ) -> tuple[str, aiohttp.ClientResponse]:
        exchange.upstream = asked
        headers = exchange.headers_for(asked, head)
        headers = [pair for pair in headers if pair[0].lower() != _ACCEPT_ENCODING]
        return await exchange.send_to_one(asked, bases, headers, data)

    def resumed(how: str) -> None:
        runtime.metrics.resumed[upstream.name, how] += 1

    def broke() -> None:
        runtime.metrics.upstream_failures[upstream.name, "broken_stream"] += 1

    answer = WorkerAnswer(
        ask,
        upstream,
        bases,
        raw if references is None else references.body,
        _fallback(runtime, upstream, raw),
        resumed=resumed,
        broke=broke,
    )
    try:
        await _relay(exchange, answer)
    finally:
        answer.close()


def _fallback(runtime: Runtime, upstream: Upstream, raw: bytes) -> Fallback | None:
    if upstream.fallback is None:
        return None
    if upstream.fallback_model is not None:
        raw = orjson.dumps({**orjson.loads(raw), "model": upstream.fallback_model})
    return Fallback(runtime.pool.upstreams[upstream.fallback], raw)


async def _relay(exchange: Exchange, answer: WorkerAnswer) -> None:
    send, response = exchange.send, await answer.open()
    exchange.record.status = response.status
    own = exchange.record.headers()
    headers, streams = response_headers(response.raw_headers, own)
    events = exchange.events = EventStream(exchange.route.format) if streams else None
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    exchange.answering = True
    first = True
    async with aclosing(answer.chunks()) as chunks:
        while True:
            try:
                chunk = await anext(chunks, None)
            except WorkerFailedError as error:
                metrics = exchange.runtime.metrics
                metrics.errors[exchange.record.tenant, "stream_broken"] += 1
                last = error.event
                await send({"type": "http.response.body", "body": last, "more_body": False})
                return
            except BREAKS as error:
                return await exchange.broken(error)
            if chunk is None:
                break
            if first:
                first = False
                exchange.first_byte()
            if events is not None:
                events.saw(chunk)
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})
