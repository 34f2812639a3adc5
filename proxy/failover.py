"""An answer that does not end with the worker that began it.

Workers of ours hold nothing that another one could not have, and asking a second one bills nobody.
So where a worker dies in the middle of a stream, the next one takes the answer over: it gives it
again where the request is sure to get the same one (greedy, or with a seed), and what the client
has of it is left out; else it goes on behind what the client has. An answer that is not streamed
is asked for again as long as it is not whole. When no worker is left, the upstream's ``fallback``
gets the plain text.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson

from .joined_stream import DivergedError, JoinedStream, WorkerFailedError
from .upstream import BrokenOffError, TimedOutError, UnreachableError, Upstream

__all__ = ["BREAKS", "BUSY", "Fallback", "WorkerAnswer"]

BUSY = (429, 503)
BREAKS = (aiohttp.ClientError, OSError, TimeoutError)
_NO_ANSWER = (UnreachableError, BrokenOffError, TimedOutError)

# Sends a body to the first of some addresses that answers: that address, and its answer's head.
Ask = Callable[[Upstream, Sequence[str], bytes], Awaitable[tuple[str, aiohttp.ClientResponse]]]


@dataclass(frozen=True, slots=True)
class Fallback:
    """Who is asked when no worker is left, and the request as plain text."""

    upstream: Upstream
    body: bytes


class WorkerAnswer:
    """One answer from workers that may die. For one request; close it.

    ``resumed`` is told how an answer was taken over: ``replayed``, ``continued`` or ``fallback``,
    and ``broke`` of each address whose stream broke off.
    """

    def __init__(
        self,
        ask: Ask,
        upstream: Upstream,
        bases: Sequence[str],
        body: bytes,
        fallback: Fallback | None,
        *,
        resumed: Callable[[str], None],
        broke: Callable[[], None],
    ) -> None:
        self._ask = ask
        self._upstream = upstream
        self._bases = bases
        self._body = body
        self._fallback = fallback
        self._told_resumed = resumed
        self._told_broke = broke
        self._base = ""
        self._left: deque[str] | None = None
        self._response: aiohttp.ClientResponse | None = None
        self._whole: bytes | None = None
        self._stream = JoinedStream()
        self._diverged = False

    async def open(self) -> aiohttp.ClientResponse:
        """Ask until somebody answers; an answer that is no stream is read whole.

        :raises UnreachableError, BrokenOffError, TimedOutError: of the last one that was asked.
        """
        left = list(self._bases)
        while True:
            response = await self._first(left)
            if _streams(response):
                return response
            try:
                self._whole = await response.read()
                return response
            except BREAKS as error:
                response.close()
                self._broke_off()
                left = [base for base in left if base != self._base]
                if not left and self._fallback is None:
                    raise BrokenOffError(f"{self._base} broke off in mid-answer") from error

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The body that :meth:`open` began, taken over by others as often as that is needed.

        :raises WorkerFailedError: with the event that says why, and nobody was left to ask.
        :raises aiohttp.ClientError, OSError, TimeoutError: the stream broke, and nobody was left.
        """
        if self._whole is not None:
            yield self._whole
            return
        stream = self._stream
        while True:
            failure: Exception
            try:
                async for chunk in _chunks(self._response):
                    for event in stream.feed(chunk):
                        yield event
                failure = aiohttp.ClientPayloadError("the stream ended before the answer did")
            except DivergedError as error:
                self._diverged, failure = True, error
            except WorkerFailedError as error:
                failure = error
            except BREAKS as error:
                failure = error
            if stream.done:
                return
            await self._take_over(failure)

    def close(self) -> None:
        """Let go of the connection; one whose answer was read whole goes back to the pool."""
        if self._response is not None:
            self._response.close()

    async def _first(self, bases: Sequence[str]) -> aiohttp.ClientResponse:
        """The head of the first answer, of the fallback where no worker gives one."""
        failure: Exception | None = None
        if bases:
            try:
                self._base, self._response = await self._ask(self._upstream, bases, self._body)
            except _NO_ANSWER as error:
                failure = error
            else:
                if self._response.status not in BUSY or self._fallback is None:
                    return self._response
                self._response.close()
        fallback, self._fallback = self._fallback, None
        if fallback is None:
            raise failure or UnreachableError("no worker is left")
        urls = fallback.upstream.replicas.bases
        self._base, self._response = await self._ask(fallback.upstream, urls, fallback.body)
        self._upstream, self._body, self._bases = fallback.upstream, fallback.body, ()
        self._left = deque()
        self._told_resumed("fallback")
        return self._response

    async def _take_over(self, failure: Exception) -> None:
        """Have the next one go on, the one that broke off last of all.

        :raises Exception: ``failure``, where nobody is left.
        """
        self.close()
        if self._left is None:
            others = (base for base in self._bases if base != self._base)
            self._left = deque([*others, self._base])
        if isinstance(failure, DivergedError):
            self._left.appendleft(self._base)  # it is well, and gave another answer
        else:
            self._broke_off(down=not isinstance(failure, WorkerFailedError))
        while self._left:
            if await self._resumed_by(self._left.popleft()):
                return
        if not await self._resumed_by_fallback():
            raise failure

    async def _resumed_by(self, base: str) -> bool:
        replay = not self._stream.text or (not self._diverged and _answers_alike(self._body))
        body = self._body if replay else _continuation(self._body, self._stream.text)
        if not await self._reopened(self._upstream, base, body):
            return False
        self._stream.resume(replay=replay)
        self._told_resumed("replayed" if replay else "continued")
        return True

    async def _resumed_by_fallback(self) -> bool:
        fallback, self._fallback = self._fallback, None
        if fallback is None:
            return False
        body = _plain_continuation(fallback.body, self._stream.text, self._stream.n_events)
        if body is None:
            return False
        if not await self._reopened(fallback.upstream, fallback.upstream.replicas.bases[0], body):
            return False
        self._upstream = fallback.upstream
        self._stream.resume(replay=False)
        self._told_resumed("fallback")
        return True

    async def _reopened(self, upstream: Upstream, base: str, body: bytes) -> bool:
        """Whether ``base`` answers with a stream."""
        try:
            _, response = await self._ask(upstream, [base], body)
        except _NO_ANSWER:
            return False
        if response.status != 200 or not _streams(response):
            response.close()
            return False
        self._base, self._response = base, response
        return True

    def _broke_off(self, *, down: bool = True) -> None:
        if down:
            self._upstream.replicas.failed(self._base)
        self._told_broke()


