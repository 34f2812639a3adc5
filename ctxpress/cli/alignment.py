"""Finds where the words of a shortened text stood in the original.

The shortened text is the original with words deleted, so its words are a subsequence of the
original's. Of the many ways to lay one over the other, the one with the fewest deletions in a row
is what a reader would call the difference. The earliest and the latest place of each word bound
the search, which makes it fast on real text; on text of a few words repeated for ever it looks at
the first places only.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

__all__ = ["align"]

MAX_PLACES = 256  # looked at for each word

_Step = tuple[list[int], list[int]]  # places of a word; index of the best place of the one before


def align(original: Sequence[str], shorter: Sequence[str]) -> list[int] | None:
    """The index in ``original`` of each item of ``shorter``, rising.

    ``None`` if ``shorter`` is no subsequence of ``original``.
    """
    earliest = _greedy(original, shorter)
    if earliest is None:
        return None
    backwards = _greedy(original[::-1], shorter[::-1]) or []
    latest = [len(original) - 1 - index for index in reversed(backwards)]
    places: dict[str, list[int]] = {}
    for index, item in enumerate(original):
        places.setdefault(item, []).append(index)
    steps: list[_Step] = []
    costs: list[int] = [0]
    before: list[int] = [-1]
    for item, first, last in zip(shorter, earliest, latest, strict=True):
        known = places[item]
        begin = bisect_left(known, first)
        here = known[begin : min(bisect_left(known, last + 1), begin + MAX_PLACES)]
        costs, back = _extend(before, costs, here)
        steps.append((here, back))
        before = here
    return _trace(steps, costs)


def _greedy(original: Sequence[str], shorter: Sequence[str]) -> list[int] | None:
    """The earliest place of each item, or ``None`` if there is none."""
    found: list[int] = []
    index = 0
    for item in shorter:
        while index < len(original) and original[index] != item:
            index += 1
        if index == len(original):
            return None
        found.append(index)
        index += 1
    return found


def _extend(before: list[int], costs: list[int], here: list[int]) -> tuple[list[int], list[int]]:
    """Cheapest way to each place, and from which place before it; a gap costs 1."""
    infinite = len(before) + len(here) + (max(costs) if costs else 0) + 1
    best, best_at, at = infinite, 0, 0
    new, back = [], []
    for place in here:
        while at < len(before) and before[at] < place:
            if costs[at] < best:
                best, best_at = costs[at], at
            at += 1
        cost, origin = best + 1, best_at
        if at and before[at - 1] == place - 1 and costs[at - 1] <= best:
            cost, origin = costs[at - 1], at - 1
        elif best == infinite:
            cost = infinite
        new.append(cost)
        back.append(origin)
    return new, back


def _trace(steps: Sequence[_Step], costs: Sequence[int]) -> list[int]:
    if not steps:
        return []
    at = min(range(len(costs)), key=costs.__getitem__)
    result = []
    for places, back in reversed(steps):
        result.append(places[at])
        at = back[at]
    return result[::-1]
