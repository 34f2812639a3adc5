"""Symbols outside the range of their row's class: found, written down, put back."""

from __future__ import annotations

import numpy as np
from numba import uint8

from ctxpress.cache.codecs.entropy.compiling import compiled

__all__ = ["list_outliers", "place_outliers"]


@compiled
def _any_outside(row: np.ndarray, low: int, reach: int) -> bool:
    """Whether a symbol is not ``low`` to ``low + reach``; without branches, so as vectors."""
    found = uint8(0)
    for column in range(row.size):
        found |= uint8(uint8(row[column] - low) > reach)
    return bool(found)


@compiled
def list_outliers(
    symbols: np.ndarray, classes: np.ndarray, lows: np.ndarray, widths: np.ndarray
) -> np.ndarray:
    """Symbols outside their row's class, as bytes: steps from one to the next, and the symbols.

    A step is that of the place in the whole array, seven bits a byte, the lowest first, with 128
    added to all bytes but the last; the first step is from place -1.
    """
    n_rows, n_columns = symbols.shape
    out = np.empty(64, np.uint8)
    size, last = 0, np.int64(-1)
    for row in range(n_rows):
        low, width = lows[classes[row]], widths[classes[row]]
        if not _any_outside(symbols[row], uint8(low), uint8(width - 1)):
            continue
        for column in range(n_columns):
            symbol = np.int64(symbols[row, column])
            if low <= symbol < low + width:
                continue
            if size + 16 > out.size:
                larger = np.empty(2 * out.size, np.uint8)
                larger[:size] = out[:size]
                out = larger
            step = np.int64(row * n_columns + column - last)
            last += step
            while step >= 128:
                out[size] = uint8(128 | (step & 127))
                step >>= 7
                size += 1
            out[size] = uint8(step)
            out[size + 1] = uint8(symbol)
            size += 2
    return out[:size].copy()


@compiled
def place_outliers(data: np.ndarray, n_levels: int, n_columns: int, out: np.ndarray) -> bool:
    """Write what :func:`list_outliers` listed into ``out``; whether it was a whole list.

    Places count ``n_columns`` a row, though ``out`` may have more.
    """
    at, last, n_symbols = 0, np.int64(-1), out.shape[0] * n_columns
    while at < data.size:
        step, shift = np.int64(0), np.int64(0)
        while at < data.size and data[at] >= 128 and shift < 42:
            step |= np.int64(data[at] & 127) << shift
            shift += 7
            at += 1
        if at + 1 >= data.size or data[at] >= 128:
            return False
        step |= np.int64(data[at]) << shift
        last += step
        if step == 0 or last >= n_symbols or data[at + 1] >= n_levels:
            return False
        out[last // n_columns, last % n_columns] = data[at + 1]
        at += 2
    return True
