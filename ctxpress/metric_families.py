"""Metrics as Prometheus reads them, out of plain numbers that somebody counts.

The numbers belong to whoever counts them; they become families of metrics only when somebody
asks. Every exposition has a registry of its own.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

__all__ = ["CONTENT_TYPE", "Exposition", "Histogram", "counter", "gauge", "histogram"]

CONTENT_TYPE = CONTENT_TYPE_LATEST


class Histogram:
    """Counts of values by upper bound."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self._counts[bisect.bisect_left(self._bounds, value)] += 1
        self._sum += value

    def export(self) -> tuple[list[tuple[str, float]], float]:
        """Cumulative buckets and the sum, as Prometheus wants them."""
        total = 0
        buckets: list[tuple[str, float]] = []
        for bound, count in zip((*map(str, self._bounds), "+Inf"), self._counts, strict=True):
            total += count
            buckets.append((bound, total))
        return buckets, self._sum


class Exposition:
    """Renders what ``collect`` yields, anew each time."""

    def __init__(self, collect: Callable[[], Iterable[Metric]]) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Families(collect))

    def render(self) -> bytes:
        """The text that Prometheus scrapes."""
        return generate_latest(self._registry)


def counter(
    name: str, text: str, labels: Sequence[str], values: Mapping[Any, float]
) -> CounterMetricFamily:
    """A family of counters; the keys of ``values`` are tuples of label values."""
    family = CounterMetricFamily(f"ctxpress_{name}", text, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family


def gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    """One gauge."""
    return GaugeMetricFamily(f"ctxpress_{name}", text, value=value)


def histogram(
    name: str, text: str, labels: Sequence[str], values: Mapping[tuple[str], Histogram]
) -> HistogramMetricFamily:
    """A family of histograms; the keys of ``values`` are tuples of label values."""
    family = HistogramMetricFamily(f"ctxpress_{name}", text, labels=labels)
    for key, histogram in values.items():
        buckets, total = histogram.export()
        family.add_metric(key, buckets, total)
    return family


class _Families(Collector):
    def __init__(self, collect: Callable[[], Iterable[Metric]]) -> None:
        self._collect = collect

    def collect(self) -> Iterable[Metric]:
        return self._collect()
