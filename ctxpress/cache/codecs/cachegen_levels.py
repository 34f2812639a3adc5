"""The published levels of CacheGen as data, for models of any depth.

A level gives the quantiser's bins by groups of layers: K's groups end at 10/32 and 20/32 of the
layers, V's at 2/32, as in the released tables for a model of 32 layers; earlier layers are finer,
and keys are finer than values. ``bins`` are the published numbers: ``2 * (bins // 2 - 1) + 1``
symbols, the largest of a token's values becoming the outermost.

Source: CacheGen (Liu et al., SIGCOMM 2024, arXiv 2310.07240), section 5.2, and the levels of its
released code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["LEVELS", "Level"]


@dataclass(frozen=True, slots=True)
class Level:
    """Bins of keys and of values: ``(end of the group in 32nds of the layers, bins)``."""

    keys: tuple[tuple[int, int], ...]
    values: tuple[tuple[int, int], ...]

    def most_symbols(self, layer: int, n_layers: int) -> tuple[int, int]:
        """The outermost symbols of keys and of values in ``layer``: ``bins // 2 - 1``."""
        return _bins(self.keys, layer, n_layers) // 2 - 1, (
            _bins(self.values, layer, n_layers) // 2 - 1
        )


LEVELS: Mapping[str, Level] = {
    "cachegen-1": Level(keys=((10, 16), (20, 16), (32, 12)), values=((2, 16), (32, 12))),
    "cachegen-2": Level(keys=((10, 32), (20, 16), (32, 16)), values=((2, 32), (32, 16))),
    "cachegen-3": Level(keys=((10, 32), (20, 32), (32, 32)), values=((2, 32), (32, 32))),
}


def _bins(groups: tuple[tuple[int, int], ...], layer: int, n_layers: int) -> int:
    return next(bins for end, bins in groups if 32 * layer < end * n_layers)
