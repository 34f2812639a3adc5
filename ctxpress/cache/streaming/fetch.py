"""Does what the controller decides: loads, decodes and recomputes side by side.

One task a machine: while the link carries a chunk, another is decoded and a third recomputed. The
controller is asked again after each of them, and every few milliseconds whether a transfer is still
worth its while. A chunk whose KV does not come, comes short or cannot be decoded is recomputed from
text, and the report says so; only a failing recompute is an error, since nothing is left then.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import aclosing
from typing import Any, Protocol

from ctxpress.cache.streaming.controller import StreamingController, Transfer
from ctxpress.cache.streaming.options import check_number
from ctxpress.cache.streaming.report import StreamingReport
from ctxpress.errors import CodecError, StoreError

__all__ = ["Decode", "KVSource", "Prefill", "fetch_context"]

LOAD_ERRORS = (StoreError, CodecError, OSError)


class KVSource(Protocol):
    """Where KV comes from, such as a store over a network."""

    def open(self, chunk: int, level: str) -> AsyncGenerator[bytes | memoryview, None]:
        """The bytes of ``chunk`` at ``level``, in pieces, in order.

        Closed early where the transfer is given up. May raise StoreError, CodecError or OSError
        (TimeoutError is one); anything else is a fault of the program and goes to the caller of
        :func:`fetch_context`.
        """


Decode = Callable[[int, str, bytes], Awaitable[None]]
"""``await decode(chunk, level, data)`` puts a chunk's KV in place, instead of what was there.

Raises CodecError for bytes that are no such KV. Chunks come in any order, one at a time."""

Prefill = Callable[[int], Awaitable[None]]
"""``await prefill(chunk)`` recomputes a chunk; all chunks before it are in place. One at a time."""


async def fetch_context(
    controller: StreamingController,
    source: KVSource,
    *,
    decode: Decode,
    prefill: Prefill,
    clock: Callable[[], float],
    tick_ms: float = 10.0,
) -> StreamingReport:
    """Put every chunk of ``controller`` in place, and report.

    ``clock``: milliseconds, the clock that the controller was given its start by. ``tick_ms``: how
    often a transfer is looked at. When the caller is cancelled, everything under way is, too, and
    the source's iterators are closed.

    :raises ValueError: ``tick_ms`` is not finite and above zero.
    :raises Exception: what ``prefill`` raises, and what ``decode`` and the source raise that is
        not named above; after everything else was ended.
    """
    if check_number("tick_ms", tick_ms) <= 0.0:
        raise ValueError("tick_ms must be above zero")
    await _Fetch(controller, source, decode, prefill, clock, tick_ms).run()
    return controller.report


class _Fetch:
    def __init__(
        self,
        controller: StreamingController,
        source: KVSource,
        decode: Decode,
        prefill: Prefill,
        clock: Callable[[], float],
        tick_ms: float,
    ) -> None:
        self._controller, self._source = controller, source
        self._decode, self._prefill = decode, prefill
        self._clock, self._tick_s = clock, tick_ms / 1000
        self._arrived: asyncio.Queue[tuple[Transfer, bytes]] = asyncio.Queue()
        self._changed = asyncio.Event()
        self._flight: asyncio.Task[None] | None = None
        self._transfer: Transfer | None = None
        self._received_bytes = 0

    async def run(self) -> None:
        """Until every chunk is in place."""
        tasks = {asyncio.create_task(self._decode_all())}
        waiter: asyncio.Task[bool] | None = None
        try:
            while True:
                self._changed.clear()
                self._begin(tasks)
                if self._controller.finished:
                    return
                waiter = asyncio.create_task(self._changed.wait())
                timeout = self._tick_s if self._flight is not None else None
                done, _ = await asyncio.wait(
                    {*tasks, waiter}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED
                )
                waiter.cancel()
                for task in done - {waiter}:
                    tasks.discard(task)
                    task.result()  # a fault of the program ends everything
                await self._look_at_transfer(tasks)
        finally:
            ends = [*tasks, *([waiter] if waiter is not None else [])]
            for one in ends:
                one.cancel()
            await asyncio.gather(*ends, return_exceptions=True)

    def _begin(self, tasks: set[asyncio.Task[None]]) -> None:
        """Start what the controller wants next on link and compute."""
        chunk = self._controller.begin_prefill(self._clock())
        if chunk is not None:
            tasks.add(self._started(self._recompute(chunk)))
        if self._flight is None:
            transfer = self._controller.begin_transfer(self._clock())
            if transfer is not None:
                self._transfer, self._received_bytes = transfer, 0
                self._flight = self._started(self._load(transfer))
                tasks.add(self._flight)

    def _started(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return asyncio.create_task(work)

    async def _look_at_transfer(self, tasks: set[asyncio.Task[None]]) -> None:
        flight = self._flight
        if flight is None or flight.done():
            return
        if not self._controller.keep_transfer(self._clock(), self._received_bytes):
            self._flight = self._transfer = None
            tasks.discard(flight)
            flight.cancel()
            await asyncio.gather(flight, return_exceptions=True)

    async def _load(self, transfer: Transfer) -> None:
        pieces: list[bytes | memoryview] = []
        size_bytes, problem = 0, ""
        try:
            async with aclosing(self._source.open(transfer.chunk, transfer.level)) as stream:
                async for piece in stream:
                    if self._transfer is not transfer:
                        return  # given up, by a source that did not notice
                    pieces.append(piece)
                    size_bytes += len(piece)
                    self._received_bytes = size_bytes
                    if size_bytes > transfer.size_bytes:
                        break
        except LOAD_ERRORS as error:
            problem = str(error) or type(error).__name__
        if self._transfer is not transfer:
            return
        if not problem and size_bytes != transfer.size_bytes:
            problem = f"{size_bytes} bytes came, {transfer.size_bytes} were promised"
        self._flight = self._transfer = None
        if problem:
            self._controller.fail_transfer(self._clock(), problem, size_bytes)
        else:
            self._controller.end_transfer(self._clock())
            self._arrived.put_nowait((transfer, b"".join(pieces)))
        self._changed.set()

    async def _decode_all(self) -> None:
        while True:
            transfer, data = await self._arrived.get()
            began = self._clock()
            try:
                await self._decode(transfer.chunk, transfer.level, data)
            except CodecError as error:
                self._controller.fail_decode(transfer.chunk, self._clock(), str(error))
            else:
                now = self._clock()
                self._controller.end_decode(transfer.chunk, now, max(now - began, 0.0))
            self._changed.set()

    async def _recompute(self, chunk: int) -> None:
        began = self._clock()
        await self._prefill(chunk)
        now = self._clock()
        self._controller.end_prefill(now, max(now - began, 0.0))
        self._changed.set()
