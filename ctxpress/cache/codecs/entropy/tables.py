"""Frequency tables of symbols: measured ones, and a family computed from integers alone."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ctxpress.cache.codecs.entropy.compiling import compiled
from ctxpress.errors import CodecError

__all__ = [
    "MAX_TABLES",
    "WEIGHT_TOTAL",
    "SymbolTables",
    "static_densities",
    "static_tables",
    "static_weights",
    "weights_of_counts",
]

WEIGHT_TOTAL = 4096
MAX_TABLES = 256
_ONE = 1 << 31
_STEPS = 16  # points of the density a symbol
_SCALES = 40  # the standard deviation of table i is 2 ** ((i - 12) / 4) symbols: 1/8 to 108
_SHAPES = 3  # Gaussian, between, Laplacian


@dataclass(frozen=True, slots=True, eq=False)
class SymbolTables:
    """Frequency tables that both ends have: those of a calibration, for one.

    ``weights``: ``(n_tables, n_levels)`` integers of at least 1 whose rows sum to at most 4,096;
    a row of symbols is coded with the table that suits it best, named by a byte or less.

    :raises CodecError: another shape, no table or more than 256, or weights out of range.
    """

    weights: np.ndarray

    def __post_init__(self) -> None:
        weights = self.weights
        if (
            weights.ndim != 2
            or not 1 <= len(weights) <= MAX_TABLES
            or weights.dtype.kind not in "iu"
        ):
            raise CodecError(
                f"tables must be integers (1 to {MAX_TABLES}, n_levels), "
                f"not {weights.dtype} {weights.shape}"
            )
        wide = weights.astype(np.int64)
        if not 1 <= wide.shape[1] <= 256 or wide.min() < 1 or wide.sum(axis=1).max() > WEIGHT_TOTAL:
            raise CodecError("tables must hold 1 to 256 weights of 1 or more that sum to 4,096")
        copy = wide.astype(np.uint32)
        copy.flags.writeable = False
        object.__setattr__(self, "weights", copy)

    @classmethod
    def of_counts(cls, counts: np.ndarray) -> SymbolTables:
        """Tables of what was counted: ``counts`` ``(n_tables, n_levels)``, not negative."""
        return cls(weights_of_counts(np.asarray(counts)))


def weights_of_counts(counts: np.ndarray) -> np.ndarray:
    """Weights of at least 1 that sum to at most 4,096, as likely as ``counts``; uint32."""
    counts = np.asarray(counts, dtype=np.float64)
    total = np.maximum(counts.sum(axis=1, keepdims=True), 1e-30)
    share = (WEIGHT_TOTAL - counts.shape[1]) * counts / total
    weights: np.ndarray = (1 + np.floor(share)).astype(np.uint32)
    return weights


@lru_cache(maxsize=128)
def static_tables(n_levels: int) -> SymbolTables:
    """The family of tables that needs no measuring, centred on symbol ``(n_levels - 1) // 2``.

    120 tables: densities ``exp(-a|x| - b x**2)`` of 40 widths and 3 shapes, summed over 16 points
    a symbol. Only integers are used, so they are equal on every machine.
    """
    densities = static_densities()
    return SymbolTables(np.stack([static_weights(one, n_levels) for one in densities]))


@compiled
def static_weights(density: np.ndarray, n_levels: int) -> np.ndarray:
    """Weights of one table of the family from its row of :func:`static_densities`; uint32."""
    centre = (n_levels - 1) // 2
    reach = max(centre, n_levels - 1 - centre)
    value, ratio, bend = density[0], density[1], density[2]
    mass = np.zeros(reach + 1, np.int64)
    # Points lie at (m + 1/2) / 16 on one side; the other side of symbol 0 counts by doubling.
    for point in range(_STEPS * reach + _STEPS // 2):
        symbol = (point + _STEPS // 2) // _STEPS
        mass[symbol] += value * (2 if symbol == 0 else 1)
        value = value * ratio >> 31
        ratio = ratio * bend >> 31
        if value == 0:
            break
    total = mass[0] + mass[1 : centre + 1].sum() + mass[1 : n_levels - centre].sum()
    weights = np.empty(n_levels, np.uint32)
    for symbol in range(n_levels):
        weights[symbol] = 1 + mass[abs(symbol - centre)] * (WEIGHT_TOTAL - n_levels) // total
    return weights


@lru_cache(maxsize=1)
def static_densities() -> np.ndarray:
    """Of each table the density at its first point, the ratio to the next, what that shrinks by.

    int64 ``(120, 3)`` with 31 fraction bits.
    """
    rows = []
    for scale in range(_SCALES):
        width = _exp2_quarters(scale - 12)  # standard deviation in symbols, 32 fraction bits
        for shape in range(_SHAPES):
            # exp(-a x - b x**2): Gaussian b = 1/(2 s**2), Laplacian a = sqrt(2)/s, or halfway.
            a = shape * (_SQRT2 << 32) // (width * (_SHAPES - 1))
            b = (_SHAPES - 1 - shape) * (1 << 95) // (width * width * (_SHAPES - 1))
            step, square = a // _STEPS, b // (_STEPS * _STEPS)
            first = step // 2 + square // 4
            rows.append((_exp(first), _exp(step + 2 * square), _exp(2 * square)))
    densities = np.array(rows, np.int64)
    densities.flags.writeable = False
    return densities


_SQRT2 = 6074001000  # sqrt(2) with 32 fraction bits
_QUARTERS = (1 << 32, 5107605667, 6074001000, 7223244207)  # 2 ** (i / 4), 32 fraction bits


def _exp2_quarters(quarters: int) -> int:
    whole, rest = divmod(quarters, 4)
    return _QUARTERS[rest] << whole if whole >= 0 else _QUARTERS[rest] >> -whole


def _exp(x: int) -> int:
    """``exp(-x)`` with 31 fraction bits, of ``x`` with 32, by halving and Taylor's series."""
    halvings = max(x.bit_length() - 31, 0)
    x = (x << 32) >> halvings  # 64 fraction bits, at most a half
    term = total = 1 << 64
    for n in range(1, 20):
        term = -term * x // (n << 64)
        total += term
    for _ in range(halvings):
        total = total * total >> 64
    return total >> 33
