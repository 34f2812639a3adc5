"""One request from its first byte to its last: the object that holds its state."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import aiohttp

from ctxpress.formats.references import References
from ctxpress.stage import Skip

from .body import RequestBody, linger
from .compress import compress, goes_untouched, log_once, model_of, without_extension
from .errors import ClientGoneError, RefusedError
from .failover import BREAKS, BUSY
from .headers import HOP_HEADER, RequestHead, read_head, response_headers
from .options import NO_OPTIONS, read_options
from .record import CLIENT_GONE, RequestRecord
from .replicas import Replicas
from .routes import Route
from .routing import votes
from .runtime import Runtime
from .sse import EventStream
from .tenants import Target, Tenant, upstream_credentials
from .types import RawHeaders, Receive, Scope, Send
from .upstream import BrokenOffError, Data, TimedOutError, UnreachableError, Upstream
from .vllm.answering import answer_by_vllm
from .worker_answers import FORMATS, answer_by_workers

__all__ = ["Exchange"]

T = TypeVar("T")

WATCH_AFTER_S = 0.2
_LARGE_BYTES = 256 * 1024


class Exchange:
    """Serves one proxied HTTP request; made for it and thrown away with it."""

    __slots__ = (
        "_body",
        "_client_gone",
        "_done",
        "_taken",
        "_task",
        "_watcher",
        "answering",
        "events",
        "ready",
        "receive",
        "record",
        "route",
        "runtime",
        "scope",
        "send",
        "started",
        "upstream",
    )

    def __init__(
        self, runtime: Runtime, route: Route, scope: Scope, receive: Receive, send: Send
    ) -> None:
        self.runtime = runtime
        self.route = route
        self.scope = scope
        self.receive = receive
        self.send = send
        self.record = RequestRecord(runtime.next_request_id(), route.label)
        self.started = self.ready = time.perf_counter()
        self.upstream: Upstream | None = None
        self.answering = False
        self._done = False
        self._client_gone = False
        self._body: RequestBody | None = None
        self.events: EventStream | None = None
        self._taken: list[tuple[Replicas, str]] = []
        self._task = asyncio.current_task()
        self._watcher: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Serve the request; whatever happens, it is answered, counted and logged."""
        in_flight = self.runtime.in_flight
        in_flight.add(self)
        try:
            await self._serve()
        except RefusedError as refusal:
            await self._refuse(refusal)
        except ClientGoneError:
            self._client_gone = True
        except asyncio.CancelledError:
            if not self._client_gone:
                await self._cut_off()
        except Exception as error:  # a fault of ours: the client gets JSON, the log no text
            log_once(self.runtime, "internal error", error)
            await self._refuse(RefusedError(500, "internal_error", "ctxpress failed; see its log"))
        finally:
            self._done = True
            in_flight.discard(self)
            for replicas, base in self._taken:
                replicas.left(base)
            if self._watcher is not None:
                self._watcher.cancel()
            if self._client_gone:
                self.record.status = CLIENT_GONE
            self.record.account(self.runtime.metrics)
            self.runtime.access.add(self.record)

    def watch(self, now: float) -> None:
        """Begin to look out for a client that leaves; called from time to time.

        Most requests are over before this is worth a task of its own.
        """
        body = self._body
        if self._watcher is None and body is not None and body.complete:
            if now - self.started >= WATCH_AFTER_S:
                self._watcher = asyncio.get_running_loop().create_task(self._watch())

    async def _watch(self) -> None:
        while (await self.receive())["type"] != "http.disconnect":
            pass
        if not self._done and self._task is not None:
            self._client_gone = True
            self._task.cancel()

    async def _serve(self) -> None:
        runtime, scope, route = self.runtime, self.scope, self.route
        head = read_head(scope["headers"])
        tenant = runtime.tenants.identify(head, anthropic=route.shape == "anthropic")
        self.record.tenant = tenant.name
        options = NO_OPTIONS
        if head.own:
            if runtime.instance in head.own.get(HOP_HEADER, ""):
                raise RefusedError(
                    508, "loop_detected", "this upstream is ctxpress itself: mend its base_url"
                )
            options = read_options(head.own, runtime.pipelines)
        target = tenant.target
        raw: bytes | None = None
        references: References | None = None
        if route.format is not None and scope["method"] == "POST":
            self._body = RequestBody(self.receive, head, runtime.config.max_body_bytes)
            if head.encoded or head.signed:
                self.record.skipped = Skip.UNSUPPORTED_TRANSPORT
            else:
                raw, target = await self._read(self._body, tenant)
        else:
            self._body = RequestBody(self.receive, head, None)
            if tenant.routes_by_model and head.json:
                raw, target = await self._read(self._body, tenant)
        self.ready = time.perf_counter()
        if raw is None or route.format is None or self.record.skipped is not None:
            pass  # nothing that could be compressed, or too large for it
        elif goes_untouched(runtime, target, raw):
            self.record.skipped = Skip.OFF
        else:
            done = await compress(
                runtime,
                route.format,
                raw,
                tenant=tenant,
                target=target,
                options=options,
                head=head,
            )
            raw, self.record.skipped, self.record.report = done.body, done.skipped, done.report
            references = done.references
        await self._forward(head, target, raw, references)

    async def _read(self, body: RequestBody, tenant: Tenant) -> tuple[bytes | None, Target]:
        """The body, and where it goes; ``None`` for one that is passed on piece by piece.

        A body that is too large to compress is still read whole: our own field may stand at its
        end, and never goes upstream.
        """
        config, compressed = self.runtime.config, self.route.format is not None
        limit = config.max_body_bytes if tenant.routes_by_model else config.max_compress_bytes
        raw = await body.read(limit)
        if raw is None and compressed:
            raw = await body.read(config.max_body_bytes)
        target = tenant.target
        if tenant.routes_by_model:
            target = tenant.target_for(await _off_loop(model_of, raw or b""))
        if raw is not None and compressed and len(raw) > config.max_compress_bytes:
            self.record.skipped = Skip.TOO_LARGE
            raw = await _off_loop(without_extension, raw)
        return raw, target

    async def _forward(
        self,
        head: RequestHead,
        target: Target,
        raw: bytes | None,
        references: References | None,
    ) -> None:
        """Send the request on and hand the answer back."""
        runtime, body = self.runtime, self._body
        upstream = self.upstream = runtime.pool.upstreams[target.upstream]
        headers = self.headers_for(upstream, head)
        self.record.upstream = upstream.name
        bases: Sequence[str] = upstream.replicas.bases
        if len(bases) > 1:
            given = raw if references is None else references.body
            near = await _off_loop(_votes(upstream, references), given or b"")
            bases = upstream.replicas.order(near)
        data: Data = raw
        if raw is None and body is not None and head.has_body:
            data = body.stream
            if not head.chunked:
                headers.append(("content-length", str(head.content_length)))
        self.record.overhead_s = time.perf_counter() - self.ready
        try:
            if upstream.kind == "worker" and raw is not None and self.route.format in FORMATS:
                return await answer_by_workers(self, head, raw, references, bases)
            documents = runtime.parallel.get(upstream.name)
            if documents is not None and self.route.format in FORMATS:
                if await answer_by_vllm(self, documents, references, headers, bases):
                    return
            _, response = await self.send_to_one(upstream, bases, headers, data)
        except (UnreachableError, BrokenOffError, TimedOutError) as error:
            if body is not None and body.failure is not None:
                raise body.failure from error
            raise self._failed(error) from error
        try:
            await self._relay(response)
        finally:
            response.close()  # returns the connection to the pool where the answer was read whole

    def headers_for(self, upstream: Upstream, head: RequestHead) -> list[tuple[str, str]]:
        """The headers of a request to ``upstream``."""
        runtime = self.runtime
        headers = head.forwarded + upstream_credentials(
            head,
            passthrough=runtime.tenants.passthrough,
            kind=upstream.kind,
            credential=upstream.credential,
        )
        hops = head.own.get(HOP_HEADER) if head.own else None
        headers.append((HOP_HEADER, f"{hops}, {runtime.instance}" if hops else runtime.instance))
        return headers

    async def send_to_one(
        self,
        upstream: Upstream,
        bases: Sequence[str],
        headers: list[tuple[str, str]],
        data: Data,
        *,
        raw_path: bytes | None = None,
    ) -> tuple[str, aiohttp.ClientResponse]:
        """Send to the first of ``bases``; where it fails before it answers, to the next.

        More than one are the operator's own: asking a second one for the same answer bills nobody.
        The address that answered, and the head of its answer. All that were asked count as busy
        with the request until it is over. ``raw_path`` takes the place of the request's own.

        :raises UnreachableError, BrokenOffError, TimedOutError: of the last one.
        """
        scope, pool = self.scope, self.runtime.pool
        for number, base in enumerate(bases, 1):
            last = number == len(bases) or callable(data)  # a body that is passed on goes once
            url = pool.url(base, raw_path or scope["raw_path"], scope["query_string"])
            upstream.replicas.taken(base)
            self._taken.append((upstream.replicas, base))
            try:
                response = await pool.request(upstream, scope["method"], url, headers, data)
            except (UnreachableError, BrokenOffError, TimedOutError) as error:
                upstream.replicas.failed(base)
                if last:
                    raise
                kind = "unreachable" if isinstance(error, UnreachableError) else "broken_off"
                self.runtime.metrics.upstream_failures[upstream.name, kind] += 1
                continue
            if last or response.status not in BUSY:
                upstream.replicas.answered(base)
                return base, response
            response.release()
        raise UnreachableError(f"upstream {upstream.name!r} has no address")

    def _failed(self, error: Exception) -> RefusedError:
        name = self.upstream.name if self.upstream else ""
        kind, status, code = "broken_off", 502, "upstream_broke_off"
        if isinstance(error, UnreachableError):
            kind, code = "unreachable", "upstream_unreachable"
        elif isinstance(error, TimedOutError):
            kind, status, code = "timed_out", 504, "upstream_timed_out"
        self.runtime.metrics.upstream_failures[name, kind] += 1
        return RefusedError(status, code, f"upstream {name!r} failed: {error}")

    async def _relay(self, response: aiohttp.ClientResponse) -> None:
        """Hand on status, headers and every chunk as it comes."""
        send, content = self.send, response.content
        self.record.status = response.status
        headers, streams = response_headers(response.raw_headers, self.record.headers())
        events = self.events = EventStream(self.route.format) if streams else None
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        self.answering = True
        first = True
        while True:
            try:
                chunk = await content.readany()
                last = content.at_eof()
            except BREAKS as error:
                return await self.broken(error)
            if first:
                first = False
                self.first_byte()
            if events is not None:
                events.saw(chunk)
            await send({"type": "http.response.body", "body": chunk, "more_body": not last})
            if last:
                return

    def first_byte(self) -> None:
        """The answer begins."""
        seconds = time.perf_counter() - self.ready
        self.runtime.metrics.ttfb[self.route.label,].observe(seconds)

    async def broken(self, error: Exception) -> None:
        """The upstream died in the middle: say so, or let the client see a broken connection."""
        metrics = self.runtime.metrics
        metrics.errors[self.record.tenant, "stream_broken"] += 1
        name = self.upstream.name if self.upstream else ""
        metrics.upstream_failures[name, "broken_stream"] += 1
        reason = "was silent for too long" if isinstance(error, TimeoutError) else "broke off"
        await self._end_events("upstream_broke_off", f"upstream {name!r} {reason} in mid-answer")

    async def _cut_off(self) -> None:
        """The server's patience with a drain is over."""
        message = "the proxy is shutting down"
        if not self.answering:
            await self._refuse(RefusedError(503, "shutting_down", message))
        else:
            await self._end_events("shutting_down", message)

    async def _end_events(self, code: str, message: str) -> None:
        """End a stream of events with the provider's own error.

        Any other answer is left unfinished: the server then closes the connection, and the
        client sees that bytes are missing.
        """
        if self.events is not None:
            body = self.events.ending(code, message)
            await self.send({"type": "http.response.body", "body": body, "more_body": False})

    async def _refuse(self, refusal: RefusedError) -> None:
        self.record.status = refusal.status
        if refusal.status >= 500:
            self.runtime.metrics.errors[self.record.tenant, refusal.code] += 1
        if self.answering:  # too late for words
            return
        content = refusal.body(self.route.shape)
        headers: RawHeaders = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(content)).encode()),
            *self.record.headers(),
        ]
        body = self._body
        unread = refusal.status == 413
        if unread:
            headers.append((b"connection", b"close"))
        await self.send(
            {"type": "http.response.start", "status": self.record.status, "headers": headers}
        )
        await self.send({"type": "http.response.body", "body": content, "more_body": unread})
        if unread:
            await linger(self.receive, complete=body is not None and body.complete)
            await self.send({"type": "http.response.body", "body": b"", "more_body": False})


def _votes(
    upstream: Upstream, references: References | None
) -> Callable[[bytes], list[tuple[str, int]]]:
    """What a body for ``upstream`` wants to be near to."""
    return partial(votes, references=references, by_opening=upstream.kind == "vllm")


async def _off_loop(function: Callable[[bytes], T], raw: bytes) -> T:
    """``function`` of a body, in a thread where the body is large enough to hold the loop up."""
    return function(raw) if len(raw) < _LARGE_BYTES else await asyncio.to_thread(function, raw)
