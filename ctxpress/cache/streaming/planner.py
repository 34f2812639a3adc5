"""Chooses text or a level for each chunk: the least loss of quality that meets the deadline.

Which chunks are text: recomputing needs no link, so from the first chunk on as many are recomputed
as the deadline allows while the link carries the rest. Every chunk that is recomputed loses
nothing and relaxes the others, so more is never worse as long as it fits (equal chunks; for unequal
ones this is a heuristic, and few chunks are searched exhaustively).

Which levels: a multiple-choice knapsack. All chunks start at their fastest level and are upgraded
in the order of loss avoided per millisecond, along each chunk's lower convex hull, as far as the
exact schedule meets the deadline; what slack is left goes to single upgrades that still fit. Where
the link is the bottleneck and all KV is due at one time, the loss is that of the best such plan
plus that of one upgrade at most.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ctxpress.cache.streaming.schedule import (
    FIXED,
    TEXT,
    Choice,
    Problem,
    finish_ms,
    first_late,
)

__all__ = ["Solution", "cheapest_in_time", "solve"]

MAX_EXHAUSTIVE = 256  # combinations that are tried one by one: a fraction of a millisecond
MAX_FILLERS = 8
_TINY_MS = 1e-9

Upgrade = tuple[float, int, int]  # minus loss avoided per ms, chunk, level


@dataclass(frozen=True, slots=True, kw_only=True)
class Solution:
    """A choice per chunk, when the context is then in place, and the sum of losses."""

    choices: tuple[Choice, ...]
    finish_ms: float
    loss: float
    feasible: bool


def solve(problem: Problem, *, max_exhaustive: int = MAX_EXHAUSTIVE) -> Solution:
    """The plan with the least loss that meets the deadline; the quickest one where none does.

    Up to ``max_exhaustive`` combinations are tried one by one.
    """
    if not len(problem):
        return _solution(problem, ())
    found = _greedy(problem)
    if problem.deferred:
        found = min(found, _without_deferred(problem), key=_rank)
    if _combinations(problem, max_exhaustive) <= max_exhaustive:
        found = _exhaustive(problem, found)
    if found.feasible and found.loss <= 0.0 and any(0.0 in losses for losses in problem.losses):
        found = _sooner(problem, found)
    return found


def cheapest_in_time(problem: Problem) -> Solution:
    """The plan with the most time to spare, as far as the deadline allows recomputing.

    Where it is not feasible, none is that recomputes a row of chunks from the first one on.
    """
    return _solution(problem, _with_text(problem, _most_text(problem)))


def _greedy(problem: Problem) -> Solution:
    choices = _with_text(problem, _most_text(problem))
    if finish_ms(problem, choices) > problem.deadline_ms:
        return _quickest(problem)
    place = {index: place for place, index in enumerate(problem.order)}
    upgrades = _upgrades(problem, choices)
    while upgrades:  # once for each group of chunks with a due time of its own
        taken = _longest_prefix(problem, choices, upgrades)
        for _, index, level in upgrades[:taken]:
            choices[index] = level
        if taken == len(upgrades):
            break
        trial = list(choices)
        trial[upgrades[taken][1]] = upgrades[taken][2]
        late = first_late(problem, trial)
        rest = upgrades[taken + 1 :]
        _fill(problem, choices, [one for one in rest if place[one[1]] <= late])
        upgrades = [one for one in rest if place[one[1]] > late]
    return _solution(problem, choices)


def _without_deferred(problem: Problem) -> Solution:
    """The plan that recomputes all deferred chunks: what once was slow to come may be again."""
    transfers = [
        [math.inf] * len(row) if index in problem.deferred else row
        for index, row in enumerate(problem.transfers)
    ]
    other = replace(problem, transfers=transfers)
    return _solution(problem, _greedy(other).choices)


def _longest_prefix(
    problem: Problem, choices: Sequence[Choice], upgrades: Sequence[Upgrade]
) -> int:
    """How many upgrades, in order, leave every chunk in time."""
    low, high = 0, len(upgrades)
    while low < high:
        middle = (low + high + 1) // 2
        trial = list(choices)
        for _, index, level in upgrades[:middle]:
            trial[index] = level
        if first_late(problem, trial) == len(problem.order):
            low = middle
        else:
            high = middle - 1
    return low


def _fill(problem: Problem, choices: list[Choice], upgrades: Sequence[Upgrade]) -> None:
    """Take single upgrades that still fit, most loss avoided per millisecond first."""
    for _, index, level in upgrades[:MAX_FILLERS]:
        old = choices[index]
        if problem.losses[index][level] < problem.losses[index][old]:
            choices[index] = level
            if first_late(problem, choices) < len(problem.order):
                choices[index] = old


def _upgrades(problem: Problem, base: Sequence[Choice]) -> list[Upgrade]:
    """All upgrades along the chunks' convex hulls, each chunk's in order, best first."""
    found = []
    for index, choice in enumerate(base):
        if choice < 0:
            continue
        losses = problem.losses[index]
        decodes = problem.decodes[index]
        costs = [
            transfer if transfer > decodes[level] else decodes[level]
            for level, transfer in enumerate(problem.transfers[index])
        ]
        at, steepest = choice, -math.inf
        while True:
            best, slope = -1, 0.0
            loss, cost = losses[at], costs[at]
            for level, other in enumerate(losses):
                if other < loss:
                    rise = costs[level] - cost
                    here = (other - loss) / (rise if rise > _TINY_MS else _TINY_MS)
                    if here < slope:
                        best, slope = level, here
            if best < 0:
                break
            steepest = max(steepest, slope)  # slopes flatten along a hull but for rounding
            found.append((steepest, index, best))
            at = best
    found.sort(key=_slope)
    return found


def _slope(upgrade: Upgrade) -> float:
    return upgrade[0]


def _most_text(problem: Problem) -> int:
    """The longest row of chunks, from the first on, that can be recomputed in time."""
    context, row = problem.compute_ms, 0
    for index, choice in enumerate(problem.fastest):
        if choice == FIXED:
            context = max(context, problem.ready[index] or 0.0)
        else:
            context += problem.prefills[index]
        if context > problem.due_ms[index]:
            break
        row = index + 1
    return row


def _with_text(problem: Problem, row: int) -> list[Choice]:
    fastest = problem.fastest
    return [FIXED if choice == FIXED else TEXT for choice in fastest[:row]] + fastest[row:]


def _quickest(problem: Problem) -> Solution:
    """The row of text with which everything is in place soonest, all else at its fastest level.

    A longer row takes longer to recompute and leaves less to the link: where both meet is best.
    """
    low, high = 0, len(problem)
    while low < high:
        middle = (low + high) // 2
        choices = _with_text(problem, middle)
        if finish_ms(problem, choices) > _recomputed_ms(problem, choices):
            low = middle + 1  # waits for the link
        else:
            high = middle
    rows = {max(low - 1, 0), low, min(low + 1, len(problem))}
    tried = [_solution(problem, _with_text(problem, row)) for row in sorted(rows)]
    return min(tried, key=lambda one: (one.finish_ms, one.loss))


def _recomputed_ms(problem: Problem, choices: Sequence[Choice]) -> float:
    """When recomputing would be done if all KV were there at once."""
    context = problem.compute_ms
    for index, choice in enumerate(choices):
        if choice == TEXT:
            context += problem.prefills[index]
        elif choice == FIXED:
            context = max(context, problem.ready[index] or 0.0)
    return context


def _sooner(problem: Problem, found: Solution) -> Solution:
    """Of plans without loss, the one that is done first: lossless KV may beat recomputing."""
    lossless = [
        [transfer if loss <= 0.0 else math.inf for transfer, loss in zip(*pair, strict=True)]
        for pair in zip(problem.transfers, problem.losses, strict=True)
    ]
    quick = _solution(problem, _quickest(replace(problem, transfers=lossless)).choices)
    return quick if quick.loss <= 0.0 and quick.finish_ms < found.finish_ms else found


def _combinations(problem: Problem, limit: int) -> int:
    total = 1
    for levels, choice in zip(problem.losses, problem.fastest, strict=True):
        if choice != FIXED:
            total *= len(levels) + 1
        if total > limit:
            break
    return total


def _exhaustive(problem: Problem, known: Solution) -> Solution:
    """The best of all combinations."""
    options = []
    for transfers, choice in zip(problem.transfers, problem.fastest, strict=True):
        arriving = [level for level, ms in enumerate(transfers) if ms < math.inf]
        options.append([FIXED] if choice == FIXED else [TEXT, *arriving])
    best, found = _rank(known), None
    losses, deadline = problem.losses, problem.deadline_ms
    for choices in itertools.product(*options):
        loss = 0.0
        for index, choice in enumerate(choices):
            if choice >= 0:
                loss += losses[index][choice]
        if not best[0] and loss > best[1]:
            continue
        finish = finish_ms(problem, choices)
        late = finish > deadline
        rank = (late, finish if late else loss, finish)
        if rank < best:
            best, found = rank, choices
    return known if found is None else _solution(problem, found)


def _rank(solution: Solution) -> tuple[bool, float, float]:
    finish = solution.finish_ms
    return (not solution.feasible, solution.loss if solution.feasible else finish, finish)


def _solution(problem: Problem, choices: Sequence[Choice]) -> Solution:
    finish = finish_ms(problem, choices)
    losses = problem.losses
    return Solution(
        choices=tuple(choices),
        finish_ms=finish,
        loss=sum(losses[index][choice] for index, choice in enumerate(choices) if choice >= 0),
        feasible=finish <= problem.deadline_ms,
    )
