"""Classes of rows that share a frequency table: what they are, and which are cheapest."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ctxpress.cache.codecs.entropy import pricing_kernels as pricing
from ctxpress.cache.codecs.entropy.stream_kernels import segments_of
from ctxpress.cache.codecs.entropy.tables import SymbolTables, static_tables

__all__ = [
    "MAX_CLASSES",
    "MAX_GROUP",
    "RUNGS",
    "SOURCE_GIVEN",
    "SOURCE_ROWS",
    "SOURCE_STATIC",
    "SOURCE_STREAM",
    "SYMBOLS_A_CLASS",
    "RowClasses",
    "choose_classes",
    "ladder",
]

SOURCE_STATIC, SOURCE_STREAM, SOURCE_GIVEN, SOURCE_ROWS = range(4)
MAX_GROUP = 4
MAX_CLASSES = 255
# A class costs a table of 16 KiB to build at both ends: the time of some 4,000 symbols.
SYMBOLS_A_CLASS = 4096
_MOST_CLASSES = 8
_ROUNDS = 2
_GOOD_ENOUGH = 1.002  # static tables this near to the bins' own: nothing is left to learn
_NO_WEIGHTS = np.empty((0, 0))
RUNGS = 241


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RowClasses:
    """Rows by class, as ``stream_kernels`` takes them.

    ``heads``: int64 ``(n_classes, 4)``: the table, the lowest symbol, the number of symbols, and
    how many are coded as one. ``weights``: uint32 ``(n_classes, 256)`` from the lowest symbol on.
    ``of_rows``: the class of each row, int64. ``rungs``: the weights as they stand in the stream,
    uint8. ``has_outliers``: rows hold symbols outside their class.
    """

    source: int
    heads: np.ndarray
    weights: np.ndarray
    of_rows: np.ndarray
    rungs: np.ndarray | None = None
    has_outliers: bool = False

    def segments(self, n_columns: int) -> np.ndarray:
        """Where the groups of each class begin, and where the last ones end; int64."""
        segments: np.ndarray = segments_of(self.of_rows, self.heads[:, 3], n_columns)
        return segments


@lru_cache(maxsize=1)
def ladder() -> np.ndarray:
    """The weights that a byte can name: ``floor(2 ** (byte / 20))``; uint32."""
    rungs, weight = [], 1
    for byte in range(RUNGS):
        while (weight + 1) ** 20 <= 2**byte:
            weight += 1
        rungs.append(weight)
    ladder = np.array(rungs, np.uint32)
    ladder.flags.writeable = False
    return ladder


def choose_classes(
    shape: tuple[int, int],
    counts: np.ndarray,
    given: SymbolTables | None,
    row_tables: np.ndarray | None,
) -> tuple[RowClasses, float]:
    """The cheapest classes for rows of these ``counts`` ``(n_rows, n_levels)``, and their bits.

    ``counts`` may be of all rows together, ``(1, n_levels)``, where one class is all there can be.

    The bits are those of the symbols, of the rows' classes and of tables in the stream.
    """
    n_levels = counts.shape[1]
    everything = counts.sum(axis=0)
    present = np.flatnonzero(everything)
    used = slice(int(present[0]), int(present[-1]) + 1)
    if given is not None and row_tables is not None:
        kept, of_rows = np.unique(row_tables, return_inverse=True)
        indices = tuple(int(table) for table in kept)
        option = _Option(SOURCE_ROWS, indices, of_rows.reshape(-1), given.weights[kept][:, used])
        return _finished(shape[1], np.ascontiguousarray(counts[:, used]), used.start, option)
    most = min(_MOST_CLASSES, shape[0] * shape[1] // SYMBOLS_A_CLASS)
    if most <= 1:
        option = _one_class(everything[used], shape[0], n_levels, used, given)
        return _finished(shape[1], everything[None, used], used.start, option)
    trimmed = np.ascontiguousarray(counts[:, used])
    bins = pricing.bins_of_rows(trimmed, (n_levels - 1) // 2 - used.start, shape[1])
    sums = pricing.sums_of_classes(trimmed, bins, int(bins.max()) + 1)
    static = static_tables(n_levels).weights[:, used]
    static_bits = _static_bits(n_levels)[used]
    options = [_from_family(SOURCE_STATIC, static, static_bits, sums, bins, most)]
    if given is not None:
        weights = given.weights[:, used]
        bits = _bits_of(weights)
        options.append(_from_family(SOURCE_GIVEN, weights, bits, sums, bins, most))
    if options[0].bits > _GOOD_ENOUGH * _own_bits(sums):
        options.append(_clustered(trimmed, options[0].of_rows, most))
    options.append(_in_one(everything[used], shape[0]))
    cheapest = min(options, key=lambda option: option.bits)
    return _finished(shape[1], trimmed, used.start, cheapest)


@dataclass(frozen=True, slots=True)
class _Option:
    source: int
    indices: tuple[int, ...]
    of_rows: np.ndarray
    weights: np.ndarray  # (n_classes, symbols that occur), of families
    bits: float = 0.0  # about what symbols, classes and tables cost


def _bits_of(weights: np.ndarray) -> np.ndarray:
    """Bits a symbol: ``(n_levels, n_tables)``, for counts to be multiplied with."""
    wide = weights.astype(np.float32)
    return np.ascontiguousarray(np.log2(wide.sum(axis=1, keepdims=True) / wide).T)


@lru_cache(maxsize=128)
def _static_bits(n_levels: int) -> np.ndarray:
    return _bits_of(static_tables(n_levels).weights)


def _from_family(
    source: int,
    weights: np.ndarray,
    symbol_bits: np.ndarray,
    sums: np.ndarray,
    bins: np.ndarray,
    most: int,
) -> _Option:
    """The cheapest tables of a family for bins of rows; naming a table is part of the price."""
    bits = sums @ symbol_bits
    sizes = np.bincount(bins, minlength=len(sums))
    kept, of_bins = pricing.cheapest_tables(bits, sizes, most, _ROUNDS)
    cost = float(bits[np.arange(len(sums)), kept[of_bins]].sum())
    of_rows = of_bins[bins]
    indices = tuple(int(table) for table in kept)
    return _Option(source, indices, of_rows, weights[kept], cost + _head_bits(of_rows, len(kept)))


def _clustered(counts: np.ndarray, start: np.ndarray, most: int) -> _Option:
    """Rows in clusters by what their symbols cost with the clusters' own tables (k-means)."""
    of_rows, n_classes = start, int(start.max()) + 1
    ones = np.ones(len(counts), np.int64)
    for _ in range(_ROUNDS):
        sums = pricing.sums_of_classes(counts, of_rows, n_classes)
        bits = counts @ _bits_of(sums + np.float32(0.1))
        kept, of_rows = pricing.cheapest_tables(bits, ones, most, _ROUNDS)
        n_classes = len(kept)
    sums = pricing.sums_of_classes(counts, of_rows, n_classes)
    total_bits = _own_bits(sums) + _head_bits(of_rows, n_classes)
    return _Option(SOURCE_STREAM, (0,) * n_classes, of_rows, _NO_WEIGHTS, total_bits)


