"""From integers to values in one pass: on CPUs that have the instructions, and nowhere else.

The same sums and the same roundings as ``decoding.decoded_rows``, so the same bits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numba import int64, uint32, uint64

from ctxpress.cache.codecs.entropy.compiling import compiled
from ctxpress.cache.codecs.kvtc.plan import CENTRE, UnitPlan
from ctxpress.cache.codecs.kvtc.rounding import Integers
from ctxpress.cache.codecs.kvtc.tile_product import (
    BFLOAT16,
    FLOAT16,
    FLOAT32,
    LANES,
    TILE_TOKENS,
    TILE_VALUES,
    multiply_tile,
    tiles_can_be_compiled,
)
from ctxpress.cache.codecs.kvtc.units import Unit

__all__ = ["FusedUnit", "fused_unit"]

_ROWS = 4  # of one word
_KINDS = {torch.float16: FLOAT16, torch.bfloat16: BFLOAT16, torch.float32: FLOAT32}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FusedUnit:
    """What a unit's plan is for the tiles; values are padded to whole panels of ``TILE_VALUES``.

    ``basis``: uint8 ``(n_panels, n_words, TILE_VALUES, 4)``, 128 too large, of rows that are not
    wide. ``pair_bases``: int16 ``(n_panels, n_pairs, 2, TILE_VALUES, 2)``, basis and fine basis of
    wide rows. ``rows``: the basis as the plan has it, for escapes.
    """

    unit: Unit
    n_wide: int
    basis: np.ndarray
    pair_bases: np.ndarray
    scale: np.ndarray
    mean: np.ndarray
    rows: np.ndarray

    def write(self, integers: Integers, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Write the values of ``integers`` to where they belong in a section's tensors.

        Both are ``(n_layers, n_kv_heads, n_tokens, head_dim)``, contiguous and on the CPU.
        """
        n_kv_heads, n_tokens, head_dim = keys.shape[1:]
        size_bytes = keys.element_size()
        extra = np.empty((0, self.scale.size), np.int32)
        if len(integers.rows):
            extra = np.zeros((n_tokens + -n_tokens % TILE_TOKENS, self.scale.size), np.int32)
            rows, tokens = integers.rows.astype(np.int64), integers.tokens.astype(np.int64)
            _add_escapes(extra, rows, tokens, integers.highs.astype(np.int32), self.rows)
        heads = np.arange(self.unit.start // head_dim, self.unit.stop // head_dim)
        layers, places = np.divmod(heads, 2 * n_kv_heads)
        numbers = layers * n_kv_heads + places % n_kv_heads
        starts = np.where(places < n_kv_heads, keys.data_ptr(), values.data_ptr())
        starts += numbers * (n_tokens * head_dim * size_bytes)
        steps = np.arange(0, head_dim * size_bytes, LANES * size_bytes)
        _write_unit(
            integers.symbols if integers.symbols.flags.writeable else integers.symbols.copy(),
            self.n_wide,
            self.basis,
            self.pair_bases,
            self.scale,
            self.mean,
            extra,
            np.float32(torch.finfo(keys.dtype).max),
            _KINDS[keys.dtype],
            np.add.outer(starts, steps).reshape(-1),
            head_dim * size_bytes,
        )


def fused_unit(plan: UnitPlan, head_dim: int) -> FusedUnit | None:
    """The plan for the tiles, or None where they cannot be used."""
    if plan.basis.device.type != "cpu" or head_dim % LANES or not tiles_can_be_compiled():
        return None
    basis, fine = plan.basis.numpy(), plan.fine.numpy()
    n_values = -(-basis.shape[1] // TILE_VALUES) * TILE_VALUES
    n_wide, n_rows = plan.n_wide, plan.n_rows
    n_words, n_pairs = -(-(n_rows - n_wide) // _ROWS), -(-n_wide // 2)
    low = np.zeros((n_words * _ROWS, n_values), np.uint8)
    low[: n_rows - n_wide, : basis.shape[1]] = basis[n_wide:].view(np.uint8) ^ 0x80
    wide = np.zeros((2, n_pairs * 2, n_values), np.int16)
    wide[0, :n_wide, : basis.shape[1]] = basis[:n_wide]
    wide[1, :n_wide, : basis.shape[1]] = fine
    n_panels = n_values // TILE_VALUES
    low = low.reshape(n_words, _ROWS, n_panels, TILE_VALUES).transpose(2, 0, 3, 1)
    wide = wide.reshape(2, n_pairs, 2, n_panels, TILE_VALUES).transpose(3, 1, 0, 4, 2)
    numbers = np.zeros((2, n_values), np.float32)
    numbers[0, : basis.shape[1]], numbers[1, : basis.shape[1]] = plan.scale, plan.mean
    return FusedUnit(
        unit=plan.unit,
        n_wide=n_wide,
        basis=_aligned(low),
        pair_bases=_aligned(wide),
        scale=numbers[0],
        mean=numbers[1],
        rows=basis,
    )


def _aligned(array: np.ndarray) -> np.ndarray:
    """A contiguous copy that begins at a multiple of 64 bytes, a vector's and a cache line's."""
    room = np.empty(array.nbytes + 64, np.uint8)
    begin = -room.ctypes.data % 64
    copy = room[begin : begin + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


@compiled
def _add_escapes(
    extra: np.ndarray, rows: np.ndarray, tokens: np.ndarray, highs: np.ndarray, basis: np.ndarray
) -> None:
    for escape in range(rows.size):
        source, target = basis[rows[escape]], extra[tokens[escape]]
        high = np.int32(highs[escape]) * np.int32(128)
        for value in range(source.size):
            target[value] += high * np.int32(source[value])


@compiled
def _words_of(
    symbols: np.ndarray, first: int, n_tokens: int, words: np.ndarray, totals: np.ndarray
) -> None:
    """``words``: of each token four int8, its integers in the rows from ``first`` on, and 0."""
    words[:] = uint32(0)
    for byte in range(min(_ROWS, symbols.shape[0] - first)):
        source, shift = symbols[first + byte], uint32(8 * byte)
        for token in range(uint64(n_tokens)):
            integer = np.int32(source[token]) - np.int32(CENTRE)
            totals[token] -= np.int32(128) * integer
            words[token] |= (uint32(integer) & uint32(255)) << shift


@compiled
def _pairs_of(symbols: np.ndarray, n_wide: int, n_tokens: int, pairs: np.ndarray) -> None:
    """``pairs``: uint32 ``(n_tiles, n_pairs, TILE_TOKENS)``, two int16 of wide rows a word."""
    for row in range(n_wide):
        shift = uint32(16 * (row % 2))
        for token in range(n_tokens):
            high = np.int32(symbols[row, token]) - np.int32(CENTRE)
            low = np.int32(symbols[n_wide + row, token]) - np.int32(CENTRE)
            word = uint32(high * np.int32(128) + low) & uint32(0xFFFF)
            pairs[token // TILE_TOKENS, row // 2, token % TILE_TOKENS] |= word << shift


@compiled
def _write_unit(
    symbols: np.ndarray,
    n_wide: int,
    basis: np.ndarray,
    pair_bases: np.ndarray,
    scale: np.ndarray,
    mean: np.ndarray,
    extra: np.ndarray,
    greatest: np.float32,
    kind: int,
    targets: np.ndarray,
    stride: int,
) -> None:
    n_panels, n_words = basis.shape[0], basis.shape[1]
    n_tokens = symbols.shape[1]
    n_tiles = (n_tokens + TILE_TOKENS - 1) // TILE_TOKENS
    totals = np.zeros(n_tiles * TILE_TOKENS, np.int32)
    words = np.empty(n_tiles * TILE_TOKENS, np.uint32)
    together = words.reshape(n_tiles, TILE_TOKENS)
    listed = np.empty((n_tiles, n_words, TILE_TOKENS), np.uint32)
    places = np.empty((n_tiles, n_words), np.uint32)
    counts = np.zeros(n_tiles, np.uint64)
    row_bytes = TILE_VALUES * _ROWS
    for word in range(n_words):
        _words_of(symbols, 2 * n_wide + _ROWS * word, n_tokens, words, totals)
        for tile in range(uint64(n_tiles)):
            count = counts[tile]
            found = uint32(0)
            for token in range(TILE_TOKENS):
                listed[tile, count, token] = together[tile, token]
                found |= together[tile, token]
            places[tile, count] = uint32(word * row_bytes)
            counts[tile] = count + uint64(found != 0)
    n_pairs = pair_bases.shape[1]
    pairs = np.zeros((n_tiles, n_pairs, TILE_TOKENS), np.uint32)
    _pairs_of(symbols, n_wide, n_tokens, pairs)
    value_bytes = 4 * TILE_VALUES
    for panel in range(n_panels):
        first = panel * (TILE_VALUES // LANES)
        for tile in range(n_tiles):
            more = int64(0)
            if extra.shape[0] > 0:
                more = extra.ctypes.data + tile * TILE_TOKENS * 4 * scale.size + panel * value_bytes
            multiply_tile(
                int64(counts[tile]),
                int64(places.ctypes.data + 4 * tile * n_words),
                int64(listed.ctypes.data + 4 * tile * n_words * TILE_TOKENS),
                int64(basis.ctypes.data + panel * n_words * row_bytes),
                int64(totals.ctypes.data + 4 * tile * TILE_TOKENS),
                int64(more),
                int64(4 * scale.size),
                int64(n_pairs),
                int64(pairs.ctypes.data + 4 * tile * n_pairs * TILE_TOKENS),
                int64(pair_bases.ctypes.data + panel * n_pairs * 2 * value_bytes),
                int64(scale.ctypes.data + panel * value_bytes),
                int64(mean.ctypes.data + panel * value_bytes),
                greatest,
                int64(kind),
                int64(targets.ctypes.data + 8 * first),
                int64(min(targets.size - first, TILE_VALUES // LANES)),
                int64(tile * TILE_TOKENS * stride),
                int64(stride),
                int64(min(TILE_TOKENS, n_tokens - tile * TILE_TOKENS)),
            )
