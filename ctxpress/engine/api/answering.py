"""From a parsed request to an answer: the events of a generation, in the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ctxpress.engine.generation import Finished, GenerationRequest, Piece
from ctxpress.engine.scheduler import Scheduler

__all__ = ["EventStream", "generating"]


class EventStream:
    """What a generation tells, across from the engine's thread to an event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._events: asyncio.Queue[Piece | Finished] = asyncio.Queue()

    def tell(self, event: Piece | Finished) -> None:
        """Called in the engine's thread."""
        try:
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)
        except RuntimeError:  # the loop is closed: nobody is left to hear it
            return

    async def next(self) -> Piece | Finished:
        """The next event; the last one is a ``Finished``."""
        return await self._events.get()


@asynccontextmanager
async def generating(
    scheduler: Scheduler, request: GenerationRequest
) -> AsyncIterator[EventStream]:
    """A generation that is cancelled where its reader leaves, for whatever reason.

    :raises EngineBusyError, EngineClosedError, ContextLengthError: see ``Scheduler.submit``.
    """
    events = EventStream(asyncio.get_running_loop())
    generation = scheduler.submit(request, events.tell)
    try:
        yield events
    finally:
        generation.cancel()
