"""Anchors and deltas: rows in which a token's symbol is coded as its difference from an anchor's.

Tokens come in groups; the first of a group is its anchor. The difference is taken between symbols
after quantising, modulo the number of levels, so it is closed over what the decoder has (nothing
drifts) and loses nothing: whether a row holds deltas is a question of bytes alone.

Source: CacheGen (arXiv 2310.07240), section 5.1, where groups have ten tokens.
"""

from __future__ import annotations

import numpy as np
from numba import uint8, uint64

from ctxpress.cache.codecs.entropy.compiling import compiled

__all__ = ["GROUP_TOKENS", "choose_rows", "from_deltas", "to_deltas"]

GROUP_TOKENS = 10
# A row must save this much to be worth being named: some bits, and noise in the counts.
_LEAST_SAVING_BITS = 8.0
_SAMPLED_GROUPS = 6
_LEAST_GAIN = 1.3


@compiled
def to_deltas(symbols: np.ndarray, most: int, rows: np.ndarray) -> np.ndarray:
    """A copy of ``symbols``, uint8 ``(n_rows, n_tokens)``, with deltas in ``rows``, bool."""
    found = symbols.copy()
    for row in range(rows.size):
        if rows[row]:
            _differences(symbols[row], most, found[row])
    return found


def from_deltas(symbols: np.ndarray, most: int, rows: np.ndarray) -> None:
    """Undo :func:`to_deltas` in place."""
    n_levels = 2 * most + 1
    part = symbols[rows].astype(np.int16)
    anchors = np.repeat(part[:, ::GROUP_TOKENS], GROUP_TOKENS, axis=1)[:, : part.shape[1]]
    plain = (part + anchors - most) % n_levels
    plain[:, ::GROUP_TOKENS] = part[:, ::GROUP_TOKENS]
    symbols[rows] = plain


@compiled
def choose_rows(symbols: np.ndarray, most: int) -> np.ndarray:
    """Which rows have less entropy as deltas, if they save more than naming them: ``(n_rows,)``.

    Only rows whose first groups differ less from their anchors than from their mean are looked
    at whole: a difference of what is unrelated has twice the variance.
    """
    n_rows, n_tokens = symbols.shape
    chosen = np.zeros(n_rows, np.bool_)
    n_groups = min(_SAMPLED_GROUPS, n_tokens // GROUP_TOKENS)
    if n_groups < 2:
        return chosen
    deltas = np.empty(n_tokens, np.uint8)
    logs = np.zeros(n_tokens + 1, np.float64)
    for count in range(1, n_tokens + 1):
        logs[count] = count * np.log2(count)
    saved, n_chosen = 0.0, 0
    for row in range(n_rows):
        source = symbols[row]
        if _gain(source, n_groups) <= _LEAST_GAIN:
            continue
        _differences(source, most, deltas)
        saving = _log_counts(deltas, logs) - _log_counts(source, logs)
        if saving > _LEAST_SAVING_BITS:
            chosen[row] = True
            saved += saving
            n_chosen += 1
    share = n_chosen / max(1, n_rows)
    named = 200.0
    if 0.0 < share < 1.0:
        named -= n_rows * (share * np.log2(share) + (1.0 - share) * np.log2(1.0 - share))
    if saved <= named:
        chosen[:] = False
    return chosen


@compiled
def _differences(source: np.ndarray, most: int, target: np.ndarray) -> None:
    n_levels = 2 * most + 1
    for first in range(0, source.size, GROUP_TOKENS):
        anchor = np.int32(source[first])
        target[first] = source[first]
        for token in range(first + 1, min(first + GROUP_TOKENS, source.size)):
            delta = np.int32(source[token]) - anchor + most
            if delta < 0:
                delta += n_levels
            target[token] = uint8(delta if delta < n_levels else delta - n_levels)


@compiled
def _gain(source: np.ndarray, n_groups: int) -> float:
    """Variance of symbols over that of differences from anchors, of a row's first groups."""
    total, squares, deltas = np.int32(0), np.int32(0), np.int32(0)
    for number in range(n_groups):
        part = source[number * GROUP_TOKENS : (number + 1) * GROUP_TOKENS]
        anchor = np.int32(part[0])
        for place in range(uint64(part.size)):
            symbol = np.int32(part[place])
            total += symbol
            squares += symbol * symbol
            deltas += (symbol - anchor) * (symbol - anchor)
    variance = squares - float(total) * float(total) / (n_groups * GROUP_TOKENS)
    return variance / float(deltas if deltas > 0 else 1)


@compiled
def _log_counts(row: np.ndarray, logs: np.ndarray) -> float:
    """Sum of ``count * log2(count)`` over symbols: the more, the less entropy."""
    counts = np.zeros(256, np.int64)
    for symbol in row:
        counts[symbol] += 1
    total = 0.0
    for count in counts:
        total += logs[count]
    return total
