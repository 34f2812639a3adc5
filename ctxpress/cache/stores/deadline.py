"""How long one operation may take: more where it turns out to move many bytes."""

from __future__ import annotations

import asyncio
from types import TracebackType

from ctxpress.cache.stores.limits import StoreLimits

__all__ = ["Deadline"]


class Deadline:
    """A time-out for ``size_bytes``, as a context; raises TimeoutError at its end.

    How large a value is that arrives, its first bytes tell: only then is there more time for it.
    """

    def __init__(self, limits: StoreLimits, size_bytes: int = 0) -> None:
        self.size_bytes = size_bytes
        self._limits = limits
        self._timeout = asyncio.timeout(limits.wait_s(size_bytes))

    def announce(self, arriving_bytes: int) -> None:
        """Give the time that ``arriving_bytes`` take; nothing happens after the end."""
        when = self._timeout.when()
        if when is None or self._timeout.expired():
            return
        self.size_bytes += arriving_bytes
        self._timeout.reschedule(when + arriving_bytes / self._limits.min_bytes_per_s)

    async def __aenter__(self) -> Deadline:
        await self._timeout.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._timeout.__aexit__(kind, error, trace)
