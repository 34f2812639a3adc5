"""Calibrations for the codecs that need one, of blocks like the one that will be encoded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ctxpress.cache.calibration import Calibration

if TYPE_CHECKING:
    from ctxpress.cache import KVBlock


def calibration_for(block: KVBlock) -> Calibration:
    """Measured on blocks of the same shape, dtype and channels, but for the number of tokens."""
    from tests.cache.codecs.cases import make_block

    shape = (block.n_layers, block.n_kv_heads, 512, block.head_dim)
    like = make_block(shape, block.dtype_name, seed=7, identity=block.identity)
    arrays = {"cachegen/step": np.array([0.85], np.float32)}
    for name, tensor in (("key", like.keys), ("value", like.values)):
        std = tensor.float().std(2).numpy()
        arrays[f"cachegen/{name}_mean"] = tensor.float().mean(2).numpy()
        arrays[f"cachegen/{name}_std"] = std
        arrays[f"cachegen/{name}_cost"] = 1 / std**2
    return Calibration(arrays, {"model": block.identity.model, "n_layers": block.n_layers})
