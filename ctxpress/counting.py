"""Token counts off the event loop, every text counted once however often it is sent again."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Executor

from ctxpress.aside import INLINE_SIZE, aside
from ctxpress.stage import TokenCounter

__all__ = ["CachedCounter", "CountCache", "Counting"]

_COUNT_COST = INLINE_SIZE // 2_000  # how many times slower counting is than other work on a text
_TEXT_COST = 100  # what counting a short text takes, in characters
_WORTH_REMEMBERING = 256  # characters


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


class CachedCounter:
    """A `TokenCounter` that stages are given: what was counted before is looked up.

    Only longer texts are remembered: those that a stage tries are many, short, and rarely seen
    again.
    """

    def __init__(self, counter: TokenCounter, cache: CountCache) -> None:
        self._counter = counter
        self._cache = cache
        self._salt = _salt(counter)

    @property
    def identity(self) -> str:
        """The counter's."""
        return self._counter.identity

    @property
    def estimated(self) -> bool:
        """The counter's."""
        return self._counter.estimated

    def count(self, text: str) -> int:
        """Tokens in ``text``."""
        if len(text) < _WORTH_REMEMBERING:
            return self._counter.count(text)
        key = _key(self._salt, text)
        count = self._cache.get(key)
        if count is None:
            count = self._counter.count(text)
            self._cache.put(key, count)
        return count


class Counting:
    """One request's way to count: ``counter`` behind ``cache``, long work in ``executor``."""

    def __init__(self, counter: TokenCounter, cache: CountCache, executor: Executor) -> None:
        self.counter = counter
        self._cache = cache
        self._executor = executor
        self._salt = _salt(counter)

    @property
    def for_stages(self) -> TokenCounter:
        """The counter behind the same cache, for code that runs in a thread."""
        return CachedCounter(self.counter, self._cache)

    async def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of every text, in order."""
        size = sum(map(len, texts))
        keys = await aside(
            self._executor, size // 10, lambda: [_key(self._salt, text) for text in texts]
        )
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


def _salt(counter: TokenCounter) -> bytes:
    return counter.identity.encode() + b"\0"


def _key(salt: bytes, text: str) -> bytes:
    data = text.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(salt + data, digest_size=16).digest()
