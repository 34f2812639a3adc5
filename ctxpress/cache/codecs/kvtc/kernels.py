"""The loops of rounding, compiled on first use and without the interpreter's lock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numba import njit, uint64

from ctxpress.cache.codecs.kvtc.plan import CENTRE, LIMIT, LOW_BITS, N_LEVELS

__all__ = ["count_symbols", "round_rows", "split_rows"]

_HALF = 1 << (LOW_BITS - 1)
_Function = TypeVar("_Function", bound=Callable[..., Any])


def _compiled(function: _Function) -> _Function:
    compiled: _Function = njit(nogil=True, cache=True)(function)
    return compiled


@_compiled
def round_rows(
    components: np.ndarray,
    per_step: np.float32,
    bits: np.ndarray,
    row_tables: np.ndarray,
    n_wide: int,
    rate_weight: np.float32,
) -> np.ndarray:
    """int16 integers of float32 ``components`` ``(n_rows, n_tokens)`` times ``per_step``.

    Each is the nearest integer, or the next one towards zero where that is the lesser of
    ``error**2 + rate_weight * bits``; the first ``n_wide`` rows are rounded to the nearest.
    ``bits``: float32 ``(n_tables, N_LEVELS)``. ``row_tables``: the table of each row.
    """
    n_rows, n_tokens = components.shape
    integers = np.empty((n_rows, n_tokens), np.int16)
    savings = _savings(bits, rate_weight)
    for row in range(n_rows):
        source, target, saved = components[row], integers[row], savings[row_tables[row]]
        most = np.int32(CENTRE if row >= n_wide else 0)
        for token in range(uint64(n_tokens)):  # without branches, so as vectors
            value = source[token] * per_step
            size = abs(value)
            nearest = np.int32(min(size + np.float32(0.5), np.float32(LIMIT)))
            sign = np.int32(1) if value > np.float32(0) else np.int32(-1)
            symbol = np.int32(CENTRE) + (sign * nearest if nearest <= most else np.int32(0))
            # error**2 of the lower one, less that of the nearest
            more = np.float32(2) * (size - np.float32(nearest)) + np.float32(1)
            nearest -= np.int32(1) if more < saved[symbol] else np.int32(0)
            target[token] = np.int16(sign * nearest)
    return integers


@_compiled
def _savings(bits: np.ndarray, rate_weight: np.float32) -> np.ndarray:
    """What the next integer towards zero saves, by table and symbol; of zero never enough."""
    savings = np.empty(bits.shape, np.float32)
    for table in range(bits.shape[0]):
        for symbol in range(bits.shape[1]):
            lower = symbol - 1 if symbol >= CENTRE else symbol + 1
            savings[table, symbol] = rate_weight * (bits[table, symbol] - bits[table, lower])
        savings[table, CENTRE] = -np.inf
    return savings


@_compiled
def split_rows(integers: np.ndarray, n_wide: int) -> tuple[np.ndarray, int]:
    """Symbols uint8 ``(n_wide + n_rows, n_tokens)``, and how many integers are escapes."""
    n_rows, n_tokens = integers.shape
    symbols = np.empty((n_wide + n_rows, n_tokens), np.uint8)
    escapes = 0
    for row in range(n_rows):
        for token in range(n_tokens):
            value = np.int32(integers[row, token])
            if row < n_wide or abs(value) > CENTRE:
                high = (value + _HALF) >> LOW_BITS
                value -= high << LOW_BITS
                if row < n_wide:
                    symbols[row, token] = high + CENTRE
                else:
                    escapes += 1
            symbols[n_wide + row, token] = value + CENTRE
    return symbols, escapes


@_compiled
def count_symbols(symbols: np.ndarray) -> np.ndarray:
    """How often each row of ``(n_rows, n_tokens)`` holds each symbol: int64 ``(…, N_LEVELS)``."""
    counts = np.zeros((symbols.shape[0], N_LEVELS), np.int64)
    for row in range(symbols.shape[0]):
        for token in range(symbols.shape[1]):
            counts[row, symbols[row, token]] += 1
    return counts