async def _chunks(response: aiohttp.ClientResponse | None) -> AsyncIterator[bytes]:
    while response is not None and not response.content.at_eof():
        yield await response.content.readany()


def _streams(response: aiohttp.ClientResponse) -> bool:
    return response.headers.get("content-type", "").lower().startswith("text/event-stream")


def _answers_alike(body: bytes) -> bool:
    """Whether equal workers give the same answer to this request."""
    request = orjson.loads(body)
    greedy = request.get("temperature") == 0 or request.get("top_k") == 1
    return greedy or isinstance(request.get("seed"), int)


def _continuation(body: bytes, text: str) -> bytes:
    """The request for what comes behind ``text``, as workers understand it."""
    request = orjson.loads(body)
    request["ctxpress"] = {**(request.get("ctxpress") or {}), "continue_from": text}
    return orjson.dumps(request)


def _plain_continuation(body: bytes, text: str, n_tokens: int) -> bytes | None:
    """The same for any engine, as vLLM understands it; None where there is no way to say it."""
    if not text:
        return body
    request: dict[str, Any] = orjson.loads(body)
    if isinstance(request.get("messages"), list):
        request["messages"].append({"role": "assistant", "content": text})
        request |= {"continue_final_message": True, "add_generation_prompt": False}
    elif isinstance(request.get("prompt"), str):
        request["prompt"] += text
    else:
        return None
    for name in ("max_tokens", "max_completion_tokens"):
        if isinstance(request.get(name), int):
            request[name] = max(1, request[name] - n_tokens)
    return orjson.dumps(request)
