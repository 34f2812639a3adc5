"""A whole cachegen section decoded in one compiled call, on the CPU.

Streams are decoded, deltas undone and symbols made numbers and rounded to the tensor's dtype while
they are in the cache. The operations are those of ``cachegen_quantiser.dequantise``, so the bits
are the same. Whatever is not plainly right is only refused: the caller decodes it step by step,
which says what is wrong, or decodes what only libraries can.
"""

from __future__ import annotations

import numpy as np
from numba import float32, uint8, uint16, uint32, uint64

from ctxpress.cache.codecs.cachegen_kernels import transpose_bytes
from ctxpress.cache.codecs.cachegen_parsing import (
    COPIES,
    FIELDS,
    HAS_CHANNELS,
    HAS_DELTAS,
    RUNS,
    TENSORS,
)
from ctxpress.cache.codecs.entropy.compiling import compiled
from ctxpress.cache.codecs.entropy.stream_decoding import decode_stream
from ctxpress.cache.codecs.entropy.vectors import half_of, has_halves

__all__ = ["DTYPES", "decode_section", "fill_rounded", "round_to_half", "undo_deltas"]

DTYPES = ("float32", "float16", "bfloat16")
_FLOAT16, _BFLOAT16 = 1, 2
_LEAST_RUNG = -480
_MOST_MEAN = 127
_GROUP_TOKENS = 10


@compiled
def decode_section(
    data: np.ndarray,
    fields: np.ndarray,
    plain: np.ndarray,
    n_sinks: int,
    scales: np.ndarray,
    means: np.ndarray,
    rungs: np.ndarray,
    densities: np.ndarray,
    ladder: np.ndarray,
    kind: int,
    greatest: float,
    keys: np.ndarray,
    values: np.ndarray,
) -> bool:
    """Fill ``keys`` and ``values``, whose rows are those of heads and tokens; whether it was done.

    Both are uint16 ``(n_kv_heads * n_tokens, head_dim)``, of float32 the halves of the numbers.
    ``fields`` is what ``cachegen_parsing.parse_section`` found; symbols that begin at ``-1 - n``
    are decoded already and begin at ``n`` in ``plain``, uint8. ``scales`` and ``means``, float32
    ``(2, n_kv_heads, head_dim)``, are those of the calibration. ``rungs``: all values of
    the ladder of scales, float32. ``kind`` is the dtype, and ``greatest`` the largest finite
    number of it.
    """
    n_heads, head_dim = scales.shape[1], scales.shape[2]
    n_channels = n_heads * head_dim
    n_tokens = keys.shape[0] // n_heads
    places = np.arange(n_tokens - n_sinks)
    n_coded = places.size
    if fields[COPIES]:
        n_coded = _places_of(data, fields[COPIES + 1 : COPIES + 7], densities, ladder, places)
    for which in range(2 if n_coded >= 0 else 0):
        found = fields[TENSORS + which * FIELDS : TENSORS + (which + 1) * FIELDS]
        own_scales, own_means = scales[which].copy(), means[which].copy()
        row_deltas = np.zeros((1, n_channels), np.uint8)
        good = True
        if found[2] & HAS_CHANNELS:
            good &= _read_channels(data, found, rungs, densities, ladder, own_scales, own_means)
        if found[2] & HAS_DELTAS:
            begin, end = found[7], found[8]
            good &= decode_stream(data, begin, end, n_channels, 2, densities, ladder, row_deltas)
        out = keys if which == 0 else values
        for run in range(0 if n_sinks else 1, 2):
            own = found[RUNS + 7 * run : RUNS + 7 * run + 7]
            in_run = n_coded if run else n_sinks
            symbols = np.empty((n_channels, in_run + -in_run % 8), np.uint8)
            token_scales = np.empty((n_heads, in_run), np.float32)
            good = (
                good
                and _read_symbols(data, own, plain, in_run, densities, ladder, symbols)
                and _read_scales(data, own, rungs, densities, ladder, token_scales)
                and (in_run == 0 or np.isfinite(token_scales.max() * own_scales.max()))
            )
            if not good:
                return False
            if run:
                undo_deltas(symbols, row_deltas[0], in_run, own[2])
            fill_rounded(
                symbols, own[2], own_scales, own_means, token_scales,
                places if run else np.arange(in_run), kind, float32(greatest),
                n_sinks if run else 0, out,
            )  # fmt: skip
    return bool(n_coded >= 0)


