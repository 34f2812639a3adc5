"""Counts are shared by the threads of a process."""

from __future__ import annotations

import threading
from collections.abc import Callable

from ctxpress.counting import CachedCounter, CountCache
from ctxpress.testing import WordCounter


class InterruptedKey(bytes):
    """A key that lets another thread go first in the middle of a look-up."""

    others: Callable[[], None] | None = None
    hashed = 0

    def __hash__(self) -> int:
        self.hashed += 1
        if self.hashed == 2 and self.others is not None:
            thread = threading.Thread(target=self.others)
            thread.start()
            thread.join(0.1)  # it waits for us where the cache is locked
        return bytes.__hash__(self)


def test_another_thread_may_push_out_what_is_being_looked_up() -> None:
    cache = CountCache(max_entries=2)
    key = InterruptedKey(b"a")
    cache.put(key, 1)
    cache.put(b"b", 2)
    key.others, key.hashed = lambda: cache.put(b"c", 3), 0
    assert cache.get(key) == 1


def test_the_least_recently_used_count_goes_first() -> None:
    cache = CountCache(max_entries=2)
    cache.put(b"a", 1)
    cache.put(b"b", 2)
    assert cache.get(b"a") == 1
    cache.put(b"c", 3)
    assert [cache.get(key) for key in (b"a", b"b", b"c")] == [1, None, 3]


def test_stages_count_a_long_text_once_and_short_ones_leave_no_trace() -> None:
    class Watched(WordCounter):
        def __init__(self) -> None:
            self.seen: list[str] = []

        def count(self, text: str) -> int:
            self.seen.append(text)
            return super().count(text)

    watched, cache = Watched(), CountCache()
    counter = CachedCounter(watched, cache)
    long = "word " * 100
    assert [counter.count(text) for text in (long, "a b", long, "a b")] == [100, 2, 100, 2]
    assert watched.seen == [long, "a b", "a b"]
    assert (counter.identity, counter.estimated) == (watched.identity, watched.estimated)
    assert CachedCounter(watched, cache).count(long) == 100
