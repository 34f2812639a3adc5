"""Anchors and deltas: rows in which a token's symbol is coded as its difference from an anchor's.

Tokens come in groups; the first of a group is its anchor. The difference is taken between symbols
after quantising, modulo the number of levels, so it is closed over what the decoder has (nothing
drifts) and loses nothing: whether a row holds deltas is a question of bytes alone.

Source: CacheGen (arXiv 2310.07240), section 5.1, where groups have ten tokens.
"""

from __future__ import annotations

import numpy as np

__all__ = ["GROUP_TOKENS", "choose_rows", "from_deltas", "to_deltas"]

GROUP_TOKENS = 10
# A row must save this much to be worth being named: some bits, and noise in the counts.
_LEAST_SAVING_BITS = 8.0


def to_deltas(symbols: np.ndarray, most: int, rows: np.ndarray) -> np.ndarray:
    """A copy of ``symbols``, uint8 ``(n_rows, n_tokens)``, with deltas in ``rows``."""
    n_levels = 2 * most + 1
    found = symbols.copy()
    part = symbols[rows].astype(np.int16)
    anchors = np.repeat(part[:, ::GROUP_TOKENS], GROUP_TOKENS, axis=1)[:, : part.shape[1]]
    deltas = (part - anchors + most) % n_levels
    deltas[:, ::GROUP_TOKENS] = part[:, ::GROUP_TOKENS]
    found[rows] = deltas
    return found


def from_deltas(symbols: np.ndarray, most: int, rows: np.ndarray) -> None:
    """Undo :func:`to_deltas` in place."""
    n_levels = 2 * most + 1
    part = symbols[rows].astype(np.int16)
    anchors = np.repeat(part[:, ::GROUP_TOKENS], GROUP_TOKENS, axis=1)[:, : part.shape[1]]
    plain = (part + anchors - most) % n_levels
    plain[:, ::GROUP_TOKENS] = part[:, ::GROUP_TOKENS]
    symbols[rows] = plain


def choose_rows(symbols: np.ndarray, most: int) -> np.ndarray:
    """Which rows have less entropy as deltas: bool ``(n_rows,)``."""
    n_rows, n_tokens = symbols.shape
    if n_tokens < 2 * GROUP_TOKENS:
        return np.zeros(n_rows, bool)
    deltas = to_deltas(symbols, most, np.ones(n_rows, bool))
    saving = _entropy_bits(symbols, 2 * most + 1) - _entropy_bits(deltas, 2 * most + 1)
    chosen: np.ndarray = saving > _LEAST_SAVING_BITS
    return chosen


def _entropy_bits(symbols: np.ndarray, n_levels: int) -> np.ndarray:
    """Bits of each row by its own frequencies."""
    from ctxpress.cache.codecs.entropy.rans import count_symbols

    counts = count_symbols(np.ascontiguousarray(symbols), n_levels).astype(np.float32)
    logs = np.log2(np.maximum(counts, 1))
    bits: np.ndarray = symbols.shape[1] * np.log2(symbols.shape[1]) - (counts * logs).sum(axis=1)
    return bits
