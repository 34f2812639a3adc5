"""Loops between tensors, token by token, and symbols, channel by channel; compiled on first use.

A head's tokens become rows of bytes, and bytes are transposed eight by eight in registers.
"""

from __future__ import annotations

import numpy as np
from numba import float32, uint8, uint64

from ctxpress.cache.codecs.entropy.compiling import compiled

__all__ = [
    "add_hashes",
    "channel_deviations",
    "channel_means",
    "quantised",
    "transpose_bytes",
]

_LEAST_RUNG = -480


@compiled
def channel_means(rows: np.ndarray, first: int) -> np.ndarray:
    """Means of float32 ``(n_heads, n_tokens, head_dim)`` over tokens from ``first`` on."""
    n_heads, n_tokens, head_dim = rows.shape
    means = np.zeros((n_heads, head_dim), np.float32)
    # A share of each, since a sum may overflow where no value does.
    share = float32(1.0) / float32(n_tokens - first)
    for head in range(n_heads):
        for token in range(first, n_tokens):
            for dim in range(head_dim):
                means[head, dim] += rows[head, token, dim] * share
    return means


@compiled
def channel_deviations(rows: np.ndarray, first: int, means: np.ndarray) -> np.ndarray:
    """Mean absolute differences from ``means``, over tokens from ``first`` on."""
    n_heads, n_tokens, head_dim = rows.shape
    deviations = np.zeros((n_heads, head_dim), np.float32)
    share = float32(1.0) / float32(n_tokens - first)
    for head in range(n_heads):
        for token in range(first, n_tokens):
            for dim in range(head_dim):
                deviations[head, dim] += abs(rows[head, token, dim] - means[head, dim]) * share
    return deviations


