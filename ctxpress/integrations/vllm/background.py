"""An event loop in a thread of its own, for the store; and warnings, once a cause."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

__all__ = ["Background", "OnceLog"]

T = TypeVar("T")


class Background:
    """A loop that runs until :meth:`close`."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Run ``work`` there; from any other thread."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def close(self) -> None:
        """End the thread; what still runs in the loop is cancelled."""
        if self._loop.is_closed():
            return
        self.submit(_cancel_others()).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        if not self._thread.is_alive():
            self._loop.close()


class OnceLog:
    """Logs a warning the first time that its cause is met. From any thread."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._lock = threading.Lock()
        self._seen: set[str] = set()

    def warn(self, cause: str, message: str, *values: object) -> None:
        """Log ``message`` where nothing was logged for ``cause`` before."""
        with self._lock:
            if cause in self._seen:
                return
            self._seen.add(cause)
        self._logger.warning("%s (further ones are counted)", message % values)


async def _cancel_others() -> None:
    tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
