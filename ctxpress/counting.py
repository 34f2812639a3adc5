"""Token counts off the event loop, every text counted once however often it is sent again."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Executor

from ctxpress.aside import INLINE_SIZE, aside
from ctxpress.stage import TokenCounter

__all__ = ["CountCache", "Counting"]

_COUNT_COST = INLINE_SIZE // 2_000  # how many times slower counting is than other work on a text
_TEXT_COST = 100  # what counting a short text takes, in characters


class CountCache:
    """Counts by text hash, the least recently used forgotten first. Not a record of texts.

    Thread-safe: a held pipeline counts on every event loop that it is used from.
    """

    def __init__(self, max_entries: int = 65_536) -> None:
        self._max_entries = max_entries
        self._counts: OrderedDict[bytes, int] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: bytes) -> int | None:
        """The count under ``key``."""
        with self._lock:
            count = self._counts.get(key)
            if count is not None:
                self._counts.move_to_end(key)
            return count

    def put(self, key: bytes, count: int) -> None:
        """Remember a count."""
        with self._lock:
            self._counts[key] = count
            if len(self._counts) > self._max_entries:
                self._counts.popitem(last=False)


class Counting:
    """One request's way to count: ``counter`` behind ``cache``, long work in ``executor``."""

    def __init__(self, counter: TokenCounter, cache: CountCache, executor: Executor) -> None:
        self.counter = counter
        self._cache = cache
        self._executor = executor
        self._salt = counter.identity.encode() + b"\0"

    async def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of every text, in order."""
        size = sum(map(len, texts))
        keys = await aside(self._executor, size // 10, lambda: [self._key(text) for text in texts])
        counts = [self._cache.get(key) for key in keys]
        missing = [i for i, count in enumerate(counts) if count is None]
        if missing:
            fresh = await self._count([texts[i] for i in missing])
            for i, count in zip(missing, fresh, strict=True):
                counts[i] = count
                self._cache.put(keys[i], count)
        return [count or 0 for count in counts]

    async def total(self, texts: Sequence[str]) -> int:
        """The sum over :meth:`count`."""
        return sum(await self.count(texts))

    async def _count(self, texts: list[str]) -> list[int]:
        size = sum(map(len, texts)) + _TEXT_COST * (len(texts) - 1)
        return await aside(
            self._executor,
            size * _COUNT_COST,
            lambda: [self.counter.count(text) for text in texts],
        )

    def _key(self, text: str) -> bytes:
        data = text.encode("utf-8", "surrogatepass")
        return hashlib.blake2b(self._salt + data, digest_size=16).digest()