@compiled
def _read_symbols(
    data: np.ndarray,
    run: np.ndarray,
    plain: np.ndarray,
    n_tokens: int,
    densities: np.ndarray,
    ladder: np.ndarray,
    out: np.ndarray,
) -> bool:
    if run[5] >= 0:
        levels = 2 * run[2] + 1
        return decode_stream(data, run[5], run[6], n_tokens, levels, densities, ladder, out)
    begin = -1 - run[5]
    for row in range(out.shape[0]):
        own = plain[begin + row * n_tokens : begin + (row + 1) * n_tokens]
        out[row, :n_tokens] = own
    return True


@compiled
def _read_scales(
    data: np.ndarray,
    run: np.ndarray,
    rungs: np.ndarray,
    densities: np.ndarray,
    ladder: np.ndarray,
    out: np.ndarray,
) -> bool:
    n_heads, n_tokens = out.shape
    names = np.empty((n_heads, n_tokens), np.uint8)
    if not decode_stream(data, run[3], run[4], n_tokens, run[1] + 1, densities, ladder, names):
        return False
    for head in range(n_heads):
        for token in range(n_tokens):
            out[head, token] = rungs[run[0] - _LEAST_RUNG + np.int64(names[head, token])]
    return True


@compiled
def _places_of(
    data: np.ndarray,
    streams: np.ndarray,
    densities: np.ndarray,
    ladder: np.ndarray,
    places: np.ndarray,
) -> int:
    """As ``cachegen_copies.decode_copies``; how many tokens are no copies, or -1."""
    is_copy = np.empty((1, places.size), np.uint8)
    if not decode_stream(data, streams[0], streams[1], places.size, 2, densities, ladder, is_copy):
        return -1
    n_copies = 0
    for token in range(places.size):
        n_copies += int(np.int64(is_copy[0, token]))
    low, high = np.empty((1, n_copies), np.uint8), np.empty((1, n_copies), np.uint8)
    if not decode_stream(
        data, streams[2], streams[3], n_copies, 256, densities, ladder, low
    ) or not decode_stream(data, streams[4], streams[5], n_copies, 256, densities, ladder, high):
        return -1
    n_before, copy = 0, 0
    for token in range(places.size):
        if is_copy[0, token]:
            places[token] = np.int64(low[0, copy]) + 256 * np.int64(high[0, copy])
            copy += 1
            if places[token] >= n_before:
                return -1
        else:
            places[token] = n_before
            n_before += 1
    return n_before


@compiled
def _read_channels(
    data: np.ndarray,
    found: np.ndarray,
    rungs: np.ndarray,
    densities: np.ndarray,
    ladder: np.ndarray,
    scales: np.ndarray,
    means: np.ndarray,
) -> bool:
    n_heads, head_dim = scales.shape
    names = np.empty((1, n_heads * head_dim), np.uint8)
    symbols = np.empty((1, n_heads * head_dim), np.uint8)
    if not decode_stream(
        data, found[3], found[4], names.size, found[1] + 1, densities, ladder, names
    ) or not decode_stream(
        data, found[5], found[6], names.size, 2 * _MOST_MEAN + 1, densities, ladder, symbols
    ):
        return False
    for head in range(n_heads):
        for dim in range(head_dim):
            channel = head * head_dim + dim
            scale = rungs[found[0] - _LEAST_RUNG + np.int64(names[0, channel])]
            scales[head, dim] = scale
            mean = float32(np.int64(symbols[0, channel]) - _MOST_MEAN)
            means[head, dim] = mean * scale * float32(0.125)
    return True


