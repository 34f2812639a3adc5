from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import pytest

from ctxpress.models.batching import WindowBatcher

Ids = npt.NDArray[np.int64]


def window(length: int, first: int = 0) -> Ids:
    return np.arange(first, first + length, dtype=np.int64)


class Compute:
    """Halves every id; records batches; waits at a gate; fails on windows that begin with -1."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()

    def __call__(self, windows: Sequence[Ids]) -> list[npt.NDArray[np.float32]]:
        self.batches.append([len(ids) for ids in windows])
        self.entered.set()
        assert self.gate.wait(10)
        if any(ids[0] == -1 for ids in windows):
            raise RuntimeError("bad window")
        return [(ids / 2).astype(np.float32) for ids in windows]


def test_results_come_in_the_order_of_the_windows() -> None:
    windows = [window(length, length) for length in (5, 400, 7, 6, 390, 31)]
    results = WindowBatcher(Compute(), 1024).score(windows)
    for ids, scores in zip(windows, results, strict=True):
        np.testing.assert_array_equal(scores, (ids / 2).astype(np.float32))


def test_windows_of_unlike_length_do_not_share_a_batch() -> None:
    compute = Compute()
    WindowBatcher(compute, 1024).score([window(n) for n in (5, 500, 6, 510, 7, 505)])
    assert compute.batches == [[5, 6, 7], [500, 510], [505]]


def test_nothing_to_score_computes_nothing() -> None:
    compute = Compute()
    assert WindowBatcher(compute, 1024).score([]) == []
    assert compute.batches == []


def test_a_window_longer_than_a_batch_is_a_batch() -> None:
    compute = Compute()
    WindowBatcher(compute, 8).score([window(100), window(100)])
    assert compute.batches == [[100], [100]]


def test_callers_who_wait_share_the_next_batch() -> None:
    compute = Compute()
    batcher = WindowBatcher(compute, 1024)
    compute.gate.clear()
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(batcher.score, [window(10)])
        assert compute.entered.wait(10)
        others = [pool.submit(batcher.score, [window(10, n)]) for n in range(3)]
        while batcher._arrived < 4:
            time.sleep(0.001)
        compute.gate.set()
        assert len(first.result(10)) == 1
        for n, other in enumerate(others):
            np.testing.assert_array_equal(other.result(10)[0], window(10, n) / 2)
    assert compute.batches == [[10], [10, 10, 10]]


def test_a_failing_window_hurts_its_own_caller_only() -> None:
    compute = Compute()
    batcher = WindowBatcher(compute, 1024)
    compute.gate.clear()
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(batcher.score, [window(10)])
        assert compute.entered.wait(10)
        bad = pool.submit(batcher.score, [np.full(10, -1)])
        good = pool.submit(batcher.score, [window(10, 3)])
        while batcher._arrived < 3:
            time.sleep(0.001)
        compute.gate.set()
        first.result(10)
        with pytest.raises(RuntimeError, match="bad window"):
            bad.result(10)
        np.testing.assert_array_equal(good.result(10)[0], window(10, 3) / 2)


def test_who_gives_up_leaves_no_work_and_no_lock() -> None:
    compute = Compute()
    batcher = WindowBatcher(compute, 32)
    calls = 0

    def give_up() -> None:
        nonlocal calls
        calls += 1
        if calls > 2:
            raise TimeoutError

    with pytest.raises(TimeoutError):
        batcher.score([window(10) for _ in range(100)], give_up)
    assert len(compute.batches) == 2
    batcher.score([window(20)])
    assert compute.batches[2:] == [[20]]


def test_who_waits_for_another_can_give_up() -> None:
    compute = Compute()
    batcher = WindowBatcher(compute, 1024)
    compute.gate.clear()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(batcher.score, [window(10)])
        assert compute.entered.wait(10)
        over = threading.Event()

        def checkpoint() -> None:
            if over.is_set():
                raise TimeoutError

        second = pool.submit(batcher.score, [window(10)], checkpoint)
        over.set()
        with pytest.raises(TimeoutError):
            second.result(10)
        compute.gate.set()
        first.result(10)
    assert compute.batches == [[10]]


def test_an_interrupted_runner_hands_on_the_others_windows() -> None:
    interrupt = True

    def compute(windows: Sequence[Ids]) -> list[npt.NDArray[np.float32]]:
        nonlocal interrupt
        if interrupt:
            interrupt = False
            raise KeyboardInterrupt
        return [ids.astype(np.float32) for ids in windows]

    batcher = WindowBatcher(compute, 1024)
    with pytest.raises(KeyboardInterrupt):
        batcher.score([window(4)])
    assert len(batcher.score([window(4)])) == 1


def test_no_thread_outlives_a_call() -> None:
    before = threading.active_count()
    WindowBatcher(Compute(), 64).score([window(10) for _ in range(50)])
    assert threading.active_count() == before


def test_many_callers_at_once_all_get_their_own() -> None:
    batcher = WindowBatcher(Compute(), 256)

    def call(n: int) -> bool:
        windows = [window(5 + (n * k) % 90, n * k) for k in range(20)]
        results = batcher.score(windows)
        return all(
            np.array_equal(scores, (ids / 2).astype(np.float32))
            for ids, scores in zip(windows, results, strict=True)
        )

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(call, range(64)))
