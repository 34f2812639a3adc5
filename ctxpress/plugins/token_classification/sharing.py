"""How the tokens of a turn are shared out over its blocks (option `dynamic_ratio`)."""

from __future__ import annotations

import numpy as np

from ctxpress.plugins.token_classification.characters import FloatArray, IntArray

__all__ = ["LEAST", "MOST", "share_budgets"]

LEAST, MOST = 0.5, 1.5
"""Bounds of a block's budget, as parts of its equal share."""


def share_budgets(
    budgets: IntArray,
    limits: IntArray,
    blocks: IntArray,
    priority: FloatArray,
    costs: FloatArray,
    strength: float,
) -> IntArray:
    """Budgets of the same sum, (n_blocks,), that move towards one threshold over all blocks.

    `budgets`, `limits`: (n_blocks,) tokens of the equal shares and of all that a block has.
    `blocks`, `priority`, `costs`: (n_units,) for the units of all blocks their block, priority and
    rough tokens. `strength` 0 leaves the equal shares; at 1 the best units of the whole turn are
    kept, wherever they stand, within `LEAST` and `MOST` of a block's share. LLMLingua-2's users
    know the idea as a dynamic ratio by sample.
    """
    n_blocks = len(budgets)
    total = int(budgets.sum())
    low = LEAST * budgets
    high = np.maximum(low, np.minimum(MOST * budgets, limits))
    order = np.argsort(-priority, kind="stable")

    def wanted(count: int) -> FloatArray:
        best = order[:count]
        taken = np.bincount(blocks[best], weights=costs[best], minlength=n_blocks)
        return np.clip(taken, low, high)

    fits, too_many = 0, len(order) + 1
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        if float(wanted(middle).sum()) <= total:
            fits = middle
        else:
            too_many = middle
    shares = wanted(fits)
    room = high - shares
    if room.sum() > 0:
        shares = shares + room * min(1.0, (total - float(shares.sum())) / float(room.sum()))
    mixed = (1 - strength) * budgets + strength * shares
    edges = np.floor(np.cumsum(mixed) + 1e-6).astype(np.int64)
    return np.diff(edges, prepend=0)
