"""How fast the link to the store is: a cautious estimate from the last transfers."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

from ctxpress.cache.streaming.options import check_number

__all__ = ["LinkEstimate", "LinkMeter"]

WINDOW = 16  # transfers: long enough for a quantile, short enough to follow a link that changes
FEW = 5  # below this many, the recent ones and the prior say more than a quantile
FRESH = 0.5  # weight of the newest transfer among few
LOW_QUANTILE = 0.2  # of throughput: four transfers in five are at least that fast
SPREADS = 1.0  # standard errors of the mean pace that are added for a whole plan
MIN_BYTES = 4096  # what is smaller measures latency, not the link
STALLED_BYTES_PER_MS = 1.0  # a transfer that moved nothing counts as a link of 8 kbit/s


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkEstimate:
    """Bytes per millisecond (a thousandth of MB/s) to plan with; zero means that nothing moves.

    ``low_bytes_per_ms``: the low quantile, for one transfer. ``mean_bytes_per_ms``: of all bytes
    over all time. ``spread``: relative standard deviation of the time per byte.

    :raises ValueError: a number is not finite and at least zero.
    """

    low_bytes_per_ms: float
    mean_bytes_per_ms: float
    spread: float = 0.0

    def __post_init__(self) -> None:
        for name in self.__slots__:
            check_number(name, getattr(self, name))

    def over(self, n_transfers: int) -> float:
        """Bytes per millisecond to expect of ``n_transfers`` together.

        Luck evens out over many: one transfer gets the low quantile, a long series nearly the mean.
        """
        if self.mean_bytes_per_ms <= 0.0:
            return self.low_bytes_per_ms
        slower = 1.0 + SPREADS * self.spread / math.sqrt(max(n_transfers, 1))
        return max(
            self.mean_bytes_per_ms / slower, min(self.low_bytes_per_ms, self.mean_bytes_per_ms)
        )


class LinkMeter:
    """Remembers the throughput of the last transfers; shared by the requests of one link.

    ``prior_bytes_per_ms``: what to expect before the first measurement, such as what the last run
    measured or a cautious guess. Zero keeps everything on text.

    :raises ValueError: the prior is not finite and at least zero.
    """

    __slots__ = ("_prior", "_samples")

    def __init__(self, *, prior_bytes_per_ms: float) -> None:
        self._prior = check_number("prior_bytes_per_ms", prior_bytes_per_ms)
        self._samples: deque[tuple[float, float]] = deque(maxlen=WINDOW)

    def observe(self, n_bytes: float, ms: float) -> None:
        """A transfer, or the part of one that was seen, moved ``n_bytes`` in ``ms``.

        A stall (bytes too few to measure with, in a time that is long) counts as a very slow link.
        What is both small and short says nothing and is left out.

        :raises ValueError: a number is not finite and at least zero.
        """
        n_bytes, ms = check_number("n_bytes", n_bytes), check_number("ms", ms)
        if ms <= 0.0 or (n_bytes < MIN_BYTES and ms * STALLED_BYTES_PER_MS < MIN_BYTES / 64):
            return
        self._samples.append((max(n_bytes, ms * STALLED_BYTES_PER_MS), ms))

    def age(self) -> None:
        """Forget the oldest measurement.

        Called after a request that moved nothing: what once was a slow link must not keep every
        later request from trying it.
        """
        if self._samples:
            self._samples.popleft()

    def estimate(self) -> LinkEstimate:
        """What to plan with now."""
        if not self._samples:
            return LinkEstimate(low_bytes_per_ms=self._prior, mean_bytes_per_ms=self._prior)
        paces = [ms / n_bytes for n_bytes, ms in self._samples]
        if len(paces) < FEW:
            return self._from_few(paces)
        total_ms = math.fsum(ms for _, ms in self._samples)
        mean = total_ms / math.fsum(n_bytes for n_bytes, _ in self._samples)
        variance = math.fsum((pace - mean) ** 2 for pace in paces) / (len(paces) - 1)
        rank = (1.0 - LOW_QUANTILE) * (len(paces) - 1)
        ordered = sorted(paces)
        below = int(rank)
        above = min(below + 1, len(paces) - 1)
        high = ordered[below] + (rank - below) * (ordered[above] - ordered[below])
        return LinkEstimate(
            low_bytes_per_ms=1.0 / max(high, mean),
            mean_bytes_per_ms=1.0 / mean,
            spread=math.sqrt(variance) / mean,
        )

    def _from_few(self, paces: list[float]) -> LinkEstimate:
        """An exponentially weighted mean that starts at the first measurement.

        The prior is only a guess, so the first real transfer replaces it.
        """
        mean, deviation = paces[0], 0.0
        for pace in paces[1:]:
            deviation += FRESH * (abs(pace - mean) - deviation)
            mean += FRESH * (pace - mean)
        high = max(mean + deviation, paces[-1])
        return LinkEstimate(
            low_bytes_per_ms=1.0 / high,
            mean_bytes_per_ms=1.0 / mean,
            spread=deviation / mean,
        )
