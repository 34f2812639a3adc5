"""A request whose documents vLLM loads: sent to its completions, answered in its own shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import aiohttp

from ctxpress.formats.references import References

from ..compress import log_once
from ..failover import BREAKS, BUSY
from ..headers import response_headers
from ..record import PARALLEL
from ..sse import EventStream
from ..upstream import BrokenOffError
from .parallel import ParallelDocuments, ParallelRequest
from .reasons import NotParallelError, PlainPath

if TYPE_CHECKING:
    from ..forward import Exchange

__all__ = ["answer_by_vllm"]

_CHAT_PATH = b"chat/completions"
_ACCEPT_ENCODING = "accept-encoding"  # what is read on its way must not be compressed


async def answer_by_vllm(
    exchange: Exchange,
    documents: ParallelDocuments,
    references: References | None,
    headers: list[tuple[str, str]],
    bases: Sequence[str],
) -> bool:
    """Whether the request was answered so; where not, the record says why, and text is to go.

    :raises UnreachableError, BrokenOffError, TimedOutError: nobody answers.
    """
    record = exchange.record
    try:
        request = await documents.prepare(exchange.route.format or "", references, headers)
    except NotParallelError as error:
        record.kv = error.reason
        return False
    except Exception as error:
        record.kv = PlainPath.FAILED
        log_once(exchange.runtime, "documents in parallel failed, they go as text", error)
        return False
    response = await _sent(exchange, request, headers, bases)
    if response is None:
        record.kv = PlainPath.REFUSED
        return False
    record.kv = PARALLEL
    try:
        await _relay(exchange, response, request)
    finally:
        response.close()
    return True


async def _sent(
    exchange: Exchange,
    request: ParallelRequest,
    headers: list[tuple[str, str]],
    bases: Sequence[str],
) -> aiohttp.ClientResponse | None:
    """The head of the answer; None where vLLM does not want the request in this form."""
    upstream = exchange.upstream
    if upstream is None:
        raise RuntimeError("the request has no upstream yet")
    path = exchange.scope["raw_path"].rstrip(b"/")
    if path.endswith(_CHAT_PATH):
        path = path.removesuffix(_CHAT_PATH) + b"completions"
    kept = [pair for pair in headers if pair[0].lower() != _ACCEPT_ENCODING]
    _, response = await exchange.send_to_one(upstream, bases, kept, request.body, raw_path=path)
    encoded = response.headers.get("content-encoding", "identity") != "identity"
    if (response.status == 200 and not encoded) or response.status in BUSY:
        return response
    response.close()
    return None


async def _relay(
    exchange: Exchange, response: aiohttp.ClientResponse, request: ParallelRequest
) -> None:
    send, record = exchange.send, exchange.record
    headers, streams = response_headers(response.raw_headers, record.headers())
    headers = [pair for pair in headers if pair[0].lower() != b"content-length"]
    if not streams:
        try:
            whole = request.whole(await response.read())
        except BREAKS as error:
            raise BrokenOffError(f"{type(error).__name__} in mid-answer") from error
        exchange.first_byte()
        headers.append((b"content-length", b"%d" % len(whole)))
    record.status = response.status
    start = {"type": "http.response.start", "status": response.status, "headers": headers}
    exchange.events = EventStream(exchange.route.format) if streams else None
    await send(start)
    exchange.answering = True
    if streams:
        await _relay_events(exchange, response, request)
    else:
        await send({"type": "http.response.body", "body": whole, "more_body": False})


async def _relay_events(
    exchange: Exchange, response: aiohttp.ClientResponse, request: ParallelRequest
) -> None:
    """Every event as soon as it is whole."""
    content, first, last = response.content, True, False
    while not last:
        try:
            chunk = await content.readany()
            last = content.at_eof()
        except BREAKS as error:
            return await exchange.broken(error)
        if first:
            first = False
            exchange.first_byte()
        chunk = request.events(chunk, last=last)
        if exchange.events is not None:
            exchange.events.saw(chunk)
        if chunk or last:
            body = {"type": "http.response.body", "body": chunk, "more_body": not last}
            await exchange.send(body)
