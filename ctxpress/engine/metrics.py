"""Numbers about a worker, for ``/metrics``.

What the event loop sees (requests, errors, times) is counted here, in plain numbers that only its
thread touches; the rest is asked of the scheduler and of the source of KV when somebody scrapes.
Labels come from fixed lists, never from requests.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from prometheus_client.metrics_core import Metric

from ctxpress.engine.worker import Worker
from ctxpress.metric_families import CONTENT_TYPE, Exposition, Histogram, counter, gauge, histogram

__all__ = ["CONTENT_TYPE", "PATHS", "WorkerMetrics"]

PATHS = (
    "/v1/chat/completions", "/v1/completions", "/v1/ctxpress/prefetch", "/v1/models", "/livez",
    "/health", "/readyz", "/metrics",
)  # fmt: skip
_FIRST_TOKEN_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class WorkerMetrics:
    """All metrics of one worker, over a registry of its own."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._requests: dict[tuple[str, str], int] = defaultdict(int)
        self._errors: dict[tuple[str], int] = defaultdict(int)
        self._first_token: dict[tuple[str], Histogram] = defaultdict(
            lambda: Histogram(_FIRST_TOKEN_S)
        )
        self._exposition = Exposition(self._collect)

    def answered(self, path: str, status: int) -> None:
        """Count a request that was answered with ``status``."""
        self._requests[_known(path), str(status)] += 1

    def failed(self, kind: str) -> None:
        """Count a request that did not end well; ``kind`` is a word of ours."""
        self._errors[kind,] += 1

    def first_token(self, path: str, seconds: float) -> None:
        """Count the time from a request's last byte to its first token."""
        self._first_token[_known(path),].observe(seconds)

    def render(self) -> bytes:
        """The text that Prometheus scrapes."""
        return self._exposition.render()

    def _collect(self) -> Iterable[Metric]:
        yield counter(
            "worker_requests", "Requests by path and status.", ("path", "status"), self._requests
        )
        yield counter(
            "worker_errors", "Requests that did not end well, by kind.", ("kind",), self._errors
        )
        yield histogram(
            "worker_first_token_seconds",
            "Time from a request's last byte to its first token.",
            ("path",),
            self._first_token,
        )
        yield from self._of_scheduler()
        yield from self._of_source()

    def _of_scheduler(self) -> Iterable[Metric]:
        state = self._worker.scheduler.state
        yield gauge("worker_running", "Answers under way.", state.n_running)
        yield gauge("worker_waiting", "Answers that wait for a place.", state.n_waiting)
        yield gauge(
            "worker_reserved_tokens", "Tokens that running answers may take.", state.reserved_tokens
        )
        yield counter(
            "worker_answers",
            "Answers that have ended, by reason.",
            ("reason",),
            {(reason,): n for reason, n in state.finished.items()},
        )
        yield counter(
            "worker_tokens",
            "Tokens of answers that have ended: of prompts, of these cached, and generated.",
            ("kind",),
            {
                ("prompt",): state.prompt_tokens,
                ("cached",): state.cached_tokens,
                ("generated",): state.generated_tokens,
            },
        )

    def _of_source(self) -> Iterable[Metric]:
        stats = self._worker.source.stats
        yield gauge("worker_kv_memory_bytes", "KV held uncompressed.", stats.held_bytes)
        yield counter(
            "worker_kv_blocks",
            "Blocks of KV by what became of them.",
            ("outcome",),
            {(outcome,): n for outcome, n in stats.blocks.items()},
        )
        store = stats.store
        if store is None:
            return
        yield counter(
            "worker_kv_store_chunks",
            "Chunks by what the store did.",
            ("outcome",),
            {("found",): store.found, ("hit",): store.hits, ("written",): store.writes},
        )
        yield counter(
            "worker_kv_store_misses",
            "Chunks that the store did not give, by why.",
            ("reason",),
            {(str(reason),): n for reason, n in store.misses.items()},
        )
        yield counter(
            "worker_kv_store_dropped_writes",
            "Chunks that the store did not take, by why.",
            ("reason",),
            {(str(reason),): n for reason, n in store.dropped_writes.items()},
        )
        for what, n_bytes, ms in (
            ("read", store.bytes_read, store.read_ms),
            ("written", store.bytes_written, store.write_ms),
        ):
            yield counter(
                f"worker_kv_store_{what}_bytes", f"Bytes of containers {what}.", (), {(): n_bytes}
            )
            yield counter(
                f"worker_kv_store_{what}_seconds",
                "Time that chunks waited for the store, added up.",
                (),
                {(): ms / 1000},
            )


def _known(path: str) -> str:
    return path if path in PATHS else "other"
