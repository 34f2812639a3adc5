"""Scales of channels and tokens on a ladder of quarter octaves, equal on every machine."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch

__all__ = ["LEAST_RUNG", "MOST_RUNG", "ladder", "nearest_rungs", "rungs_above"]

LEAST_RUNG, MOST_RUNG = -480, 480
# 2 ** 0, 1/4, 1/2, 3/4 as float32; rung n is one of them times a power of two, which is exact.
_MANTISSAS = np.array([0x3F800000, 0x3F9837F0, 0x3FB504F3, 0x3FD744FD], np.uint32).view(np.float32)


@lru_cache(maxsize=1)
def _all_rungs() -> np.ndarray:
    rungs = np.arange(LEAST_RUNG, MOST_RUNG + 1)
    values: np.ndarray = np.ldexp(_MANTISSAS[rungs % 4], rungs // 4)
    values.flags.writeable = False
    return values


def ladder(rungs: np.ndarray) -> np.ndarray:
    """``2 ** (rung / 4)`` as float32; rungs lie between LEAST_RUNG and MOST_RUNG."""
    scales: np.ndarray = _all_rungs()[rungs - LEAST_RUNG]
    return scales


def nearest_rungs(scales: torch.Tensor) -> torch.Tensor:
    """The rungs nearest to ``scales``, float32 of at least 0; int64, limited to the ladder."""
    return _limited((4 * torch.log2(scales)).round())


def rungs_above(scales: torch.Tensor) -> torch.Tensor:
    """The first rungs not below ``scales``, but for rounding; int64, limited to the ladder."""
    return _limited((4 * torch.log2(scales)).ceil())


def _limited(rungs: torch.Tensor) -> torch.Tensor:
    finite = torch.nan_to_num(rungs, nan=LEAST_RUNG, posinf=MOST_RUNG, neginf=LEAST_RUNG)
    return finite.clamp_(LEAST_RUNG, MOST_RUNG).long()
