"""From a parsed request to an answer: the events of a generation, in the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from ctxpress.engine.generation import Finished, GenerationRequest, Piece
from ctxpress.engine.scheduler import Scheduler

__all__ = ["EventStream", "generating"]


class EventStream:
    """What a generation tells, across from the engine's thread to an event loop.

    ``on_first`` is called in the loop when the first token is read.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, on_first: Callable[[], None] | None = None
    ) -> None:
        self._loop = loop
        self._on_first = on_first
        self._events: asyncio.Queue[Piece | Finished] = asyncio.Queue()

    def tell(self, event: Piece | Finished) -> None:
        """Called in the engine's thread."""
        try:
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)
        except RuntimeError:  # the loop is closed: nobody is left to hear it
            return

    async def next(self) -> Piece | Finished:
        """The next event; the last one is a ``Finished``."""
        event = await self._events.get()
        if self._on_first is not None and isinstance(event, Piece):
            self._on_first()
            self._on_first = None
        return event


@asynccontextmanager
async def generating(
    scheduler: Scheduler,
    request: GenerationRequest,
    *,
    on_first: Callable[[], None] | None = None,
) -> AsyncIterator[EventStream]:
    """A generation that is cancelled where its reader leaves, for whatever reason.

    ``on_first``: see :class:`EventStream`.

    :raises EngineBusyError, EngineClosedError, ContextLengthError: see ``Scheduler.submit``.
    """
    events = EventStream(asyncio.get_running_loop(), on_first)
    generation = scheduler.submit(request, events.tell)
    try:
        yield events
    finally:
        generation.cancel()
