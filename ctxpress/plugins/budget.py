"""How many ranked units fit a token budget, by few exact counts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

__all__ = ["largest_within"]

_MAX_GUESSES = 8


def largest_within(
    budget_tokens: int,
    cost: Callable[[int], int],
    estimates: npt.NDArray[np.float64],
    minimum: int,
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
    for attempt in range(64):
        if high - low <= 1:
            break
        guess = int(np.searchsorted(running, aim, side="right")) - 1
        if attempt >= _MAX_GUESSES:
            guess = (low + high) // 2
        guess = min(max(guess, low + 1), high - 1)
        spent = cost(guess)
        if spent <= budget_tokens:
            low = guess
        else:
            high = guess
        aim = float(running[guess]) + budget_tokens - spent
    return low
