"""The store of one machine: a folder shared by processes, kept over restarts.

Small values are in an SQLite file, large ones in files of their own that it names.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import weakref
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from ctxpress.cache.stores.deadline import Deadline
from ctxpress.cache.stores.disk_file import DiskFile
from ctxpress.cache.stores.limits import StoreLimits
from ctxpress.cache.stores.resp import Buffer
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

    @property
    def max_value_bytes(self) -> int:
        """See :class:`~ctxpress.cache.store.RangeStore`."""
        return self._limits.max_value_bytes

    async def get(self, key: str, *, ttl_s: float | None = None) -> bytes | None:
        """See :class:`~ctxpress.cache.store.Store`."""
        return (await self.get_many((key,), ttl_s=ttl_s))[0]

    async def get_many(
        self, keys: Sequence[str], *, ttl_s: float | None = None
    ) -> list[bytes | None]:
        """See :class:`~ctxpress.cache.store.Store`; lives are renewed to within 2 %."""
        ttl_s = None if ttl_s is None else self._limits.check_ttl(ttl_s)
        wanted = tuple(keys)
        if not wanted:
            return []
        deadline = Deadline(self._limits)
        loop = asyncio.get_running_loop()

        def announce(size_bytes: int) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits any more
                loop.call_soon_threadsafe(deadline.announce, size_bytes)

        return await self._run(
            lambda: self._file.read(wanted, ttl_s=ttl_s, announce=announce), deadline
        )

    async def put(self, key: str, value: bytes, *, ttl_s: float) -> None:
        """See :class:`~ctxpress.cache.store.Store`."""
        await self.put_parts(key, (value,), ttl_s=ttl_s)

    async def put_parts(self, key: str, parts: Sequence[Buffer], *, ttl_s: float) -> None:
        """See :class:`~ctxpress.cache.store.RangeStore`."""
        size_bytes = sum(len(part) for part in parts)
        self._limits.check_size(size_bytes)
        ttl_s = self._limits.check_ttl(ttl_s)
        await self._run(
            lambda: self._file.write(key, parts, ttl_s=ttl_s), Deadline(self._limits, size_bytes)
        )

    async def get_range(self, key: str, start: int, size_bytes: int) -> Buffer:
        """See :class:`~ctxpress.cache.store.RangeStore`."""
        return (await self._read_ranges(((key, start, size_bytes),), None))[0]

    async def get_ranges(
        self, ranges: Sequence[tuple[str, int, int]], *, ttl_s: float | None = None
    ) -> list[Buffer | StoreError]:
        """See :class:`~ctxpress.cache.store.RangeStore`; lives are renewed to within 2 %."""
        return list(await self._read_ranges(tuple(ranges), ttl_s))

    async def read_ranges(
        self, key: str, ranges: Sequence[tuple[int, int]], *, ahead_bytes: int
    ) -> AsyncGenerator[Buffer]:
        """See :class:`~ctxpress.cache.store.RangeStore`."""
        self._check_open()
        for group in _groups(ranges, ahead_bytes):
            wanted = tuple((key, start, size_bytes) for start, size_bytes in group)
            for part in await self._read_ranges(wanted, None):
                yield part

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
        deadline = Deadline(self._limits, sum(len(value) for _, value in wanted))
        if not wanted:
            return []
        return await self._run(lambda: self._file.claim(wanted, ttl_s=ttl_s), deadline)

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

    async def _read_ranges(
        self, ranges: Sequence[tuple[str, int, int]], ttl_s: float | None
    ) -> list[bytes]:
        for _, start, size_bytes in ranges:
            self._limits.check_range(start, size_bytes)
        ttl_s = None if ttl_s is None else self._limits.check_ttl(ttl_s)
        if not ranges:
            return []
        found = await self._run(
            lambda: self._file.read_ranges(ranges, ttl_s=ttl_s),
            Deadline(self._limits, sum(size_bytes for _, _, size_bytes in ranges)),
        )
        return [value or b"" for value in found]

    def _check_open(self) -> None:
        if not self._release.alive:
            raise StoreError(f"disk store {self._folder}: closed")

    async def _run(self, work: Callable[[], T], deadline: Deadline | None = None) -> T:
        self._check_open()
        cancelled = threading.Event()

        def guarded() -> T:
            # Whoever waited in line for a slow disk must not find its work done much later.
            if cancelled.is_set():
                raise StoreError("cancelled")
            return work()

        deadline = deadline or Deadline(self._limits)
        try:
            async with deadline:
                return await asyncio.get_running_loop().run_in_executor(self._executor, guarded)
        except TimeoutError as error:
            allowed_ms = round(self._limits.wait_s(deadline.size_bytes) * 1000, 1)
            raise StoreError(
                f"disk store {self._folder}: no answer within {allowed_ms:g} ms"
            ) from error
        except RuntimeError as error:  # the executor was shut down meanwhile
            raise StoreError(f"disk store {self._folder}: closed") from error
        finally:
            cancelled.set()


def _groups(
    ranges: Sequence[tuple[int, int]], ahead_bytes: int
) -> Iterator[Sequence[tuple[int, int]]]:
    """The first range, which is waited for, then as many at once as may be read ahead."""
    begin = 0
    while begin < len(ranges):
        end, ahead = begin + 1, ranges[begin][1]
        while begin and end < len(ranges) and ahead + ranges[end][1] <= ahead_bytes:
            ahead += ranges[end][1]
            end += 1
        yield ranges[begin:end]
        begin = end


def _release(executor: ThreadPoolExecutor, file: DiskFile) -> Future[None] | None:
    try:
        # Queued behind the operation that runs now, and the thread ends after it.
        closed = executor.submit(file.close)
    except RuntimeError:  # the interpreter is going down: threads have ended already
        file.close()
        return None
    executor.shutdown(wait=False)
    return closed
