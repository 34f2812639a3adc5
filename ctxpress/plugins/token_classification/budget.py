"""Which ranked units fit a token budget, by few exact counts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

__all__ = ["choose_units", "largest_within"]

_MAX_GUESSES = 8
_MAX_PASSED_OVER = 4
_WASTE = 0.01
"""More than this part of the budget left unused, and the unit that did not fit is passed over."""

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


def choose_units(
    ranked: IntArray,
    budget_tokens: int,
    cost: Callable[[IntArray], int],
    estimates: FloatArray,
    minimum: int,
) -> IntArray:
    """The best of `ranked`, (n,) units by falling importance, whose text fits the budget.

    Mostly a prefix. Where a long unit does not fit and much of the budget would stay unused, up to
    four such units are passed over for shorter ones behind them. `cost(units)` is the exact token
    count of the text that some units make; `estimates`, (n,), are rough tokens a unit. The first
    `minimum` units are chosen whatever they cost.
    """

    def cost_of(order: IntArray) -> Callable[[int], int]:
        return lambda k: cost(order[:k])

    count = largest_within(budget_tokens, cost_of(ranked), estimates, minimum)
    for _ in range(_MAX_PASSED_OVER):
        if count >= len(ranked):
            break
        if budget_tokens - cost(ranked[:count]) <= _WASTE * budget_tokens:
            break
        ranked, estimates = np.delete(ranked, count), np.delete(estimates, count)
        count = largest_within(budget_tokens, cost_of(ranked), estimates, count)
    return ranked[:count]


def largest_within(
    budget_tokens: int, cost: Callable[[int], int], estimates: FloatArray, minimum: int
) -> int:
    """The number k of units, `minimum` <= k <= n, with cost(k) <= `budget_tokens` < cost(k + 1).

    `cost(k)` is the exact count of the text that the k best units make; it is expensive, so it is
    called where `estimates`, (n,) rough tokens a unit in rank order, say that the budget ends,
    then corrected by what the last count was off. Token counts of parts do not add up exactly,
    so `cost` may fall by a token where k grows; any k at which the budget is crossed will do. The
    result is above the budget only if `minimum` is.
    """
    n_units = len(estimates)
    running = np.concatenate([[0.0], np.cumsum(estimates)])
    low, high = minimum, n_units + 1  # cost(low) fits or low is the minimum; cost(high) does not
    aim = float(budget_tokens)
    attempt = 0
    while high - low > 1:
        guess = int(np.searchsorted(running, aim, side="right")) - 1
        if attempt >= _MAX_GUESSES:
            guess = (low + high) // 2
        attempt += 1
        guess = min(max(guess, low + 1), high - 1)
        spent = cost(guess)
        if spent <= budget_tokens:
            low = guess
        else:
            high = guess
        aim = float(running[guess]) + budget_tokens - spent
    return low
