"""Rules to compare with: CacheGen's, as released and as published, and fixed choices.

All go through the chunks in order and decide one when the link is free. They run in the same
simulation as the controller, so transfer, decoding and recomputing overlap for them as well, which
the released code does not do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ctxpress.cache.streaming import ChunkOptions, Transfer

__all__ = ["RulePolicy", "always", "paper_rule", "released_rule"]

Rule = Callable[["RulePolicy", int, float], str]
"""``rule(policy, chunk, now_ms)``: a level's name, or an empty string for text."""


class RulePolicy:
    """Follows a rule. ``bytes_per_ms`` is the throughput of the last transfer, or the prior."""

    def __init__(
        self,
        chunks: Sequence[ChunkOptions],
        rule: Rule,
        *,
        slo_ms: float,
        prior_bytes_per_ms: float,
        prefill_ms: Sequence[float],
    ) -> None:
        self.chunks, self.slo_ms, self.prefill_ms = chunks, slo_ms, prefill_ms
        self.bytes_per_ms = prior_bytes_per_ms
        self._rule = rule
        self._decided = 0
        self._text: set[int] = set()
        self._in_place: set[int] = set()
        self._flight: tuple[Transfer, float] | None = None
        self._prefilling: int | None = None

    @property
    def finished(self) -> bool:
        """Rules load every chunk once."""
        return True

    def begin_transfer(self, now_ms: float) -> Transfer | None:
        """See :class:`~ctxpress.evaluation.streaming.world.Policy`."""
        while self._flight is None and self._decided < len(self.chunks):
            chunk = self._decided
            level = self._rule(self, chunk, now_ms)
            self._decided += 1
            if not level:
                self._text.add(chunk)
                continue
            option = next(one for one in self.chunks[chunk].levels if one.level == level)
            transfer = Transfer(chunk=chunk, level=level, size_bytes=option.size_bytes)
            self._flight = (transfer, now_ms)
            return transfer
        return None

    def keep_transfer(self, now_ms: float, received_bytes: float) -> bool:
        """Rules never give up."""
        return True

    def end_transfer(self, now_ms: float) -> None:
        """See :class:`~ctxpress.evaluation.streaming.world.Policy`."""
        if self._flight is not None:
            transfer, began_ms = self._flight
            self.bytes_per_ms = transfer.size_bytes / max(now_ms - began_ms, 1e-6)
            self._flight = None

    def end_decode(self, chunk: int, now_ms: float, ms: float) -> None:
        """See :class:`~ctxpress.evaluation.streaming.world.Policy`."""
        self._in_place.add(chunk)

    def begin_prefill(self, now_ms: float) -> int | None:
        """See :class:`~ctxpress.evaluation.streaming.world.Policy`."""
        if self._flight is None:
            # Decides what follows first; the transfer itself begins when it is asked for.
            self._decide_text(now_ms)
        first = 0
        while first in self._in_place:
            first += 1
        if self._prefilling is None and first in self._text:
            self._prefilling = first
            return first
        return None

    def end_prefill(self, now_ms: float, ms: float) -> None:
        """See :class:`~ctxpress.evaluation.streaming.world.Policy`."""
        if self._prefilling is not None:
            self._in_place.add(self._prefilling)
            self._prefilling = None

    def _decide_text(self, now_ms: float) -> None:
        while self._decided < len(self.chunks) and not self._rule(self, self._decided, now_ms):
            self._text.add(self._decided)
            self._decided += 1


def always(level: str) -> Rule:
    """Every chunk at ``level``; text where it is empty."""
    return lambda policy, chunk, now_ms: level


def released_rule(policy: RulePolicy, chunk: int, now_ms: float) -> str:
    """CacheGen's code (``config_selection``): the best level whose transfer takes less than an
    equal share of the SLO; text if none does. Its bandwidth is an oracle's; here it is measured.
    """
    share = policy.slo_ms / len(policy.chunks)
    if chunk == 0:
        return _middle(policy, chunk)
    for option in sorted(policy.chunks[chunk].levels, key=lambda one: one.quality_loss):
        if policy.bytes_per_ms > 0 and option.size_bytes / policy.bytes_per_ms < share:
            return option.level
    return ""


def paper_rule(policy: RulePolicy, chunk: int, now_ms: float) -> str:
    """CacheGen's paper: text if recomputing the rest fits the time left, else the best level at
    which the rest does, else the smallest.
    """
    left = policy.slo_ms - now_ms
    if chunk == 0:
        return _middle(policy, chunk)
    if sum(policy.prefill_ms[chunk:]) <= left:
        return ""
    rest = policy.chunks[chunk:]
    levels = sorted(policy.chunks[chunk].levels, key=lambda one: one.quality_loss)
    for option in levels:
        size = sum(
            one.size_bytes for other in rest for one in other.levels if one.level == option.level
        )
        if policy.bytes_per_ms > 0 and size / policy.bytes_per_ms <= left:
            return option.level
    return min(levels, key=lambda one: one.size_bytes).level


def _middle(policy: RulePolicy, chunk: int) -> str:
    """Nothing was measured yet: the paper sends the first chunk at a medium level."""
    levels = sorted(policy.chunks[chunk].levels, key=lambda one: one.size_bytes)
    return levels[len(levels) // 2].level
