"""Which closing bracket or quote belongs to which opening one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["pair_up"]


def pair_up(families: npt.NDArray[np.uint8], opens: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """The partner of each bracket in reading order, or -1.

    `families`: (n,) which kind of bracket; `opens`: (n,) whether it opens. Brackets of one kind
    nest; those without a partner do not disturb the others. Each kind is looked at by itself:
    `([)]` has two pairs.
    """
    partner = np.full(len(families), -1, np.int64)
    for family in np.unique(families).tolist():
        index = np.flatnonzero(families == family)
        step = np.where(opens[index], 1, -1)
        after = np.cumsum(step)
        # Depth of an opener after it, of a closer before it: partners have the same.
        depth = np.where(opens[index], after, after + 1)
        order = np.argsort(depth, kind="stable")
        sorted_open, sorted_depth = opens[index][order], depth[order]
        matched = np.flatnonzero(
            sorted_open[:-1] & ~sorted_open[1:] & (sorted_depth[:-1] == sorted_depth[1:])
        )
        left, right = index[order[matched]], index[order[matched + 1]]
        partner[left], partner[right] = right, left
    return partner
