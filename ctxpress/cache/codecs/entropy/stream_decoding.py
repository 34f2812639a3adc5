"""One stream of symbols decoded in a single compiled call, where its coder is packing or rANS.

The same format as ``coding.py`` and ``rans.py`` read, which say what is wrong with a stream: here
all that is not plainly right is only refused.
"""

from __future__ import annotations

import numpy as np
from numba import uint8, uint32, uint64

from ctxpress.cache.codecs.entropy.compiling import compiled
from ctxpress.cache.codecs.entropy.kernels import decode_lanes, expand_groups
from ctxpress.cache.codecs.entropy.outliers import place_outliers
from ctxpress.cache.codecs.entropy.stream_kernels import (
    order_of,
    parse_classes,
    segments_of,
    tables_of,
)

__all__ = ["decode_stream"]

_PACKED, _RANS = 0, 2
_MAX_LANES_LOG2, _MAX_CLASSES = 6, 255


@compiled
def decode_stream(
    data: np.ndarray,
    begin: int,
    end: int,
    n_columns: int,
    n_levels: int,
    densities: np.ndarray,
    ladder: np.ndarray,
    out: np.ndarray,
) -> bool:
    """Decode bytes ``begin`` to ``end`` of ``data`` into the first columns of ``out``, uint8.

    ``densities`` and ``ladder`` are those of ``tables.py`` and ``classes.py``. False where the
    bytes are no stream of that shape, are coded by zstd, or need tables that the caller has.
    """
    n_rows = out.shape[0]
    if begin >= end or not 1 <= n_levels <= 256:
        return False
    if data[begin] == _PACKED:
        return _unpack(data, begin + 1, end, n_columns, n_levels, out)
    if data[begin] != _RANS or n_rows * n_columns == 0 or n_levels == 1 or end - begin < 4:
        return False
    lanes_log2, n_classes = int(np.int64(data[begin + 1] & 127)), int(np.int64(data[begin + 3]))
    source = data[begin + 2]
    if lanes_log2 > _MAX_LANES_LOG2 or source > 1:
        return False
    if not 1 <= n_classes <= min(_MAX_CLASSES, n_rows):
        return False
    problem, place, heads, weights = parse_classes(
        data[begin + 4 : end],
        n_classes,
        n_levels,
        source == 1,
        np.empty((0, 0), np.uint32),
        densities,
        ladder,
    )
    if problem:
        return False
    place += begin + 4
    of_rows = np.zeros(n_rows, np.int64)
    if n_classes > 1:
        length, place = _counted(data, place, end)
        names = np.empty((1, n_rows), np.uint8)
        if length < 0 or not _decode_classes(
            data, place, place + length, n_classes, densities, ladder, names
        ):
            return False
        for row in range(n_rows):
            of_rows[row] = names[0, row]
        place += length
    return _decode_rest(
        data, place, end, n_columns, n_levels, 1 << lanes_log2, data[begin + 1] >= 128,
        heads, weights, of_rows, out,
    )  # fmt: skip


@compiled
def _decode_rest(
    data: np.ndarray,
    place: int,
    end: int,
    n_columns: int,
    n_levels: int,
    n_lanes: int,
    has_outliers: bool,
    heads: np.ndarray,
    weights: np.ndarray,
    of_rows: np.ndarray,
    out: np.ndarray,
) -> bool:
    """What follows the classes: outliers and words."""
    outliers = data[place:place]
    if has_outliers:
        length, place = _counted(data, place, end)
        if length < 0:
            return False
        outliers = data[place : place + length]
        place += length
    if place > end or (end - place) % 4:
        return False
    words = np.empty((end - place) // 4, np.uint32)
    source, target = data[place:end], words.view(np.uint8)
    for index in range(uint64(source.size)):
        target[index] = source[index]
    segments = segments_of(of_rows, heads[:, 3], n_columns)
    grouped = np.empty(segments[-1], np.uint8)
    if decode_lanes(words, n_lanes, segments, tables_of(heads, weights), grouped):
        return False
    order = order_of(of_rows, heads.shape[0])
    expand_groups(grouped, order, of_rows, heads, n_columns, out)
    return place_outliers(outliers, n_levels, n_columns, out)


@compiled
def _decode_classes(
    data: np.ndarray,
    begin: int,
    end: int,
    n_classes: int,
    densities: np.ndarray,
    ladder: np.ndarray,
    out: np.ndarray,
) -> bool:
    """The classes of rows, one row: a stream within a stream, which has one class itself."""
    if begin >= end:
        return False
    n_columns = out.shape[1]
    if data[begin] == _PACKED:
        return _unpack(data, begin + 1, end, n_columns, n_classes, out)
    if data[begin] != _RANS or end - begin < 4 or data[begin + 3] != 1 or data[begin + 2] > 1:
        return False
    lanes_log2, source = int(np.int64(data[begin + 1] & 127)), data[begin + 2]
    if lanes_log2 > _MAX_LANES_LOG2:
        return False
    problem, place, heads, weights = parse_classes(
        data[begin + 4 : end],
        1,
        n_classes,
        source == 1,
        np.empty((0, 0), np.uint32),
        densities,
        ladder,
    )
    if problem:
        return False
    return _decode_rest(
        data, place + begin + 4, end, n_columns, n_classes, 1 << lanes_log2,
        data[begin + 1] >= 128, heads, weights, np.zeros(1, np.int64), out,
    )  # fmt: skip


@compiled
def _counted(data: np.ndarray, place: int, end: int) -> tuple[int, int]:
    """The u32 at ``place``, -1 where so many bytes do not follow, and the place behind it."""
    if place + 4 > end:
        return -1, place
    length = 0
    for byte in range(4):
        length |= int(np.int64(data[place + byte])) << (8 * byte)
    return (length if length <= end - place - 4 else -1), place + 4


@compiled
def _unpack(
    data: np.ndarray, begin: int, end: int, n_columns: int, n_levels: int, out: np.ndarray
) -> bool:
    """As ``packing.unpack``; whether these are packed symbols of that shape."""
    n_bits = 0
    while (1 << n_bits) < n_levels:
        n_bits += 1
    n_rows = out.shape[0]
    if end - begin != (n_rows * n_columns * n_bits + 7) // 8:
        return False
    mask, held, n_held, place = uint32((1 << n_bits) - 1), uint32(0), 0, begin
    largest = uint32(0)
    for row in range(n_rows):
        target = out[row]
        for column in range(n_columns):
            if n_held < n_bits:
                held |= uint32(data[place]) << uint32(n_held)
                place += 1
                n_held += 8
            symbol = held & mask
            held >>= uint32(n_bits)
            n_held -= n_bits
            target[column] = uint8(symbol)
            largest = max(largest, symbol)
    return bool(held == 0 and largest < n_levels)
