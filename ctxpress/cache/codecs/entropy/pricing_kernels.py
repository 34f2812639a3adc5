"""What coding costs: counts of symbols, frequencies of groups, the cheapest classes; compiled."""

from __future__ import annotations

import numpy as np
from numba import float32, uint8, uint32, uint64

from ctxpress.cache.codecs.entropy.compiling import compiled

__all__ = [
    "TABLE_SIZE",
    "bins_of_rows",
    "cheapest_tables",
    "finish_classes",
    "group_frequencies",
    "histograms",
    "price_groups",
    "sums_of_classes",
]

TABLE_BITS = 12
TABLE_SIZE = 1 << TABLE_BITS
_RARE = 4096.0  # one symbol in so many may be left out at each end of a class
_OUTLIER_BITS = 24.0
_TOLERANCE = 1.003


@compiled
def histograms(symbols: np.ndarray, n_levels: int) -> np.ndarray:
    """How often each row holds each symbol: ``(n_rows, n_levels)`` float32.

    A row with a symbol that is not below ``n_levels`` has a sum below ``n_columns``.
    """
    n_rows, n_columns = symbols.shape
    counts = np.empty((n_rows, n_levels), np.float32)
    # Four counters a symbol, since equal neighbours would wait for each other's sum.
    one, two = np.zeros(256, np.uint32), np.zeros(256, np.uint32)
    three, four = np.zeros(256, np.uint32), np.zeros(256, np.uint32)
    for row in range(n_rows):
        source = symbols[row]
        for quarter in range(uint64(n_columns // 4)):
            at = quarter * uint64(4)
            one[source[at]] += uint32(1)
            two[source[at + uint64(1)]] += uint32(1)
            three[source[at + uint64(2)]] += uint32(1)
            four[source[at + uint64(3)]] += uint32(1)
        for column in range(n_columns - n_columns % 4, n_columns):
            one[source[column]] += uint32(1)
        for symbol in range(uint64(n_levels)):
            total = one[symbol] + two[symbol] + three[symbol] + four[symbol]
            counts[row, symbol] = np.float32(total)
        one[:n_levels] = 0
        two[:n_levels] = 0
        three[:n_levels] = 0
        four[:n_levels] = 0
    return counts


@compiled
def sums_of_classes(counts: np.ndarray, of_rows: np.ndarray, n_classes: int) -> np.ndarray:
    """``counts`` of the rows of each class together: float32 ``(n_classes, n_levels)``."""
    sums = np.zeros((n_classes, counts.shape[1]), np.float32)
    for row in range(counts.shape[0]):
        for level in range(counts.shape[1]):
            sums[of_rows[row], level] += counts[row, level]
    return sums


@compiled
def bins_of_rows(counts: np.ndarray, centre: int, n_columns: int) -> np.ndarray:
    """A bin of each row by its symbols' mean distance from ``centre``, four to a factor of 2.

    Bins are numbered from 0 without gaps.
    """
    n_rows, n_levels = counts.shape
    steps = np.empty(n_rows, np.int64)
    for row in range(n_rows):
        distance = float32(0.0)
        for level in range(n_levels):
            distance += counts[row, level] * float32(abs(level - centre))
        steps[row] = np.int64(np.rint(4.0 * np.log2(distance / n_columns + 2.0**-8)))
    lowest = steps.min()
    used = np.zeros(steps.max() - lowest + 1, np.int64)
    for row in range(n_rows):
        used[steps[row] - lowest] = 1
    numbers = np.cumsum(used) - 1
    for row in range(n_rows):
        steps[row] = numbers[steps[row] - lowest]
    return steps


@compiled
def cheapest_tables(
    bits: np.ndarray, sizes: np.ndarray, most: int, n_rounds: int
) -> tuple[np.ndarray, np.ndarray]:
    """The table of each bin of ``sizes`` rows, by its bits and those of naming it in each row.

    ``bits``: float32 ``(n_bins, n_tables)``. At most ``most`` tables are used. Returns the tables
    used, rising, and each bin's place among them.
    """
    n_bins, n_tables = bits.shape
    chosen = np.empty(n_bins, np.int64)
    for index in range(n_bins):
        chosen[index] = bits[index].argmin()
    total = sizes.sum()
    for _ in range(n_rounds):
        rows = np.zeros(n_tables, np.int64)
        for index in range(n_bins):
            rows[chosen[index]] += sizes[index]
        popular = np.argsort(-rows, kind="mergesort")[:most]
        allowed = popular[rows[popular] > 0]
        name_bits = np.log2(total / rows[allowed])
        for index in range(n_bins):
            best = np.inf
            for place in range(allowed.size):
                cost = bits[index, allowed[place]] + sizes[index] * name_bits[place]
                if cost < best:
                    best = cost
                    chosen[index] = allowed[place]
    used = np.zeros(n_tables, np.bool_)
    for index in range(n_bins):
        used[chosen[index]] = True
    kept = np.flatnonzero(used)
    places = np.cumsum(used) - 1
    return kept, places[chosen]


@compiled
def group_frequencies(weights: np.ndarray, group: int) -> np.ndarray:  # noqa: C901  (one loop each)
    """Frequencies of ``group`` symbols taken together: uint32 ``(n_symbols ** group,)``.

    The first symbol of a group is its lowest digit. ``weights`` are uint32 of at most 4,096, and a
    group is as likely as the product of its symbols. The sum is 4,095: one slot stays free, so that
    no frequency needs thirteen bits. What is possible at all gets at least 1.
    """
    products = weights.astype(np.uint64)
    for _ in range(1, group):
        before = products
        products = np.empty(before.size * weights.size, np.uint64)
        for digit in range(weights.size):
            place = digit * before.size
            for index in range(before.size):
                products[place + index] = before[index] * uint64(weights[digit])
    size = products.size
    total = uint64(0)
    for index in range(size):
        total += products[index]
    # The rare ones first: what is left is shared by those that get more than 1.
    slots = uint64(TABLE_SIZE - 1)
    large, n_small = uint64(0), uint64(0)
    for index in range(size):
        if products[index] * slots > total:
            large += products[index]
        elif products[index] > 0:
            n_small += uint64(1)
    left = slots - n_small
    frequencies = np.zeros(size, np.uint32)
    used, largest = uint64(0), 0
    for index in range(size):
        product = products[index]
        if product * slots > total:
            frequencies[index] = uint32(max(uint64(1), product * left // large))
        elif product > 0:
            frequencies[index] = uint32(1)
        used += uint64(frequencies[index])
        if frequencies[index] > frequencies[largest]:
            largest = index
    while used > slots:  # a share below 1 was rounded up
        for index in range(size):
            if used > slots and frequencies[index] > 1:
                frequencies[index] -= uint32(1)
                used -= uint64(1)
    frequencies[largest] += uint32(slots - used)
    return frequencies


@compiled
def price_groups(weights: np.ndarray, counts: np.ndarray, n_columns: int, most: int) -> np.ndarray:
    """Bits that symbols of ``counts`` cost in groups of 1, 2, … at most ``most``: float64.

    Infinite where a group has more than 256 combinations. Symbols of a group count as independent.
    """
    bits = np.full(most, np.inf)
    n_symbols = counts.sum()
    likely = counts / n_symbols
    together = np.ones(1)
    for group in range(1, most + 1):
        if weights.size**group > 256:
            break
        before = together
        together = np.empty(before.size * weights.size)
        for digit in range(weights.size):
            together[digit * before.size : (digit + 1) * before.size] = before * likely[digit]
        frequencies = group_frequencies(weights, group)
        total = 0.0
        for index in range(together.size):
            if together[index] > 0.0:
                total += together[index] * (12.0 - np.log2(np.float64(frequencies[index])))
        padded = ((n_columns + group - 1) // group) * group / n_columns
        bits[group - 1] = total / group * padded * n_symbols
    return bits


@compiled
def _range_without_tails(counts: np.ndarray, most_left_out: float) -> tuple[int, int]:
    """The lowest symbol and the end of those whose tails count ``most_left_out`` at most."""
    low, high = 0, counts.size
    left = 0.0
    while low < high - 1 and left + counts[low] <= most_left_out:
        left += counts[low]
        low += 1
    left = 0.0
    while high > low + 1 and left + counts[high - 1] <= most_left_out:
        left += counts[high - 1]
        high -= 1
    return low, high


@compiled
def _rungs_of(counts: np.ndarray, rungs: np.ndarray) -> None:
    """The ladder's bytes whose weights are nearest to ``counts``, the largest becoming 4,096."""
    largest = counts.max()
    for index in range(counts.size):
        share = max(counts[index] / largest, 2.0**-TABLE_BITS)
        rungs[index] = uint8(np.rint(20.0 * (TABLE_BITS + np.log2(share))))


@compiled
def finish_classes(
    sums: np.ndarray, given: np.ndarray, ladder: np.ndarray, n_columns: int, most: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, float]:
    """The cheapest range and group of classes whose symbols have the counts ``sums``.

    ``given``: weights of each class's symbols, or empty where they are taken from the counts, on
    the ``ladder``. Returns heads and weights as ``stream_kernels`` takes them, without the table's
    number; the bits of each class, the ladder's bytes, and how many symbols lie outside.
    """
    n_classes, n_levels = sums.shape
    heads = np.zeros((n_classes, 4), np.int64)
    all_weights = np.zeros((n_classes, 256), np.uint32)
    bits = np.empty(n_classes, np.float64)
    rungs = np.zeros((n_classes, 256), np.uint8)
    n_outliers = 0.0
    for kind in range(n_classes):
        total = sums[kind].sum()
        best = np.inf
        for attempt in range(2 if total > 0 else 0):
            # All symbols that occur, or none so rare that a place in the table is wasted on them.
            rare = 0.0 if attempt == 0 else total / _RARE
            low, high = _range_without_tails(sums[kind], rare)
            if attempt == 1 and high - low == heads[kind, 2]:
                break
            counts = sums[kind, low:high].copy()
            found = np.empty(high - low, np.uint8)
            _rungs_of(counts, found)
            weights = np.empty(high - low, np.uint32)
            own_bits = 0.0 if given.size else 8.0 * (high - low)
            for index in range(high - low):
                weights[index] = given[kind, low + index] if given.size else ladder[found[index]]
            left_out = total - counts.sum()
            prices = price_groups(weights, counts, n_columns, most)
            prices += left_out * _OUTLIER_BITS + own_bits
            # Larger groups decode faster; that much larger a stream is no matter.
            group = most
            while prices[group - 1] > prices.min() * _TOLERANCE:
                group -= 1
            if prices.min() < best * _TOLERANCE:
                best = prices[group - 1]
                heads[kind, 1], heads[kind, 2], heads[kind, 3] = low, high - low, group
                rungs[kind, : high - low] = found
                all_weights[kind, : high - low] = weights
                outside = left_out
        bits[kind] = best
        if total > 0:
            n_outliers += outside
        else:
            heads[kind, 2], heads[kind, 3], bits[kind] = 1, 1, 0.0
            all_weights[kind, 0] = ladder[0] if given.size == 0 else given[kind, 0]
    return heads, all_weights, bits, rungs, n_outliers
