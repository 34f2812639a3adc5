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
    "delta_gains",
    "largest_units",
    "symbols_of",
    "transpose_bytes",
]


@compiled
def channel_means(rows: np.ndarray) -> np.ndarray:
    """Means over tokens of float32 ``(n_heads, n_tokens, head_dim)``."""
    n_heads, n_tokens, head_dim = rows.shape
    means = np.zeros((n_heads, head_dim), np.float32)
    share = float32(1.0) / float32(n_tokens)  # first, since a sum may overflow where no value does
    for head in range(n_heads):
        for token in range(n_tokens):
            for dim in range(head_dim):
                means[head, dim] += rows[head, token, dim] * share
    return means


@compiled
def channel_deviations(rows: np.ndarray, means: np.ndarray) -> np.ndarray:
    """Mean absolute differences from ``means``, over tokens."""
    n_heads, n_tokens, head_dim = rows.shape
    deviations = np.zeros((n_heads, head_dim), np.float32)
    share = float32(1.0) / float32(n_tokens)
    for head in range(n_heads):
        for token in range(n_tokens):
            for dim in range(head_dim):
                deviations[head, dim] += abs(rows[head, token, dim] - means[head, dim]) * share
    return deviations


@compiled
def largest_units(rows: np.ndarray, means: np.ndarray, inverse: np.ndarray) -> np.ndarray:
    """The largest ``|row - mean| * inverse`` of each head and token."""
    n_heads, n_tokens, head_dim = rows.shape
    largest = np.zeros((n_heads, n_tokens), np.float32)
    units = np.empty(head_dim, np.float32)
    bits = units.view(np.int32)  # floats above 0 are ordered as their bits, and those as vectors
    for head in range(n_heads):
        for token in range(n_tokens):
            for dim in range(head_dim):
                unit = (rows[head, token, dim] - means[head, dim]) * inverse[head, dim]
                units[dim] = abs(unit)
            found = np.int32(0)
            place = 0
            for dim in range(head_dim):
                found = max(found, bits[dim])
            for dim in range(head_dim):
                if bits[dim] == found:
                    place = dim
                    break
            largest[head, token] = units[place]
    return largest


@compiled
def symbols_of(
    rows: np.ndarray, means: np.ndarray, inverse: np.ndarray, tokens: np.ndarray, most: int
) -> np.ndarray:
    """Nearest symbols, uint8 ``(n_heads * head_dim, n_tokens)``; ``tokens`` are inverse scales."""
    n_heads, n_tokens, head_dim = rows.shape
    symbols = np.empty((n_heads * head_dim, n_tokens), np.uint8)
    tile, turned = _padded(n_tokens, head_dim), _padded(head_dim, n_tokens)
    limit = float32(most)
    for head in range(n_heads):
        for token in range(n_tokens):
            scale = tokens[head, token]
            for dim in range(head_dim):
                unit = (rows[head, token, dim] - means[head, dim]) * inverse[head, dim] * scale
                unit = min(max(np.rint(unit), -limit), limit) + limit
                tile[token, dim] = uint8(np.int32(unit))
        transpose_bytes(tile, turned)
        for dim in range(head_dim):
            _copy(turned[dim, :n_tokens], symbols[head * head_dim + dim])
    return symbols


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
def delta_gains(symbols: np.ndarray, group: int, n_groups: int) -> np.ndarray:
    """Variance of symbols over that of differences from anchors, of each row's first groups."""
    n_rows = symbols.shape[0]
    gains = np.empty(n_rows, np.float32)
    for row in range(n_rows):
        source = symbols[row]
        total, squares, deltas = np.int32(0), np.int32(0), np.int32(0)
        for number in range(n_groups):
            part = source[number * group : (number + 1) * group]
            anchor = np.int32(part[0])
            for place in range(uint64(part.size)):
                symbol = np.int32(part[place])
                total += symbol
                squares += symbol * symbol
                deltas += (symbol - anchor) * (symbol - anchor)
        variance = squares - float(total) * float(total) / (n_groups * group)
        gains[row] = float32(variance / float(deltas if deltas > 0 else 1))
    return gains


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
