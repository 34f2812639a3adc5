"""Numbers about requests, for ``/metrics``.

They are plain integers that only the event loop's thread touches; a collector turns them into
Prometheus families when somebody asks. Labels come from the configuration or from fixed lists,
never from requests.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable

from prometheus_client.metrics_core import Metric

from ctxpress.metric_families import CONTENT_TYPE, Exposition, Histogram, counter, gauge, histogram
from ctxpress.report import Report

__all__ = ["CONTENT_TYPE", "Metrics"]

_OVERHEAD_S = (
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1,
    5,
)
_LATENCY_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """All metrics of one proxy, over a registry of its own."""

    def __init__(self, in_flight: Callable[[], int]) -> None:
        self._in_flight = in_flight
        self.requests: dict[tuple[str, str, str], int] = defaultdict(int)
        self.errors: dict[tuple[str, str], int] = defaultdict(int)
        self.upstream_failures: dict[tuple[str, str], int] = defaultdict(int)
        self.resumed: dict[tuple[str, str], int] = defaultdict(int)
        self.skips: dict[tuple[str, str], int] = defaultdict(int)
        self.tokens: dict[tuple[str, str, str], int] = defaultdict(int)
        self.memo_hits: dict[tuple[str], int] = defaultdict(int)
        self.kv_requests: dict[tuple[str, str], int] = defaultdict(int)
        self.kv_documents: dict[tuple[str, str], int] = defaultdict(int)
        self.cache_risk: dict[tuple[str], int] = defaultdict(int)
        self.overhead: dict[tuple[str], Histogram] = defaultdict(lambda: Histogram(_OVERHEAD_S))
        self.ttfb: dict[tuple[str], Histogram] = defaultdict(lambda: Histogram(_LATENCY_S))
        self.stages: dict[tuple[str], Histogram] = defaultdict(lambda: Histogram(_LATENCY_S))
        self._exposition = Exposition(self._collect)

    def report(self, tenant: str, report: Report) -> None:
        """Count what a report says."""
        if report.tokens_before:
            applied = "true" if report.applied else "false"
            self.tokens[tenant, "before", applied] += report.tokens_before
            self.tokens[tenant, "after", applied] += report.tokens_after
        if report.cache_risk_blocks:
            self.cache_risk[tenant,] += report.cache_risk_blocks
        for stage in report.stages:
            self.stages[stage.stage,].observe(stage.elapsed_ms / 1000)
            self.memo_hits[stage.stage,] += stage.memo_hits

    def render(self) -> bytes:
        """The text that Prometheus scrapes."""
        return self._exposition.render()

    def _collect(self) -> Iterable[Metric]:
        yield counter(
            "requests",
            "Requests by tenant, endpoint and status class.",
            ("tenant", "endpoint", "status"),
            self.requests,
        )
        yield counter(
            "errors",
            "Requests that did not end well, by what went wrong.",
            ("tenant", "kind"),
            self.errors,
        )
        yield counter(
            "upstream_failures",
            "Connections that failed, by upstream and kind.",
            ("upstream", "kind"),
            self.upstream_failures,
        )
        yield counter(
            "answers_resumed",
            "Answers of workers that others took over, by upstream and how.",
            ("upstream", "how"),
            self.resumed,
        )
        yield counter(
            "skips",
            "Requests in which nothing was compressed, by code.",
            ("tenant", "code"),
            self.skips,
        )
        yield counter(
            "tokens",
            "Tokens before and after compression; applied=false was observed.",
            ("tenant", "when", "applied"),
            self.tokens,
        )
        yield counter(
            "memo_hits", "Blocks whose result a stage knew already.", ("stage",), self.memo_hits
        )
        yield counter(
            "kv_requests",
            "Requests to vLLM with documents in parallel, and those without by the reason.",
            ("upstream", "path"),
            self.kv_requests,
        )
        yield counter(
            "kv_documents",
            "Documents that vLLM was asked to encode, by how that ended.",
            ("upstream", "outcome"),
            self.kv_documents,
        )
        yield counter(
            "cache_risk_blocks",
            "Blocks of earlier turns that the store had lost.",
            ("tenant",),
            self.cache_risk,
        )
        yield histogram(
            "overhead_seconds",
            "Time spent here before a request went upstream.",
            ("endpoint",),
            self.overhead,
        )
        yield histogram(
            "ttfb_seconds",
            "Time from a request's last byte to its answer's first.",
            ("endpoint",),
            self.ttfb,
        )
        yield histogram(
            "stage_seconds", "Time that a stage took in a request.", ("stage",), self.stages
        )
        yield gauge("requests_in_flight", "Requests being served.", self._in_flight())
