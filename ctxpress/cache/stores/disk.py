"""The store of one machine: an SQLite file in a folder, shared by processes, kept over restarts."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from ctxpress.cache.stores.disk_file import DiskFile
from ctxpress.cache.stores.limits import StoreLimits
from ctxpress.errors import ConfigError, StoreError

__all__ = ["DiskStore"]

T = TypeVar("T")

_MIN_BYTES = 2**18


class DiskStore:
    """Values in ``folder``, about ``max_bytes`` on disk; what would expire first goes first.

    SQLite works in a thread of its own. The file is opened by the first operation, so nothing
    fails before, and a damaged one is moved aside with a warning. An operation that is cancelled
    or runs out of time may still happen.
    """

    def __init__(self, folder: Path, *, max_bytes: int, limits: StoreLimits) -> None:
        """Opens nothing.

        :raises ConfigError: ``max_bytes`` is less than an empty file takes up.
        """
        if max_bytes < _MIN_BYTES:
            raise ConfigError(f"a disk store needs max_bytes of at least {_MIN_BYTES}")
        self._folder = folder
        self._limits = limits
        self._file = DiskFile(
            folder,
            max_bytes=max_bytes,
            max_value_bytes=limits.max_value_bytes,
            busy_timeout_s=limits.timeout_s,
        )
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="ctxpress-disk")
        # Whoever forgets aclose() must not leave a thread and a file behind.
        self._release = weakref.finalize(self, _release, self._executor, self._file)

    async def get(self, key: str, *, ttl_s: float | None = None) -> bytes | None:
        """See :class:`~ctxpress.cache.store.Store`."""
        return (await self.get_many((key,), ttl_s=ttl_s))[0]

    async def get_many(
        self, keys: Sequence[str], *, ttl_s: float | None = None
    ) -> list[bytes | None]:
        """See :class:`~ctxpress.cache.store.Store`; lives are renewed to within 2 %."""
        ttl_s = None if ttl_s is None else self._limits.check_ttl(ttl_s)
        wanted = tuple(keys)
        return await self._run(lambda: self._file.read(wanted, ttl_s=ttl_s)) if wanted else []

    async def put(self, key: str, value: bytes, *, ttl_s: float) -> None:
        """See :class:`~ctxpress.cache.store.Store`."""
        self._limits.check_value(value)
        ttl_s = self._limits.check_ttl(ttl_s)
        await self._run(lambda: self._file.write(key, value, ttl_s=ttl_s))

    async def set_if_absent(self, key: str, value: bytes, *, ttl_s: float) -> bytes:
        """See :class:`~ctxpress.cache.store.Store`."""
        return (await self.set_many_if_absent(((key, value),), ttl_s=ttl_s))[0]

    async def set_many_if_absent(
        self, items: Sequence[tuple[str, bytes]], *, ttl_s: float
    ) -> list[bytes]:
        """See :class:`~ctxpress.cache.store.Store`."""
        for _, value in items:
            self._limits.check_value(value)
        ttl_s = self._limits.check_ttl(ttl_s)
        wanted = tuple(items)
        return await self._run(lambda: self._file.claim(wanted, ttl_s=ttl_s)) if wanted else []

    async def delete(self, key: str) -> None:
        """See :class:`~ctxpress.cache.store.Store`."""
        await self._run(lambda: self._file.delete(key))

    async def ping(self) -> None:
        """See :class:`~ctxpress.cache.store.Store`."""
        await self._run(self._file.check)

    async def aclose(self) -> None:
        """Close the file when the operation that runs now is done."""
        closed = self._release()
        if closed is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._limits.timeout_s):
                    await asyncio.shield(asyncio.wrap_future(closed))

    async def _run(self, work: Callable[[], T]) -> T:
        if not self._release.alive:
            raise StoreError(f"disk store {self._folder}: closed")
        cancelled = threading.Event()

        def guarded() -> T:
            # Whoever waited in line for a slow disk must not find its work done much later.
            if cancelled.is_set():
                raise StoreError("cancelled")
            return work()

        try:
            async with asyncio.timeout(self._limits.timeout_s):
                return await asyncio.get_running_loop().run_in_executor(self._executor, guarded)
        except TimeoutError as error:
            raise StoreError(
                f"disk store {self._folder}: no answer within {self._limits.timeout_s * 1000:g} ms"
            ) from error
        except RuntimeError as error:  # the executor was shut down meanwhile
            raise StoreError(f"disk store {self._folder}: closed") from error
        finally:
            cancelled.set()


def _release(executor: ThreadPoolExecutor, file: DiskFile) -> Future[None] | None:
    try:
        # Queued behind the operation that runs now, and the thread ends after it.
        closed = executor.submit(file.close)
    except RuntimeError:  # the interpreter is going down: threads have ended already
        file.close()
        return None
    executor.shutdown(wait=False)
    return closed
