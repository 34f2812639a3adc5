"""Windows of concurrent requests, computed in common batches without a thread of their own."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["WindowBatcher"]

IdArray = npt.NDArray[np.int64]
ScoreArray = npt.NDArray[np.float32]

_BUCKET_TOKENS = 32
"""Windows whose lengths differ by less may share a batch; so little padding is computed."""
_WAIT_S = 0.05
"""How soon one who waits for another's batch notices that its own request has ended."""


@dataclass(slots=True, eq=False)
class _Job:
    """One window of one call. `number` is its place in the order of arrival."""

    number: int
    token_ids: IdArray
    scores: ScoreArray | None = None
    error: Exception | None = None
    abandoned: bool = False

    @property
    def done(self) -> bool:
        return self.scores is not None or self.error is not None


class WindowBatcher:
    """Runs windows through `compute`, those of several callers together where lengths agree.

    Callers put their windows into one queue. Whoever finds nobody computing computes the next
    batch, which may hold other callers' windows; so a lone caller never waits, and no thread
    outlives its call. The oldest window decides which length comes next: nobody starves.

    `compute` takes windows, (n_tokens, …) each, and returns an array for each, of any shape. It is
    called by one thread at a time, with at most `batch_tokens` tokens, padding included, or one
    window.
    """

    def __init__(
        self, compute: Callable[[Sequence[IdArray]], Sequence[ScoreArray]], batch_tokens: int
    ) -> None:
        self._compute = compute
        self._batch_tokens = batch_tokens
        self._changed = threading.Condition()
        self._queues: dict[int, deque[_Job]] = {}
        self._arrived = 0
        self._busy = False

    def score(
        self, windows: Sequence[IdArray], checkpoint: Callable[[], None] | None = None
    ) -> list[ScoreArray]:
        """What was computed for each window.

        `checkpoint` is called between batches and may raise to stop.
        Whatever `compute` raises for a window reaches the caller whose window it is, nobody else.
        """
        jobs = self._enqueue(windows)
        left = deque(jobs)
        try:
            while left:
                if checkpoint is not None:
                    checkpoint()
                self._advance()
                while left and left[0].done:
                    left.popleft()
        finally:
            for job in left:
                job.abandoned = True
        for job in jobs:
            if job.error is not None:
                raise job.error
        return [job.scores for job in jobs if job.scores is not None]

    def _enqueue(self, windows: Sequence[IdArray]) -> list[_Job]:
        jobs = []
        with self._changed:
            for token_ids in windows:
                jobs.append(_Job(self._arrived, token_ids))
                self._arrived += 1
                self._queues.setdefault(_bucket(token_ids), deque()).append(jobs[-1])
        return jobs

    def _advance(self) -> None:
        """Compute one batch, or wait a moment for who is computing."""
        with self._changed:
            if self._busy:
                self._changed.wait(_WAIT_S)
                return
            batch = self._take()
            self._busy = True
        try:
            self._run(batch)
        finally:
            with self._changed:
                self._busy = False
                for job in reversed(batch):
                    if not job.done:  # the interpreter was interrupted: another caller goes on
                        self._queues.setdefault(_bucket(job.token_ids), deque()).appendleft(job)
                self._changed.notify_all()

    def _take(self) -> list[_Job]:
        """The batch around the oldest window that somebody still waits for; empty if none is."""
        for bucket, queue in list(self._queues.items()):
            while queue and queue[0].abandoned:
                queue.popleft()
            if not queue:
                del self._queues[bucket]
        if not self._queues:
            return []
        bucket = min(self._queues, key=lambda bucket: self._queues[bucket][0].number)
        queue = self._queues[bucket]
        batch: list[_Job] = []
        while queue and (len(batch) + 1) * bucket * _BUCKET_TOKENS <= max(
            self._batch_tokens, bucket * _BUCKET_TOKENS
        ):
            job = queue.popleft()
            if not job.abandoned:
                batch.append(job)
        return batch

    def _run(self, batch: Sequence[_Job]) -> None:
        try:
            for job, scores in zip(
                batch, self._compute([job.token_ids for job in batch]), strict=True
            ):
                job.scores = scores
        except Exception as error:  # whatever it is, it is the callers' to see
            if len(batch) == 1:
                batch[0].error = error
                return
            for job in batch:
                job.scores = None
                self._run([job])


def _bucket(token_ids: IdArray) -> int:
    return -(-len(token_ids) // _BUCKET_TOKENS)