@compiled
def undo_deltas(symbols: np.ndarray, rows: np.ndarray, n_tokens: int, most: int) -> None:
    """As ``cachegen_delta.from_deltas``, in the first ``n_tokens`` columns."""
    n_levels = 2 * most + 1
    for row in range(rows.size):
        if not rows[row]:
            continue
        own = symbols[row]
        for first in range(0, n_tokens, _GROUP_TOKENS):
            offset = np.int32(own[first]) - np.int32(most)
            for token in range(first + 1, min(first + _GROUP_TOKENS, n_tokens)):
                symbol = np.int32(own[token]) + offset
                if symbol < 0:
                    symbol += n_levels
                own[token] = uint8(symbol if symbol < n_levels else symbol - n_levels)


@compiled
def fill_rounded(
    symbols: np.ndarray,
    most: int,
    scales: np.ndarray,
    means: np.ndarray,
    tokens: np.ndarray,
    places: np.ndarray,
    kind: int,
    greatest: float,
    first: int,
    out: np.ndarray,
) -> None:
    """``(symbol - most) * (scale * token scale) + mean``, limited and rounded, into ``out``.

    Token ``first + t`` of each head is that at ``places[t]``. Symbols have whole eights of columns.
    """
    n_heads, head_dim = scales.shape
    n_tokens = out.shape[0] // n_heads
    n_rows = head_dim + -head_dim % 8
    turned = np.zeros((n_rows, symbols.shape[1]), np.uint8)
    tile = np.zeros((symbols.shape[1], n_rows), np.uint8)
    row, shifted = np.empty(head_dim, np.float32), np.empty(head_dim, np.float32)
    bits, low_bits = row.view(np.uint32), shifted.view(np.uint32)
    centre, limit = float32(most), float32(greatest)
    for head in range(n_heads):
        own = symbols[head * head_dim : (head + 1) * head_dim]
        if head_dim == n_rows:
            transpose_bytes(own, tile)
        else:
            turned[:head_dim] = own
            transpose_bytes(turned, tile)
        for token in range(places.size):
            place = places[token]
            scale = tokens[head, place]
            source, target = tile[place], out[head * n_tokens + first + token]
            if kind == _FLOAT16 and has_halves():
                for dim in range(uint64(head_dim)):
                    step = scales[head, dim] * scale
                    value = (float32(source[dim]) - centre) * step + means[head, dim]
                    target[dim] = half_of(min(max(value, -limit), limit))
                continue
            for dim in range(uint64(head_dim)):
                step = scales[head, dim] * scale
                value = (float32(source[dim]) - centre) * step + means[head, dim]
                row[dim] = min(max(value, -limit), limit)
            if kind == _FLOAT16:
                round_to_half(row, shifted, bits, low_bits, target)
            elif kind == _BFLOAT16:
                for dim in range(uint64(head_dim)):
                    odd = (bits[dim] >> uint32(16)) & uint32(1)
                    target[dim] = uint16((bits[dim] + uint32(0x7FFF) + odd) >> uint32(16))
            else:
                wide = target.view(np.uint32)
                for dim in range(uint64(head_dim)):
                    wide[dim] = bits[dim]


@compiled
def round_to_half(
    row: np.ndarray, shifted: np.ndarray, bits: np.ndarray, low_bits: np.ndarray, out: np.ndarray
) -> None:
    """float32 of at most 65,504 as the nearest float16, ties to even; bits are views."""
    for dim in range(uint64(row.size)):
        # Added to a half, the bits that a subnormal float16 has are the lowest ones.
        shifted[dim] = abs(row[dim]) + float32(0.5)
    for dim in range(uint64(row.size)):
        magnitude = bits[dim] & uint32(0x7FFFFFFF)
        odd = (magnitude >> uint32(13)) & uint32(1)
        normal = (magnitude - uint32(0x37FFF001) + odd) >> uint32(13)
        small = low_bits[dim] - uint32(0x3F000000)
        half = normal if magnitude >= uint32(0x38800000) else small
        out[dim] = uint16(half | ((bits[dim] >> uint32(16)) & uint32(0x8000)))
