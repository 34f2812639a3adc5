"""Which classes and tables are cheapest for rows of symbols; compiled, since streams are small.

Rows that are alike share a table: one of the static family, one that the caller gave, or one of
their own in the stream. Every way is priced from counts before any symbol is coded.
"""

from __future__ import annotations

import numpy as np
from numba import float32, uint64

from ctxpress.cache.codecs.entropy.compiling import compiled
from ctxpress.cache.codecs.entropy.pricing_kernels import (
    bins_of_rows,
    cheapest_tables,
    finish_classes,
    sums_of_classes,
)

__all__ = [
    "SOURCE_GIVEN",
    "SOURCE_ROWS",
    "SOURCE_STATIC",
    "SOURCE_STREAM",
    "SYMBOLS_A_CLASS",
    "choose_classes",
    "classes_of_tables",
    "head_bits",
]

SOURCE_STATIC, SOURCE_STREAM, SOURCE_GIVEN, SOURCE_ROWS = range(4)
# A class costs a table of 16 KiB to build at both ends: the time of some 4,000 symbols.
SYMBOLS_A_CLASS = 4096
_MOST_CLASSES = 8
_MOST_GROUP = 4
_ROUNDS = 2
_GOOD_ENOUGH = 1.002  # static tables this near to the bins' own: nothing is left to learn


