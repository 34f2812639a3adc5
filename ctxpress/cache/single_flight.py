"""One caller computes, the others wait: in a process by a task, across processes by a lease.

The lease is a key of the store, set if absent, sealed, with a short life that its holder renews
while it works. Waiters look for the result with growing pauses. Whatever goes wrong with the
lease, somebody computes: it saves work, and nothing depends on it.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
import time
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from enum import Enum
from typing import Any, TypeVar

from ctxpress.cache.key import Namespace
from ctxpress.cache.store import Store
from ctxpress.errors import ConfigError, StoreError

__all__ = ["SingleFlight"]

T = TypeVar("T")

_PURPOSE = "lease"
_FIRST_PAUSE_S = 0.005
_LONGEST_PAUSE_S = 0.25
_LONGEST_WAIT_LEASES = 60  # a holder that renews for longer than that is not waited for


class SingleFlight:
    """Runs a computation once for all callers at the same time, wherever they are.

    Callers in other event loops of this process count as other processes.
    """

    def __init__(self, store: Store, namespace: Namespace, *, lease_s: float) -> None:
        """:raises ConfigError: ``lease_s`` is not above zero."""
        if not lease_s > 0:
            raise ConfigError(f"lease_s must be above zero, and is {lease_s}")
        self._store = store
        self._namespace = namespace
        self._lease_s = lease_s
        self._running: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, _Flight]] = (
            weakref.WeakKeyDictionary()
        )

    async def run(
        self,
        name: str,
        *,
        read: Callable[[], Awaitable[T | None]],
        compute: Callable[[], Awaitable[T]],
        write: Callable[[T], Awaitable[object]],
    ) -> tuple[T, bool]:
        """What ``read`` finds, or what ``compute`` makes; whether this caller made it.

        All callers of one ``name`` get the same result, or the same exception. ``write`` stores
        what was made while the callers go on with it; :meth:`settle` waits for that. A caller that
        is cancelled leaves the work to the others; with the last of them it ends.
        """
        flights = self._running.setdefault(asyncio.get_running_loop(), {})
        flight = flights.get(name)
        first = flight is None
        if flight is None:
            flight = flights[name] = _Flight()
            flight.task = asyncio.create_task(self._lead(name, flight, read, compute, write))
            flight.task.add_done_callback(lambda _: _forget(flights, name, flight))
        flight.waiters += 1
        try:
            result, computed = await asyncio.shield(flight.result)
            return result, first and computed
        finally:
            flight.waiters -= 1
            if not flight.waiters and not flight.result.done():
                _forget(flights, name, flight)
                flight.task.cancel()

    async def settle(self) -> None:
        """Return when nothing that was started in this event loop is still computed or written."""
        flights = self._running.get(asyncio.get_running_loop(), {})
        await asyncio.gather(*(f.task for f in flights.values()), return_exceptions=True)

    async def _lead(
        self,
        name: str,
        flight: _Flight,
        read: Callable[[], Awaitable[T | None]],
        compute: Callable[[], Awaitable[T]],
        write: Callable[[T], Awaitable[object]],
    ) -> None:
        try:
            found = await read()
            if found is not None:
                flight.result.set_result((found, False))
                return
            lease = _Lease(self._store, self._namespace, name, self._lease_s)
            found, state = await self._wait(lease, read)
            if found is not None:
                flight.result.set_result((found, False))
                return
            async with lease.kept() if state is _State.OURS else contextlib.nullcontext():
                found = await read() if state is _State.OURS else None
                if found is not None:  # the holder before us was done just now
                    flight.result.set_result((found, False))
                    return
                made = await compute()
                flight.result.set_result((made, True))
                await write(made)
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError):
                flight.result.cancel()
            elif not flight.result.done():
                flight.result.set_exception(error)
                flight.result.exception()  # whoever waits gets it; where nobody does, nobody cares
            raise

    async def _wait(
        self, lease: _Lease, read: Callable[[], Awaitable[T | None]]
    ) -> tuple[T | None, _State]:
        """What the holder of the lease has made, or nothing when it is our turn."""
        pause_s, until_s = _FIRST_PAUSE_S, time.monotonic() + _LONGEST_WAIT_LEASES * self._lease_s
        while (state := await lease.acquire()) is _State.HELD and time.monotonic() < until_s:
            await asyncio.sleep(pause_s * random.uniform(0.7, 1.0))
            pause_s = min(1.5 * pause_s, _LONGEST_PAUSE_S, self._lease_s)
            found = await read()
            if found is not None:
                return found, state
        return None, state


class _Flight:
    """The work on one name: what it gives, and how many callers wait for that."""

    task: asyncio.Task[None]

    def __init__(self) -> None:
        self.result: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.waiters = 0


def _forget(flights: dict[str, _Flight], name: str, flight: _Flight) -> None:
    if flights.get(name) is flight:
        del flights[name]
    if not flight.task.done() or flight.task.cancelled():
        return
    flight.task.exception()  # its callers have it


class _State(Enum):
    OURS = "ours"
    HELD = "held"  # by somebody else
    NONE = "none"  # there is no lease to be had: work without one


class _Lease:
    def __init__(self, store: Store, namespace: Namespace, name: str, lease_s: float) -> None:
        self._store = store
        self._namespace = namespace
        self._key = namespace.key(_PURPOSE, name)
        self._lease_s = lease_s
        self._value = namespace.seal(self._key, secrets.token_bytes(16))

    async def acquire(self) -> _State:
        """Take the lease where nobody has it."""
        try:
            held = await self._store.set_if_absent(self._key, self._value, ttl_s=self._lease_s)
        except StoreError:
            return _State.NONE
        if held == self._value:
            return _State.OURS
        # What nobody of this namespace wrote is no lease, and would block for as long as it likes.
        return _State.NONE if self._namespace.open(self._key, held) is None else _State.HELD

    @contextlib.asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Renews the lease until the block ends, then gives it back."""
        renewing = asyncio.create_task(self._renew())
        try:
            yield
        finally:
            renewing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await renewing
            await self._give_back()

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._lease_s / 3)
            with contextlib.suppress(StoreError):
                await self._store.get(self._key, ttl_s=self._lease_s)

    async def _give_back(self) -> None:
        # Not atomic: where it ran out just now and somebody else holds it, work is done twice.
        with contextlib.suppress(StoreError):
            if await self._store.get(self._key) == self._value:
                await self._store.delete(self._key)