@compiled
def quantised(
    rows: np.ndarray,
    first: int,
    end: int,
    means: np.ndarray,
    scales: np.ndarray,
    most: int,
    least_rung: int,
    ladder: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Nearest symbols of tokens ``first`` to ``end``, and the rungs of the tokens' scales.

    ``rows``: float32 ``(n_heads, n_tokens, head_dim)``. Symbols are uint8 ``(n_heads * head_dim,
    tokens)``, rungs int64 ``(n_heads, tokens)``: the first, ``least_rung`` or above and within 255
    of the highest, at which no value lies beyond the outermost symbol.
    """
    n_heads, head_dim = scales.shape
    n_tokens = end - first
    rungs = np.empty((n_heads, n_tokens), np.int64)
    inverse = np.empty_like(scales)
    units = np.empty(head_dim, np.float32)
    bits = units.view(np.int32)  # floats above 0 are ordered as their bits, and those as vectors
    for head in range(n_heads):
        for dim in range(head_dim):
            inverse[head, dim] = float32(1.0) / scales[head, dim]
        for token in range(n_tokens):
            source = rows[head, first + token]
            for dim in range(head_dim):
                units[dim] = abs((source[dim] - means[head, dim]) * inverse[head, dim])
            found = np.int32(0)
            for dim in range(head_dim):
                found = max(found, bits[dim])
            bits[0] = found
            scale = max(units[0] / float32(most), float32(2.0**-126))
            rungs[head, token] = np.int64(np.ceil(float32(4.0) * np.log2(scale)))
    highest = min(rungs.max(), -_LEAST_RUNG) if rungs.size else 0
    symbols = np.empty((n_heads * head_dim, n_tokens), np.uint8)
    tile, turned = _padded(n_tokens, head_dim), _padded(head_dim, n_tokens)
    limit = float32(most)
    for head in range(n_heads):
        for token in range(n_tokens):
            rung = max(rungs[head, token], least_rung, highest - 255)
            rung = min(max(rung, _LEAST_RUNG), -_LEAST_RUNG)
            rungs[head, token] = rung
            scale = float32(1.0) / ladder[rung - _LEAST_RUNG]
            source, target = rows[head, first + token], tile[token]
            for dim in range(head_dim):
                unit = (source[dim] - means[head, dim]) * inverse[head, dim] * scale
                unit = min(max(np.rint(unit), -limit), limit) + limit
                target[dim] = uint8(np.int32(unit))
        transpose_bytes(tile, turned)
        for dim in range(head_dim):
            _copy(turned[dim, :n_tokens], symbols[head * head_dim + dim])
    return symbols, rungs


@compiled
def _padded(n_rows: int, n_columns: int) -> np.ndarray:
    """Room for bytes of that shape, with whole eights of rows and columns."""
    return np.zeros((n_rows + -n_rows % 8, n_columns + -n_columns % 8), np.uint8)


@compiled
def _copy(source: np.ndarray, target: np.ndarray) -> None:
    for index in range(uint64(source.size)):
        target[index] = source[index]


@compiled
def transpose_bytes(source: np.ndarray, target: np.ndarray) -> None:
    """``target[j, i] = source[i, j]`` of bytes; rows and columns come in eights."""
    n_rows, n_columns = source.shape
    wide = source.view(np.uint64)
    tall = target.view(np.uint64)
    mask8, mask16 = uint64(0x00FF00FF00FF00FF), uint64(0x0000FFFF0000FFFF)
    mask32 = uint64(0x00000000FFFFFFFF)
    s8, s16, s32 = uint64(8), uint64(16), uint64(32)
    for row in range(0, n_rows, 8):
        for column in range(n_columns // 8):
            a0, a1 = wide[row, column], wide[row + 1, column]
            a2, a3 = wide[row + 2, column], wide[row + 3, column]
            a4, a5 = wide[row + 4, column], wide[row + 5, column]
            a6, a7 = wide[row + 6, column], wide[row + 7, column]
            # Blocks of 1, 2 and 4 bytes change places across the diagonal.
            x = ((a0 >> s8) ^ a1) & mask8
            a0, a1 = a0 ^ (x << s8), a1 ^ x
            x = ((a2 >> s8) ^ a3) & mask8
            a2, a3 = a2 ^ (x << s8), a3 ^ x
            x = ((a4 >> s8) ^ a5) & mask8
            a4, a5 = a4 ^ (x << s8), a5 ^ x
            x = ((a6 >> s8) ^ a7) & mask8
            a6, a7 = a6 ^ (x << s8), a7 ^ x
            x = ((a0 >> s16) ^ a2) & mask16
            a0, a2 = a0 ^ (x << s16), a2 ^ x
            x = ((a1 >> s16) ^ a3) & mask16
            a1, a3 = a1 ^ (x << s16), a3 ^ x
            x = ((a4 >> s16) ^ a6) & mask16
            a4, a6 = a4 ^ (x << s16), a6 ^ x
            x = ((a5 >> s16) ^ a7) & mask16
            a5, a7 = a5 ^ (x << s16), a7 ^ x
            x = ((a0 >> s32) ^ a4) & mask32
            a0, a4 = a0 ^ (x << s32), a4 ^ x
            x = ((a1 >> s32) ^ a5) & mask32
            a1, a5 = a1 ^ (x << s32), a5 ^ x
            x = ((a2 >> s32) ^ a6) & mask32
            a2, a6 = a2 ^ (x << s32), a6 ^ x
            x = ((a3 >> s32) ^ a7) & mask32
            a3, a7 = a3 ^ (x << s32), a7 ^ x
            place, base = row // 8, 8 * column
            tall[base, place], tall[base + 1, place] = a0, a1
            tall[base + 2, place], tall[base + 3, place] = a2, a3
            tall[base + 4, place], tall[base + 5, place] = a4, a5
            tall[base + 6, place], tall[base + 7, place] = a6, a7


@compiled
def add_hashes(symbols: np.ndarray, hashes: np.ndarray) -> None:
    """Mix every column of ``symbols`` into ``hashes``, uint64, one a column."""
    n_rows, n_columns = symbols.shape
    for row in range(n_rows):
        source = symbols[row]
        for column in range(uint64(n_columns)):
            mixed = hashes[column] + uint64(source[column]) + uint64(0x9E3779B97F4A7C15)
            mixed ^= mixed >> uint64(29)
            hashes[column] = mixed * uint64(0xBF58476D1CE4E5B9)
