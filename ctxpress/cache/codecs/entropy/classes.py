"""Classes of rows that share a frequency table, as a stream's head names them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ctxpress.cache.codecs.entropy.stream_kernels import segments_of

__all__ = ["MAX_CLASSES", "RowClasses", "ladder"]

MAX_CLASSES = 255
_RUNGS = 241


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RowClasses:
    """Rows by class, as ``stream_kernels`` takes them.

    ``heads``: int64 ``(n_classes, 4)``: the table, the lowest symbol, the number of symbols, and
    how many are coded as one. ``weights``: uint32 ``(n_classes, 256)`` from the lowest symbol on.
    ``of_rows``: the class of each row, int64.
    """

    source: int
    heads: np.ndarray
    weights: np.ndarray
    of_rows: np.ndarray

    def segments(self, n_columns: int) -> np.ndarray:
        """Where the groups of each class begin, and where the last ones end; int64."""
        segments: np.ndarray = segments_of(self.of_rows, self.heads[:, 3], n_columns)
        return segments


@lru_cache(maxsize=1)
def ladder() -> np.ndarray:
    """The weights that a byte can name: ``floor(2 ** (byte / 20))``; uint32."""
    rungs, weight = [], 1
    for byte in range(_RUNGS):
        while (weight + 1) ** 20 <= 2**byte:
            weight += 1
        rungs.append(weight)
    ladder = np.array(rungs, np.uint32)
    ladder.flags.writeable = False
    return ladder
