"""What the connector counts, in vLLM's own metrics and log."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

from vllm.distributed.kv_transfer.kv_connector.v1.metrics import (
    KVConnectorPromMetrics,
    KVConnectorStats,
)

__all__ = ["COUNTERS", "ConnectorPromMetrics", "ConnectorStats", "Counts"]

# Name -> (what it counts, the reasons it is told apart by). Units are in the names.
COUNTERS: dict[str, tuple[str, str]] = {
    "lookups": ("Requests that were looked up in the store.", "prefix, parallel"),
    "lookups_failed": ("Look-ups without an answer in time; the prompt was computed.", "why"),
    "loads": ("Requests whose KV was loaded.", "prefix, parallel"),
    "loads_failed": ("Requests whose load failed; the prompt was computed.", "why"),
    "loads_refused": ("Requests with stored KV that computing beats.", "prefix, parallel"),
    "parallel_computed": ("Requests with documents that were computed as plain prompts.", "why"),
    "loaded_tokens": ("Tokens whose KV was loaded.", ""),
    "loaded_bytes": ("Bytes of containers read from the store.", ""),
    "load_ms": ("Milliseconds that loads took, look-ups not included.", ""),
    "saves": ("Chunks written to the store, by every rank.", ""),
    "saves_dropped": ("Chunks that were not written.", "why"),
    "saved_bytes": ("Bytes of containers written to the store.", ""),
    "foreign_writers": (
        "Other deployments in the store, whose KV does not fit.",
        "what differs",
    ),
}


class Counts:
    """Counters of one half, added to from any thread and taken out once a step."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()

    def add(self, name: str, n: float = 1, reason: str = "") -> None:
        """Count ``n`` of ``name``, which must be one of :data:`COUNTERS`."""
        if name not in COUNTERS:
            raise KeyError(name)
        with self._lock:
            self._counts[f"{name}|{reason}"] += n  # type: ignore[assignment]  # milliseconds

    def take(self) -> ConnectorStats | None:
        """What was counted since the last time; None where nothing was."""
        with self._lock:
            if not self._counts:
                return None
            taken, self._counts = dict(self._counts), Counter()
        return ConnectorStats(data=dict(taken))


class ConnectorStats(KVConnectorStats):  # type: ignore[misc]  # vLLM ships no types to mypy
    """Counters by ``name|reason``, as they travel through vLLM."""

    data: dict[str, Any]

    def reset(self) -> None:
        """Forget all."""
        self.data = {}

    def aggregate(self, other: KVConnectorStats) -> ConnectorStats:
        """Add those of ``other``."""
        for key, n in other.data.items():
            self.data[key] = self.data.get(key, 0) + n
        return self

    def reduce(self) -> dict[str, int | float]:
        """For vLLM's log line: totals by name."""
        totals: dict[str, int | float] = {}
        for key, n in sorted(self.data.items()):
            name = f"ctxpress_{key.partition('|')[0]}"
            totals[name] = round(totals.get(name, 0) + n, 1)
        return totals

    def is_empty(self) -> bool:
        """Whether nothing was counted."""
        return not self.data


class ConnectorPromMetrics(KVConnectorPromMetrics):  # type: ignore[misc]  # as above
    """``vllm:ctxpress_<name>_total`` with the labels of vLLM and ``reason``."""

    def __init__(
        self,
        vllm_config: Any,
        metric_types: Any,
        labelnames: list[str],
        per_engine_labelvalues: dict[int, list[object]],
    ) -> None:
        super().__init__(vllm_config, metric_types, labelnames, per_engine_labelvalues)
        self._counters = {
            name: self._counter_cls(
                name=f"vllm:ctxpress_{name}",
                documentation=f"ctxpress: {what}" + (f" By reason: {by}." if by else ""),
                labelnames=[*labelnames, "reason"],
            )
            for name, (what, by) in COUNTERS.items()
        }

    def observe(self, transfer_stats_data: dict[str, Any], engine_idx: int = 0) -> None:
        """Add what a step counted."""
        for key, n in transfer_stats_data.items():
            name, _, reason = key.partition("|")
            labels = [*self.per_engine_labelvalues[engine_idx], reason]
            self._counters[name].labels(*labels).inc(n)
