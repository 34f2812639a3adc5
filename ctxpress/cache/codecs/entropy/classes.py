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
    "SOURCE_STATIC",
    "SOURCE_STREAM",
    "RowClasses",
    "choose_classes",
    "weights_of_bytes",
]

SOURCE_STATIC, SOURCE_STREAM, SOURCE_GIVEN = range(3)
MAX_GROUP = 4
MAX_CLASSES = 64
# A class costs a table of 16 KiB to build at both ends: the time of some 4,000 symbols.
_SYMBOLS_A_CLASS = 4096
_MOST_CLASSES = 16
_ROUNDS = 3
RUNGS = 241
_GROUP_TOLERANCE = 1.003  # larger groups decode faster; this much larger a stream is no matter


@dataclass(frozen=True, kw_only=True, eq=False)
class RowClasses:
    """Rows by class. ``indices``, ``lows``, ``widths``, ``groups``, ``tables``: one a class.

    A class holds symbols ``low`` to ``low + width - 1``, coded ``group`` at a time with the weights
    in ``tables``, uint32 ``(width,)``. ``of_rows``: the class of each row, int64. ``ladder_bytes``:
    the tables as they stand in the stream.
    """

    source: int
    indices: tuple[int, ...]
    lows: np.ndarray
    widths: np.ndarray
    groups: np.ndarray
    tables: tuple[np.ndarray, ...]
    of_rows: np.ndarray
    ladder_bytes: tuple[np.ndarray, ...] = ()

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
    kernels: Any, shape: tuple[int, int], counts: np.ndarray, given: SymbolTables | None
) -> tuple[RowClasses, float]:
    """The cheapest classes for rows of these ``counts`` ``(n_rows, n_levels)``, and their bits.

    The bits are those of the symbols, of the rows' classes and of tables in the stream.
    """
    n_levels = counts.shape[1]
    present = np.flatnonzero(counts.sum(axis=0))
    used = slice(int(present[0]), int(present[-1]) + 1)
    trimmed = counts[:, used].astype(np.float32)
    levels = np.arange(used.start, used.stop, dtype=np.float32)
    most = max(1, min(_MOST_CLASSES, shape[0] * shape[1] // _SYMBOLS_A_CLASS))
    bins = _bins(trimmed, np.abs(levels - (n_levels - 1) // 2) / shape[1])
    options = []
    for source, family in ((SOURCE_STATIC, static_tables(n_levels)), (SOURCE_GIVEN, given)):
        if family is not None:
            options.append(_from_family(source, family, trimmed, bins, used, most))
    options.append(_clustered(trimmed, options[0].of_rows, most))
    if len(options[-1].indices) > 1:
        one = np.zeros(shape[0], np.int64)
        options.append(_Option(SOURCE_STREAM, (0,), one, np.empty((0, 0))))
    priced = [_priced(kernels, shape[1], trimmed, used.start, option) for option in options]
    return min(priced, key=lambda option: option[1])


@dataclass(frozen=True, slots=True)
class _Option:
    source: int
    indices: tuple[int, ...]
    of_rows: np.ndarray
    weights: np.ndarray  # (n_classes, symbols that occur), of families


def _bins(counts: np.ndarray, distances: np.ndarray) -> np.ndarray:
    """A bin of each row by its mean distance from the centre, four to a factor of 2, from 0 on."""
    mean = np.log2(counts @ distances + 2.0**-8)
    bins: np.ndarray = np.unique(np.rint(4 * mean), return_inverse=True)[1].reshape(-1)
    return bins


def _sums(counts: np.ndarray, of_rows: np.ndarray, n_classes: int) -> np.ndarray:
    members = np.arange(n_classes)[:, None] == of_rows[None, :]
    sums: np.ndarray = members.astype(np.float32) @ counts
    return sums


def _bits_of(weights: np.ndarray) -> np.ndarray:
    """Bits a symbol: ``(n_levels, n_tables)``, for counts to be multiplied with."""
    wide = weights.astype(np.float32)
    return np.ascontiguousarray(np.log2(wide.sum(axis=1, keepdims=True) / wide).T)


def _from_family(
    source: int,
    family: SymbolTables,
    counts: np.ndarray,
    bins: np.ndarray,
    used: slice,
    most: int,
) -> _Option:
    """The cheapest tables of a family for bins of rows; naming a table is part of the price."""
    n_bins = int(bins.max()) + 1
    weights = family.weights[:, used]
    bits = _sums(counts, bins, n_bins) @ _bits_of(weights)
    sizes = np.bincount(bins, minlength=n_bins)
    of_bins = _cheapest(bits, sizes, most)
    kept, of_bins = np.unique(of_bins, return_inverse=True)
    of_rows = of_bins.reshape(-1)[bins]
    return _Option(source, tuple(int(table) for table in kept), of_rows, weights[kept])


def _clustered(counts: np.ndarray, start: np.ndarray, most: int) -> _Option:
    """Rows in clusters by what their symbols cost with the clusters' own tables (k-means)."""
    of_rows, n_classes = start, int(start.max()) + 1
    for _ in range(_ROUNDS):
        bits = counts @ _bits_of(_sums(counts, of_rows, n_classes) + 0.1)
        of_rows = _cheapest(bits, np.ones(len(counts), np.int64), most)
        kept, of_rows = np.unique(of_rows, return_inverse=True)
        of_rows, n_classes = of_rows.reshape(-1), len(kept)
        if n_classes == 1:
            break
    return _Option(SOURCE_STREAM, (0,) * n_classes, of_rows, np.empty((0, 0)))


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


def _priced(
    kernels: Any, n_columns: int, counts: np.ndarray, first: int, option: _Option
) -> tuple[RowClasses, float]:
    n_classes = len(option.indices)
    sums = _sums(counts, option.of_rows, n_classes)
    in_stream = option.source == SOURCE_STREAM
    lows, widths, groups = (np.empty(n_classes, np.int64) for _ in range(3))
    tables, ladder_bytes = [], []
    bits = 0.0
    for kind in range(n_classes):
        present = np.flatnonzero(sums[kind])
        low, high = int(present[0]), int(present[-1]) + 1
        total = sums[kind, low:high]
        if in_stream:
            ladder_bytes.append(bytes_of_weights(total))
            tables.append(weights_of_bytes(ladder_bytes[-1]))
            bits += 8 * (high - low)
        else:
            tables.append(option.weights[kind, low:high])
        prices = kernels.price_groups(tables[-1], total, n_columns, MAX_GROUP)
        groups[kind] = 1 + np.flatnonzero(prices <= prices.min() * _GROUP_TOLERANCE)[-1]
        bits += float(prices[groups[kind] - 1]) + 32
        lows[kind], widths[kind] = first + low, high - low
    if n_classes > 1:
        share = np.bincount(option.of_rows) / len(option.of_rows)
        bits += 40 - len(option.of_rows) * float((share * np.log2(share)).sum())
    classes = RowClasses(
        source=option.source,
        indices=option.indices,
        lows=lows,
        widths=widths,
        groups=groups,
        tables=tuple(tables),
        of_rows=option.of_rows.astype(np.int64),
        ladder_bytes=tuple(ladder_bytes),
    )
    return classes, bits