def _in_one(total: np.ndarray, n_rows: int) -> _Option:
    bits = _own_bits(total[None]) + _head_bits(_NO_WEIGHTS, 1)
    return _Option(SOURCE_STREAM, (0,), np.zeros(n_rows, np.int64), _NO_WEIGHTS, bits)


def _one_class(
    total: np.ndarray, n_rows: int, n_levels: int, used: slice, given: SymbolTables | None
) -> _Option:
    """The cheapest table where all rows share one: with few symbols, all that is worth a look."""
    own = _in_one(total, n_rows)
    options = [own]
    for source, family in ((SOURCE_STATIC, static_tables(n_levels)), (SOURCE_GIVEN, given)):
        if family is not None:
            static = source == SOURCE_STATIC
            table_bits = (
                _static_bits(n_levels)[used] if static else _bits_of(family.weights[:, used])
            )
            bits = total @ table_bits
            table = int(bits.argmin())
            weights = family.weights[table : table + 1, used]
            options.append(_Option(source, (table,), own.of_rows, weights, float(bits[table]) + 32))
    return min(options, key=lambda option: option.bits)


def _own_bits(sums: np.ndarray) -> float:
    """What symbols cost with the tables of their classes' own counts, and those tables."""
    logs = np.log2(np.maximum(sums, 1))
    totals = sums.sum(axis=1)
    bits = float((totals * np.log2(totals)).sum() - (sums * logs).sum())
    return bits + 8.0 * np.count_nonzero(sums)


def _head_bits(of_rows: np.ndarray, n_classes: int) -> float:
    if n_classes == 1:
        return 32.0
    share = np.bincount(of_rows) / len(of_rows)
    return 32.0 * n_classes + 150.0 - len(of_rows) * float((share * np.log2(share)).sum())


def _finished(
    n_columns: int, counts: np.ndarray, first: int, option: _Option
) -> tuple[RowClasses, float]:
    """The classes of an option with their ranges and groups, and the bits of all but a few."""
    n_classes = len(option.indices)
    of_rows = option.of_rows.astype(np.int64)
    sums = pricing.sums_of_classes(counts, of_rows, n_classes)
    own = option.source == SOURCE_STREAM
    given = np.zeros((0, 0), np.uint32) if own else np.ascontiguousarray(option.weights, np.uint32)
    heads, weights, prices, rungs, n_outliers = pricing.finish_classes(
        sums, given, ladder(), n_columns, MAX_GROUP
    )
    heads[:, 0] = option.indices
    heads[:, 1] += first
    bits = float(prices.sum())
    if option.source != SOURCE_ROWS:
        bits += _head_bits(of_rows, n_classes)
    classes = RowClasses(
        source=option.source,
        heads=heads,
        weights=weights,
        of_rows=of_rows,
        rungs=rungs,
        has_outliers=n_outliers > 0,
    )
    return classes, bits
