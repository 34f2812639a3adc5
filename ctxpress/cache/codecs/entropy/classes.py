"""Classes of rows that share a frequency table: what they are, and which are cheapest."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from ctxpress.cache.codecs.entropy.tables import SymbolTables, static_tables

__all__ = [
    "MAX_CLASSES",
    "MAX_GROUP",
    "RUNGS",
    "SOURCE_GIVEN",
    "SOURCE_ROWS",
    "SOURCE_STATIC",
    "SOURCE_STREAM",
    "RowClasses",
    "choose_classes",
    "weights_of_bytes",
]

SOURCE_STATIC, SOURCE_STREAM, SOURCE_GIVEN, SOURCE_ROWS = range(4)
MAX_GROUP = 4
MAX_CLASSES = 255
# A class costs a table of 16 KiB to build at both ends: the time of some 4,000 symbols.
_SYMBOLS_A_CLASS = 4096
_MOST_CLASSES = 16
_ROUNDS = 3
_RARE = 4096  # one symbol in so many may be left out at each end of a class
_OUTLIER_BITS = 24.0
_NO_WEIGHTS = np.empty((0, 0))
RUNGS = 241
_GROUP_TOLERANCE = 1.003  # larger groups decode faster; this much larger a stream is no matter


@dataclass(frozen=True, kw_only=True, eq=False)
class RowClasses:
    """Rows by class. ``indices``, ``lows``, ``widths``, ``groups``, ``tables``: one a class.

    A class holds symbols ``low`` to ``low + width - 1``, coded ``group`` at a time with the weights
    in ``tables``, uint32 ``(width,)``. ``of_rows``: the class of each row, int64. ``ladder_bytes``:
    the tables as they stand in the stream. ``has_outliers``: rows hold symbols outside their class.
    """

    source: int
    indices: tuple[int, ...]
    lows: np.ndarray
    widths: np.ndarray
    groups: np.ndarray
    tables: tuple[np.ndarray, ...]
    of_rows: np.ndarray
    ladder_bytes: tuple[np.ndarray, ...] = ()
    has_outliers: bool = False

    @property
    def columns(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What the kernels take: lows, widths and groups."""
        return self.lows, self.widths, self.groups

    @cached_property
    def order(self) -> np.ndarray:
        """All rows, those of a class together, as they are coded."""
        return np.argsort(self.of_rows, kind="stable")

    @property
    def fillers(self) -> np.ndarray:
        """The likeliest symbol of each class, from ``low``: what pads a row's last group."""
        return np.array([int(table.argmax()) for table in self.tables])

    def segments(self, n_columns: int) -> np.ndarray:
        """Where the groups of each class begin, and where the last ones end; int64."""
        rows = np.bincount(self.of_rows, minlength=len(self.tables))
        return np.concatenate(([0], np.cumsum(rows * -(-n_columns // self.groups))))

    def n_groups(self, n_columns: int) -> int:
        """How many groups there are in all."""
        return int(self.segments(n_columns)[-1])

    def frequencies(self, kernels: Any) -> list[np.ndarray]:
        """The frequencies of each class's groups."""
        return [
            kernels.group_frequencies(table, int(group))
            for table, group in zip(self.tables, self.groups, strict=True)
        ]


@lru_cache(maxsize=1)
def _ladder() -> np.ndarray:
    """The weights that a byte can name: ``floor(2 ** (byte / 20))``; uint32."""
    rungs, weight = [], 1
    for byte in range(RUNGS):
        while (weight + 1) ** 20 <= 2**byte:
            weight += 1
        rungs.append(weight)
    ladder = np.array(rungs, np.uint32)
    ladder.flags.writeable = False
    return ladder


def weights_of_bytes(data: np.ndarray) -> np.ndarray:
    """The weights, 1 to 4,096, that bytes of a stream name; uint32. All are below RUNGS."""
    weights: np.ndarray = _ladder()[data]
    return weights


def bytes_of_weights(counts: np.ndarray) -> np.ndarray:
    """The bytes whose weights are nearest to ``counts``, of which the largest becomes 4,096."""
    share = np.maximum(counts / counts.max(), 2.0**-12)
    rungs: np.ndarray = np.rint(20 * (12 + np.log2(share))).astype(np.uint8)
    return rungs


def choose_classes(
    kernels: Any,
    shape: tuple[int, int],
    counts: np.ndarray,
    given: SymbolTables | None,
    row_tables: np.ndarray | None,
) -> tuple[RowClasses, float]:
    """The cheapest classes for rows of these ``counts`` ``(n_rows, n_levels)``, and their bits.

    The bits are those of the symbols, of the rows' classes and of tables in the stream.
    """
    n_levels = counts.shape[1]
    everything = counts.sum(axis=0)
    present = np.flatnonzero(everything)
    used = slice(int(present[0]), int(present[-1]) + 1)
    trimmed = np.ascontiguousarray(counts[:, used])
    if given is not None and row_tables is not None:
        kept, of_rows = np.unique(row_tables, return_inverse=True)
        indices = tuple(int(table) for table in kept)
        option = _Option(SOURCE_ROWS, indices, of_rows.reshape(-1), given.weights[kept][:, used])
        return _finished(kernels, shape[1], trimmed, used.start, option)
    most = max(1, min(_MOST_CLASSES, shape[0] * shape[1] // _SYMBOLS_A_CLASS))
    bins = np.zeros(shape[0], np.int64)
    if most > 1:
        levels = np.arange(used.start, used.stop, dtype=np.float32)
        bins = _bins(trimmed, np.abs(levels - (n_levels - 1) // 2) / shape[1])
    sums = kernels.sums_of_classes(trimmed, bins, int(bins.max()) + 1)
    options = []
    for source, family in ((SOURCE_STATIC, static_tables(n_levels)), (SOURCE_GIVEN, given)):
        if family is not None:
            weights = family.weights[:, used]
            options.append(
                _from_family(source, weights, _static_bits(n_levels)[used], sums, bins, most)
                if source == SOURCE_STATIC
                else _from_family(source, weights, _bits_of(weights), sums, bins, most)
            )
    if most > 1:
        options.append(_clustered(kernels, trimmed, options[0].of_rows, most))
    options.append(_in_one(everything[used], shape[0]))
    cheapest = min(options, key=lambda option: option.bits)
    return _finished(kernels, shape[1], trimmed, used.start, cheapest)


@dataclass(frozen=True, slots=True)
class _Option:
    source: int
    indices: tuple[int, ...]
    of_rows: np.ndarray
    weights: np.ndarray  # (n_classes, symbols that occur), of families
    bits: float = 0.0  # about what symbols, classes and tables cost


def _bins(counts: np.ndarray, distances: np.ndarray) -> np.ndarray:
    """A bin of each row by its mean distance from the centre, four to a factor of 2, from 0 on."""
    mean = np.log2(counts @ distances + 2.0**-8)
    bins: np.ndarray = np.unique(np.rint(4 * mean), return_inverse=True)[1].reshape(-1)
    return bins


def _bits_of(weights: np.ndarray) -> np.ndarray:
    """Bits a symbol: ``(n_levels, n_tables)``, for counts to be multiplied with."""
    wide = weights.astype(np.float32)
    return np.ascontiguousarray(np.log2(wide.sum(axis=1, keepdims=True) / wide).T)


@lru_cache(maxsize=16)
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
    of_bins = _cheapest(bits, np.bincount(bins, minlength=len(sums)), most)
    cost = float(np.take_along_axis(bits, of_bins[:, None], axis=1).sum())
    kept, of_bins = np.unique(of_bins, return_inverse=True)
    of_rows = of_bins.reshape(-1)[bins]
    indices = tuple(int(table) for table in kept)
    return _Option(source, indices, of_rows, weights[kept], cost + _head_bits(of_rows, len(kept)))


def _clustered(kernels: Any, counts: np.ndarray, start: np.ndarray, most: int) -> _Option:
    """Rows in clusters by what their symbols cost with the clusters' own tables (k-means)."""
    of_rows, n_classes = start, int(start.max()) + 1
    ones = np.ones(len(counts), np.int64)
    for _ in range(_ROUNDS):
        sums = kernels.sums_of_classes(counts, of_rows, n_classes)
        kept, of_rows = np.unique(
            _cheapest(counts @ _bits_of(sums + np.float32(0.1)), ones, most), return_inverse=True
        )
        of_rows, n_classes = of_rows.reshape(-1), len(kept)
    sums = kernels.sums_of_classes(counts, of_rows, n_classes)
    bits = _own_bits(sums) + _head_bits(of_rows, n_classes)
    return _Option(SOURCE_STREAM, (0,) * n_classes, of_rows, _NO_WEIGHTS, bits)


def _in_one(total: np.ndarray, n_rows: int) -> _Option:
    bits = _own_bits(total[None]) + _head_bits(_NO_WEIGHTS, 1)
    return _Option(SOURCE_STREAM, (0,), np.zeros(n_rows, np.int64), _NO_WEIGHTS, bits)


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


def _cheapest(bits: np.ndarray, sizes: np.ndarray, most: int) -> np.ndarray:
    """The table of each bin of ``sizes`` rows, by its bits and those of naming it in each row."""
    chosen = bits.argmin(axis=1)
    n_tables = bits.shape[1]
    for _ in range(_ROUNDS):
        rows = np.bincount(chosen, weights=sizes, minlength=n_tables)
        allowed = np.argsort(-rows, kind="stable")[:most]
        allowed = allowed[rows[allowed] > 0]
        name_bits = np.log2(sizes.sum() / rows[allowed])
        cost = bits[:, allowed] + sizes[:, None] * name_bits
        chosen = allowed[cost.argmin(axis=1)]
    result: np.ndarray = chosen
    return result


def _finished(
    kernels: Any, n_columns: int, counts: np.ndarray, first: int, option: _Option
) -> tuple[RowClasses, float]:
    """The classes of an option with their ranges and groups, and the bits of all but a few."""
    n_classes = len(option.indices)
    of_rows = option.of_rows.astype(np.int64)
    sums = kernels.sums_of_classes(counts, of_rows, n_classes)
    has_outliers = False
    lows, widths, groups = (np.empty(n_classes, np.int64) for _ in range(3))
    tables, ladder_bytes, bits = [], [], 0.0
    if option.source in (SOURCE_STATIC, SOURCE_STREAM, SOURCE_GIVEN):
        bits = _head_bits(option.of_rows, n_classes)
    for kind in range(n_classes):
        best = np.inf
        for low, high in _ranges(sums[kind]):
            total = sums[kind, low:high]
            rungs = bytes_of_weights(total)
            own = option.source == SOURCE_STREAM
            weights = weights_of_bytes(rungs) if own else option.weights[kind, low:high]
            prices = kernels.price_groups(weights, total, n_columns, MAX_GROUP)
            prices += float(sums[kind].sum() - total.sum()) * _OUTLIER_BITS + 8 * own * (high - low)
            if prices.min() < best * _GROUP_TOLERANCE:
                best = prices.min()
                group = 1 + np.flatnonzero(prices <= best * _GROUP_TOLERANCE)[-1]
                chosen = (first + low, high - low, group, weights, rungs)
        lows[kind], widths[kind], groups[kind] = chosen[:3]
        tables.append(chosen[3])
        ladder_bytes.append(chosen[4])
        bits += best
        has_outliers |= bool(sums[kind].sum() > sums[kind, chosen[0] - first :][: chosen[1]].sum())
    classes = RowClasses(
        source=option.source,
        indices=option.indices,
        lows=lows,
        widths=widths,
        groups=groups,
        tables=tuple(tables),
        of_rows=of_rows,
        ladder_bytes=tuple(ladder_bytes),
        has_outliers=has_outliers,
    )
    return classes, float(bits)


def _ranges(counts: np.ndarray) -> list[tuple[int, int]]:
    """All symbols that occur, and those without tails too rare to be worth a place in tables."""
    present = np.flatnonzero(counts)
    if present.size == 0:
        return [(0, 1)]
    whole = (int(present[0]), int(present[-1]) + 1)
    total = float(counts.sum()) / _RARE
    low = int(np.searchsorted(np.cumsum(counts), total, side="right"))
    high = len(counts) - int(np.searchsorted(np.cumsum(counts[::-1]), total, side="right"))
    inner = (max(low, whole[0]), min(high, whole[1]))
    return [whole] if inner == whole or inner[0] >= inner[1] else [whole, inner]
