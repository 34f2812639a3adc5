"""A calibration for the large shape, of mosaics that have each of their layers once.

All layers that a mosaic makes of one real layer have the same statistics, so one of them is
measured, and the others get what was found: minutes in place of most of an hour.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from benchmarks.kv_blocks import Shape, mosaic
from ctxpress.cache.calibration import Calibration
from ctxpress.cache.codecs.kvtc.measure import measure_calibration
from ctxpress.cache.kv import KVBlock

__all__ = ["mosaic_calibration"]


def mosaic_calibration(blocks: Sequence[KVBlock], shape: Shape, n_mosaics: int) -> Calibration:
    """A calibration for mosaics of ``shape`` that are made like those of ``blocks``.

    ``n_mosaics``: how many are measured; each has the tokens of one block. A layer is a section.
    """
    n_layers = blocks[0].n_layers
    few = replace(shape, n_layers=n_layers)
    found = measure_calibration(
        [mosaic(blocks, few, seed) for seed in range(1, n_mosaics + 1)],
        max_group_values=2 * shape.n_kv_heads * shape.head_dim,
    )
    sources = [layer * n_layers // shape.n_layers for layer in range(shape.n_layers)]
    layers = np.arange(shape.n_layers, dtype=np.int32)
    units = found.arrays["kvtc/units"][sources].copy()
    units[:, 0], units[:, 1] = layers, layers + 1
    arrays = {
        "kvtc/sections": np.stack((layers, layers + 1), axis=1),
        "kvtc/units": units,
    }
    for name, array in found.arrays.items():
        codec, _, rest = name.partition("/")
        unit, _, part = rest.partition("/")
        if codec == "kvtc" and unit.isdecimal():
            own = (layer for layer, source in enumerate(sources) if source == int(unit))
            arrays.update({f"kvtc/{layer}/{part}": array for layer in own})
        elif codec == "cachegen" and rest != "step":
            arrays[name] = array[sources]
        else:
            arrays.setdefault(name, array)
    return Calibration(arrays, {**found.facts, "n_layers": shape.n_layers})
