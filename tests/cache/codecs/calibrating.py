"""Calibrations for the codecs that need one, of blocks like the one that will be encoded."""

from __future__ import annotations

from functools import lru_cache

from ctxpress.cache import KVBlock
from ctxpress.cache.calibration import Calibration
from ctxpress.cache.codecs.kvtc.measure import measure_calibration


def calibration_for(block: KVBlock) -> Calibration:
    """Measured on blocks of the same shape, dtype and channels, but for the number of tokens."""
    shape = (block.n_layers, block.n_kv_heads, 200, block.head_dim)
    return _calibration(shape)


@lru_cache(maxsize=64)
def _calibration(shape: tuple[int, int, int, int]) -> Calibration:
    from tests.cache.codecs.cases import make_block

    return measure_calibration([make_block(shape, seed=seed) for seed in (5, 6)])
