"""Links whose bandwidth changes: by time, or from chunk to chunk; drawn, or read from a file."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ctxpress.errors import ConfigError

__all__ = [
    "BYTES_PER_MS_PER_GBIT_S",
    "TRACES",
    "ChunkTrace",
    "TimeTrace",
    "Trace",
    "TraceFactory",
    "file_trace",
    "read_trace",
]

BYTES_PER_MS_PER_GBIT_S = 125_000.0
Floats = npt.NDArray[np.float64]

BURST_GBIT_S = (5.0, 0.5)  # the two states of a link shared with others
BURST_DWELL_MS = (400.0, 200.0)  # how long each lasts in the mean
BURST_SPAN_MS = 60_000.0


class Trace(Protocol):
    """A link's future."""

    def arrival_ms(self, chunk: int, start_ms: Floats, n_bytes: float) -> Floats:
        """When ``n_bytes`` of ``chunk`` have come, if they start at ``start_ms``."""

    def moved_bytes(self, chunk: int, start_ms: float, end_ms: float) -> float:
        """What comes of ``chunk`` between two times."""


class TimeTrace:
    """Bandwidth by time: constant in each of some segments, which repeat from the start.

    ``segments``: ``(milliseconds, bytes per millisecond)``.
    """

    def __init__(self, segments: Sequence[tuple[float, float]]) -> None:
        spans = np.array([span for span, _ in segments])
        rates = np.array([rate for _, rate in segments])
        self._times = np.concatenate([[0.0], np.cumsum(spans)])
        self._bytes = np.concatenate([[0.0], np.cumsum(spans * rates)])

    def _total(self, at_ms: Floats) -> Floats:
        period = self._times[-1]
        laps = np.floor(at_ms / period)
        inside = np.interp(at_ms - laps * period, self._times, self._bytes)
        return np.asarray(laps * self._bytes[-1] + inside)

    def arrival_ms(self, chunk: int, start_ms: Floats, n_bytes: float) -> Floats:
        """See :class:`Trace`."""
        total = self._total(start_ms) + n_bytes
        laps = np.floor(total / self._bytes[-1])
        rest = np.interp(total - laps * self._bytes[-1], self._bytes, self._times)
        return np.asarray(np.maximum(laps * self._times[-1] + rest, start_ms))

    def moved_bytes(self, chunk: int, start_ms: float, end_ms: float) -> float:
        """See :class:`Trace`."""
        before, after = self._total(np.array([start_ms, end_ms]))
        return float(after - before)


class ChunkTrace:
    """Bandwidth by chunk, as in CacheGen's released traces; ``rates`` in bytes per millisecond."""

    def __init__(self, rates: Sequence[float]) -> None:
        self._rates = list(rates)

    def arrival_ms(self, chunk: int, start_ms: Floats, n_bytes: float) -> Floats:
        """See :class:`Trace`."""
        return start_ms + n_bytes / self._rates[chunk]

    def moved_bytes(self, chunk: int, start_ms: float, end_ms: float) -> float:
        """See :class:`Trace`."""
        return (end_ms - start_ms) * self._rates[chunk]


TraceFactory = Callable[[np.random.Generator, int, float], Trace]
"""``factory(generator, n_chunks, slo_ms)`` draws one trace."""


def _constant(generator: np.random.Generator, n_chunks: int, slo_ms: float) -> Trace:
    return TimeTrace([(1000.0, _drawn(generator, 0.5, 10.0))])


def _uniform(generator: np.random.Generator, n_chunks: int, slo_ms: float) -> Trace:
    rates = generator.uniform(0.1, 10.0, n_chunks) * BYTES_PER_MS_PER_GBIT_S
    return ChunkTrace(rates.tolist())


def _drop(generator: np.random.Generator, n_chunks: int, slo_ms: float) -> Trace:
    before = _drawn(generator, 2.0, 10.0)
    return TimeTrace([(slo_ms / 2, before), (1e9, before / 10)])


def _bursts(generator: np.random.Generator, n_chunks: int, slo_ms: float) -> Trace:
    state, segments, total = int(generator.random() < 1 / 3), [], 0.0
    while total < BURST_SPAN_MS:
        span = float(generator.exponential(BURST_DWELL_MS[state])) + 1.0
        segments.append((span, BURST_GBIT_S[state] * BYTES_PER_MS_PER_GBIT_S))
        state, total = 1 - state, total + span
    return TimeTrace(segments)


def _drawn(generator: np.random.Generator, low: float, high: float) -> float:
    """Log-uniform Gbit/s, as bytes per millisecond."""
    return math.exp(generator.uniform(math.log(low), math.log(high))) * BYTES_PER_MS_PER_GBIT_S


TRACES: dict[str, TraceFactory] = {
    "constant": _constant,
    "uniform": _uniform,
    "drop": _drop,
    "bursts": _bursts,
}


def read_trace(path: Path) -> list[tuple[float, float]]:
    """The segments of a trace file: a line each, ``milliseconds Gbit/s``; ``#`` begins a comment.

    :raises ConfigError: it cannot be read, or a line is wrong; names the line.
    """
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error})") from None
    segments = []
    for number, line in enumerate(lines, 1):
        fields = line.split("#", 1)[0].replace(",", " ").split()
        if not fields:
            continue
        try:
            span, rate = (float(one) for one in fields)
        except ValueError:
            raise ConfigError(f"{path}:{number}: two numbers are needed, ms and Gbit/s") from None
        if not (span > 0 and rate >= 0 and math.isfinite(span) and math.isfinite(rate)):
            raise ConfigError(
                f"{path}:{number}: milliseconds above zero and Gbit/s of zero or more"
            )
        segments.append((span, rate * BYTES_PER_MS_PER_GBIT_S))
    if not any(rate for _, rate in segments):
        raise ConfigError(f"{path}: no line has a bandwidth above zero")
    return segments


def file_trace(segments: Sequence[tuple[float, float]]) -> TraceFactory:
    """Traces that run through ``segments`` from a drawn place on, round and round."""
    period = sum(span for span, _ in segments)

    def factory(generator: np.random.Generator, n_chunks: int, slo_ms: float) -> Trace:
        begin, before, after = float(generator.uniform(0, period)), [], []
        for span, rate in segments:
            cut = min(max(begin, 0.0), span)
            before += [(cut, rate)] if cut else []
            after += [(span - cut, rate)] if cut < span else []
            begin -= span
        return TimeTrace([*after, *before])

    return factory
