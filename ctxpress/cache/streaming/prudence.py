"""How much time is kept in hand, and which level that leaves for the next transfer."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from ctxpress.cache.streaming.options import check_number
from ctxpress.cache.streaming.planner import Solution, cheapest_in_time
from ctxpress.cache.streaming.schedule import Problem

__all__ = ["Caution", "prudent_level"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Caution:
    """What a controller guards against. The defaults were tuned on simulated traces.

    * ``stress``: so many times the link may slow down at any moment; where the deadline can be
      met even then, it is. One: only what is expected counts.
    * ``reserve``: the share of the time left that is not planned with.
    * ``prefill``, ``decode``: factors on what is expected of them.
    * ``backlog``: arrived chunks that may wait for the decoder before the link pauses.
    * ``attempts``: transfers of one chunk before it is recomputed.
    * ``settle_ms``: how long a transfer runs before its own speed is believed.
    * ``straggler``: a transfer that will take so many times as long as usual is put off while
      others wait; ``stragglers`` in a row mean that the link itself is slow.

    :raises ValueError: a number is not finite, or too small.
    """

    stress: float = 10.0
    reserve: float = 0.01
    prefill: float = 1.08
    decode: float = 1.1
    backlog: int = 4
    attempts: int = 3
    settle_ms: float = 10.0
    straggler: float = 4.0
    stragglers: int = 3

    def __post_init__(self) -> None:
        for one in fields(self):
            least = 0.0 if one.name in ("reserve", "settle_ms") else 1.0
            check_number(one.name, getattr(self, one.name), least=least)
        if self.reserve >= 1.0:
            raise ValueError(f"reserve must be below one, not {self.reserve}")


def prudent_level(problem: Problem, solution: Solution, index: int, stress: float) -> int:
    """The best level, up to the planned one, with which all is in time under ``stress``.

    The fastest level where there is none. A chunk that comes at a low level can be loaded again at
    a better one when everything is in place and time is left; a deadline that is missed cannot.
    """
    planned = solution.choices[index]
    losses, transfers = problem.losses[index], problem.transfers[index]
    fastest = problem.fastest[index]
    better = sorted(
        level
        for level in range(len(losses))
        if transfers[level] <= transfers[planned] and losses[level] < losses[fastest]
    )
    for level in sorted(better, key=lambda level: (losses[level], transfers[level])):
        if _bears(problem, index, level, stress):
            return level
    return fastest


def _bears(problem: Problem, index: int, level: int, stress: float) -> bool:
    """Whether all can be in time if the link slows down ``stress`` times before this transfer."""
    arrived = problem.link_ms + stress * problem.transfers[index][level]
    decoded = max(arrived, problem.decoder_ms) + problem.decodes[index][level]
    ready = list(problem.ready)
    ready[index] = decoded
    later = replace(
        problem,
        link_ms=arrived,
        decoder_ms=decoded,
        transfers=[[stress * ms for ms in row] for row in problem.transfers],
        ready=ready,
    )
    return cheapest_in_time(later).feasible