@compiled
def choose_classes(
    counts: np.ndarray,
    n_rows: int,
    n_columns: int,
    static_weights: np.ndarray,
    static_bits: np.ndarray,
    given_weights: np.ndarray,
    given_bits: np.ndarray,
    ladder: np.ndarray,
) -> tuple[int, np.ndarray, np.ndarray, np.ndarray, np.ndarray, float, float]:
    """The cheapest classes for rows of these ``counts``, float32 ``(n_rows, n_levels)``.

    ``counts`` may be of all rows together, ``(1, n_levels)``, where one class is all there can be.
    A family is ``weights`` ``(n_tables, n_levels)`` and ``bits`` ``(n_levels, n_tables)`` a symbol.
    Returns the source of the tables, heads and weights as ``stream_kernels`` takes them, the class
    of each row, the ladder's bytes, how many symbols lie outside their class, and the bits of
    everything but a few bytes.
    """
    everything = counts.sum(axis=0)
    n_levels = everything.size
    first, end = 0, n_levels
    while everything[first] == 0:
        first += 1
    while everything[end - 1] == 0:
        end -= 1
    used = counts[:, first:end].copy()
    most = min(_MOST_CLASSES, n_rows * n_columns // SYMBOLS_A_CLASS)
    bins = np.zeros(counts.shape[0], np.int64)
    if most > 1:
        bins = bins_of_rows(used, (n_levels - 1) // 2 - first, n_columns)
    sums = sums_of_classes(used, bins, int(bins.max()) + 1)
    source, of_rows = SOURCE_STREAM, np.zeros(counts.shape[0], np.int64)
    kept = np.zeros(1, np.int64)
    total = sums_of_classes(sums, np.zeros(sums.shape[0], np.int64), 1)
    best = _own_bits(total) + 32.0
    for family in range(2):
        bits = static_bits if family == 0 else given_bits
        if bits.shape[0] == 0:
            continue
        cost, tables, names = _from_family(sums, bits, first, bins, max(1, most))
        if family == 0 and most > 1 and cost > _GOOD_ENOUGH * _own_bits(sums):
            own_cost, n_own, own_names = _clustered(used, names, most)
            if own_cost < best:
                source, kept, of_rows = SOURCE_STREAM, np.zeros(n_own, np.int64), own_names
                best = own_cost
        if cost < best:
            source, kept, of_rows = (SOURCE_STATIC if family == 0 else SOURCE_GIVEN), tables, names
            best = cost
    weights = given_weights
    if source == SOURCE_STREAM:
        weights = given_weights[:0]
    elif source == SOURCE_STATIC:
        weights = static_weights
    classes = np.zeros(n_rows, np.int64)
    if counts.shape[0] == n_rows:
        classes[:] = of_rows
    sums = sums_of_classes(used, of_rows, kept.size)
    heads, finished, rungs, n_outliers, n_bits = _finished(
        sums, kept, weights, ladder, first, n_columns
    )
    n_bits += head_bits(classes, kept.size)
    return source, heads, finished, classes, rungs, n_outliers, n_bits


@compiled
def classes_of_tables(
    counts: np.ndarray,
    n_columns: int,
    kept: np.ndarray,
    of_rows: np.ndarray,
    given_weights: np.ndarray,
    ladder: np.ndarray,
) -> tuple[int, np.ndarray, np.ndarray, np.ndarray, np.ndarray, float, float]:
    """As :func:`choose_classes`, where row ``r`` must use the given table ``kept[of_rows[r]]``."""
    sums = sums_of_classes(counts, of_rows, kept.size)
    heads, weights, rungs, n_outliers, bits = _finished(
        sums, kept, given_weights, ladder, 0, n_columns
    )
    return SOURCE_ROWS, heads, weights, of_rows, rungs, n_outliers, bits


@compiled
def _finished(
    sums: np.ndarray,
    kept: np.ndarray,
    weights: np.ndarray,
    ladder: np.ndarray,
    first: int,
    n_columns: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float, float]:
    """Ranges and groups of classes that use tables ``kept`` of ``weights``, or own ones."""
    n_own = sums.shape[1] if weights.shape[0] > 0 else 0
    chosen = np.empty((kept.size if n_own else 0, n_own), np.uint32)
    for kind in range(chosen.shape[0]):
        for level in range(n_own):
            chosen[kind, level] = weights[kept[kind], first + level]
    heads, finished, prices, rungs, n_outliers = finish_classes(
        sums, chosen, ladder, n_columns, _MOST_GROUP
    )
    heads[:, 0] = kept
    heads[:, 1] += first
    return heads, finished, rungs, n_outliers, float(prices.sum())


@compiled
def head_bits(of_rows: np.ndarray, n_classes: int) -> float:
    """About what classes take up, and the class of each row."""
    if n_classes == 1:
        return 32.0
    rows = np.zeros(n_classes, np.float64)
    for kind in of_rows:
        rows[kind] += 1.0
    bits = 32.0 * n_classes + 150.0
    for kind in range(n_classes):
        if rows[kind] > 0.0:
            bits -= rows[kind] * np.log2(rows[kind] / of_rows.size)
    return bits


@compiled
def _from_family(
    sums: np.ndarray, symbol_bits: np.ndarray, first: int, bins: np.ndarray, most: int
) -> tuple[float, np.ndarray, np.ndarray]:
    """Bits, tables used and each row's place among them; naming a table is part of the price."""
    n_bins, n_tables = sums.shape[0], symbol_bits.shape[1]
    bits = np.zeros((n_bins, n_tables), np.float32)
    for index in range(n_bins):
        for level in range(sums.shape[1]):
            count = sums[index, level]
            if count > float32(0.0):
                for table in range(n_tables):
                    bits[index, table] += count * symbol_bits[first + level, table]
    sizes = np.zeros(n_bins, np.int64)
    for index in bins:
        sizes[index] += 1
    kept, of_bins = cheapest_tables(bits, sizes, most, _ROUNDS)
    of_rows = of_bins[bins]
    cost = head_bits(of_rows, kept.size)
    for index in range(n_bins):
        cost += bits[index, kept[of_bins[index]]]
    return cost, kept, of_rows


@compiled
def _clustered(counts: np.ndarray, start: np.ndarray, most: int) -> tuple[float, int, np.ndarray]:
    """Rows in clusters by what their symbols cost with the clusters' own tables (k-means)."""
    of_rows, n_classes = start, int(start.max()) + 1
    n_rows, n_levels = counts.shape
    ones = np.ones(n_rows, np.int64)
    for _ in range(_ROUNDS):
        sums = sums_of_classes(counts, of_rows, n_classes)
        prices = np.empty((n_levels, n_classes), np.float32)
        for kind in range(n_classes):
            total = sums[kind].sum() + float32(0.1) * float32(n_levels)
            prices[:, kind] = np.log2(total / (sums[kind] + float32(0.1)))
        bits = np.zeros((n_rows, n_classes), np.float32)
        for row in range(n_rows):
            cost = bits[row]
            for level in range(n_levels):
                count, price = counts[row, level], prices[level]
                for kind in range(uint64(n_classes)):
                    cost[kind] += count * price[kind]
        kept, of_rows = cheapest_tables(bits, ones, most, _ROUNDS)
        n_classes = kept.size
    sums = sums_of_classes(counts, of_rows, n_classes)
    return _own_bits(sums) + head_bits(of_rows, n_classes), n_classes, of_rows


@compiled
def _own_bits(sums: np.ndarray) -> float:
    """What symbols cost with the tables of their classes' own counts, and those tables."""
    bits = 0.0
    for kind in range(sums.shape[0]):
        total = 0.0
        for level in range(sums.shape[1]):
            count = np.float64(sums[kind, level])
            if count > 0.0:
                total += count
                bits += 8.0 - count * np.log2(count)
        if total > 0.0:
            bits += total * np.log2(total)
    return bits
