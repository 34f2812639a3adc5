"""Which ranked units fit a token budget, by few exact counts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ctxpress.plugins.token_classification.characters import FloatArray, IntArray

__all__ = ["choose_units", "largest_within"]

_MAX_GUESSES = 8
_MAX_FILLS = 4
_TOLERANCE = 1 / 400
"""A budget is met when no more than this part of it is left: 1 token of 400."""


def choose_units(
    ranked: IntArray,
    budget_tokens: int,
    cost: Callable[[IntArray], int],
    estimates: FloatArray,
    minimum: int,
) -> tuple[IntArray, int]:
    """The best of `ranked`, (n,) units by falling importance, whose text fits, and its tokens.

    Mostly a prefix. Where a unit does not fit the rest of the budget, such as a long table row,
    smaller ones behind it fill it up. `cost(units)` is the exact token count of the text that some
    units make; `estimates`, (n,), are rough tokens a unit. The first `minimum` units are chosen
    whatever they cost, alone they may exceed the budget.
    """
    tolerance = int(budget_tokens * _TOLERANCE)

    def fit(known: tuple[int, int] | None) -> tuple[int, int]:
        return largest_within(
            budget_tokens,
            lambda k: cost(ranked[:k]),
            estimates,
            minimum,
            tolerance=tolerance,
            known=known,
        )

    count, spent = fit(None)
    for _ in range(_MAX_FILLS):
        left = budget_tokens - spent
        if left <= tolerance or count + 1 >= len(ranked):
            break
        smaller = count + 1 + np.flatnonzero(estimates[count + 1 :] <= left)
        if not len(smaller):
            break
        taken = np.concatenate([np.arange(count), smaller])
        ranked, estimates = ranked[taken], estimates[taken]
        count, spent = fit((count, spent))
    return ranked[:count], spent


def largest_within(
    budget_tokens: int,
    cost: Callable[[int], int],
    estimates: FloatArray,
    minimum: int,
    *,
    tolerance: int = 0,
    known: tuple[int, int] | None = None,
) -> tuple[int, int]:
    """A number k of units, `minimum` <= k <= n, that fits while k + 1 would not, and cost(k).

    It may be less than the largest where no more than `tolerance` tokens are left. `cost(k)` is
    the exact count of the text that the k best units make; it is expensive, so it is called where
    `estimates`, (n,) rough tokens a unit in rank order, say that the budget ends, then corrected by
    what the last count was off. `known` is a k that fits and its cost, where there is one. Token
    counts of parts do not add up exactly, so `cost` may fall by a token where k grows; any k at
    which the budget is crossed will do. The result is above the budget only if `minimum` is.
    """
    running = np.concatenate([[0.0], np.cumsum(estimates)])
    low, high = minimum, len(estimates) + 1  # low fits or is the minimum; high does not fit
    spent_low: int | None = None
    aim = float(budget_tokens)
    if known is not None:
        low, spent_low = known
        aim += float(running[low]) - spent_low
    attempt = 0
    while high - low > 1:
        guess = int(np.searchsorted(running, aim, side="right")) - 1
        if attempt >= _MAX_GUESSES:
            guess = (low + high) // 2
        attempt += 1
        guess = min(max(guess, low + 1), high - 1)
        spent = cost(guess)
        if spent <= budget_tokens:
            low, spent_low = guess, spent
            if budget_tokens - spent <= tolerance:
                break
        else:
            high = guess
        scale = float(running[guess]) / spent if spent > 0 else 1.0
        aim = float(running[guess]) + (budget_tokens - spent) * scale
    return low, cost(low) if spent_low is None else spent_low
