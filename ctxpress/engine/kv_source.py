"""Where KV may be that was computed before: the contract of the engine's sources of KV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from ctxpress.cache.chunk_key import CacheKey
from ctxpress.cache.kv import KVBlock
from ctxpress.cache.kv_report import KVReport
from ctxpress.engine.arriving import ArrivingKV
from ctxpress.engine.generation import Work

__all__ = ["Arrivals", "KVSource", "KVStats", "WantedKV"]


@dataclass(frozen=True, slots=True, kw_only=True)
class KVStats:
    """What a source holds in memory, and what became of blocks until now.

    ``blocks``: by outcome, see the source's ``stats``. ``store``: of the store behind it, or None.
    """

    held_bytes: int = 0
    blocks: Mapping[str, int] = field(default_factory=dict)
    store: KVReport | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedKV:
    """A run of tokens whose KV is wanted, and how many tokens it would be computed behind."""

    key: CacheKey
    n_tokens: int
    context_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrivals:
    """What there is of every run, None where it must be computed.

    ``report``: where a source weighed loading against computing, what came of that.
    """

    blocks: Sequence[KVBlock | ArrivingKV | None]
    report: Mapping[str, Any] = field(default_factory=dict)


class KVSource(Protocol):
    """This worker's memory, a store, both."""

    def get(self, keys: Sequence[CacheKey]) -> Work[list[KVBlock | None]]:
        """The blocks of ``keys``; yields what it waits for, returns None for what is not there."""

    def arriving(self, runs: Sequence[WantedKV]) -> Work[Arrivals]:
        """As :meth:`get`, but what is found far away need not be here yet, or is left there."""

    def computed(self, n_tokens: int, context_tokens: int, ms: float) -> None:
        """Computing ``n_tokens`` behind ``context_tokens`` took ``ms``; for what is left there."""

    def put(self, key: CacheKey, block: KVBlock) -> None:
        """Keep a block; does not wait and never fails."""

    @property
    def stats(self) -> KVStats:
        """A snapshot, for metrics; from any thread."""
