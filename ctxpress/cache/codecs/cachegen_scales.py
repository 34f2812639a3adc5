"""Scales of channels and tokens on a ladder of quarter octaves, equal on every machine."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

__all__ = ["LEAST_RUNG", "MOST_RUNG", "all_rungs", "ladder", "nearest_rungs", "rungs_above"]

LEAST_RUNG, MOST_RUNG = -480, 480
# 2 ** 0, 1/4, 1/2, 3/4 as float32; rung n is one of them times a power of two, which is exact.
_MANTISSAS = np.array([0x3F800000, 0x3F9837F0, 0x3FB504F3, 0x3FD744FD], np.uint32).view(np.float32)


@lru_cache(maxsize=1)
def all_rungs() -> np.ndarray:
    """The values of all rungs from LEAST_RUNG on, float32."""
    rungs = np.arange(LEAST_RUNG, MOST_RUNG + 1)
    values: np.ndarray = np.ldexp(_MANTISSAS[rungs % 4], rungs // 4)
    values.flags.writeable = False
    return values


def ladder(rungs: np.ndarray) -> np.ndarray:
    """``2 ** (rung / 4)`` as float32; rungs lie between LEAST_RUNG and MOST_RUNG."""
    scales: np.ndarray = all_rungs()[rungs - LEAST_RUNG]
    return scales


def nearest_rungs(scales: np.ndarray) -> np.ndarray:
    """The rungs nearest to ``scales``, float32 of at least 0; int64, limited to the ladder."""
    return _limited(np.rint(_quarters(scales)))


def rungs_above(scales: np.ndarray) -> np.ndarray:
    """The first rungs not below ``scales``, but for rounding; int64, limited to the ladder."""
    return _limited(np.ceil(_quarters(scales)))


def _quarters(scales: np.ndarray) -> np.ndarray:
    quarters: np.ndarray = 4 * np.log2(np.maximum(scales, np.float32(2.0**-126)))
    return quarters


def _limited(rungs: np.ndarray) -> np.ndarray:
    limited: np.ndarray = np.clip(rungs, LEAST_RUNG, MOST_RUNG).astype(np.int64)
    return limited
