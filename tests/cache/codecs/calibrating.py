"""Calibrations for the codecs that need one, of blocks like the one that will be encoded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ctxpress.cache.calibration import Calibration

if TYPE_CHECKING:
    from ctxpress.cache import KVBlock


def calibration_for(block: KVBlock) -> Calibration:
    """Measured on blocks of the same shape, dtype and channels, but for the number of tokens."""
    raise NotImplementedError
