"""One stream of symbols coded by rANS in a single compiled call: counted, planned and written."""

from __future__ import annotations

import numpy as np
from numba import uint8, uint64

from ctxpress.cache.codecs.entropy.compiling import compiled
from ctxpress.cache.codecs.entropy.outliers import list_outliers
from ctxpress.cache.codecs.entropy.planning import (
    SOURCE_ROWS,
    SOURCE_STREAM,
    SYMBOLS_A_CLASS,
    choose_classes,
    classes_of_tables,
)
from ctxpress.cache.codecs.entropy.pricing_kernels import histograms
from ctxpress.cache.codecs.entropy.stream_kernels import encode_body, segments_of

__all__ = ["encode_stream"]

_RANS = 2
_OUTLIERS = 128
_MOST_LANES_LOG2 = 5
_MANY_ROWS = 512


@compiled
def encode_stream(
    symbols: np.ndarray,
    n_levels: int,
    static_weights: np.ndarray,
    static_bits: np.ndarray,
    given_weights: np.ndarray,
    given_bits: np.ndarray,
    kept: np.ndarray,
    of_rows: np.ndarray,
    ladder: np.ndarray,
    inverses: np.ndarray,
    shifts: np.ndarray,
    most_bytes: int,
) -> tuple[bool, np.ndarray]:
    """The stream of ``symbols``, uint8, its coder's byte first.

    The families are as ``planning.choose_classes`` takes them. Rows must use tables ``kept`` of the
    given ones where there are any; ``of_rows``, int64, says which. False where a symbol is not
    below ``n_levels``; nothing where the stream would not have less than ``most_bytes``.
    """
    n_rows, n_columns = symbols.shape
    # Too few symbols for a second class need no counts of their own rows.
    if kept.size == 0 and symbols.size < 2 * SYMBOLS_A_CLASS:
        counts = histograms(symbols.reshape((1, symbols.size)), n_levels)
    else:
        counts = histograms(symbols, n_levels)
    nothing = np.empty(0, np.uint8)
    for row in range(counts.shape[0]):
        if counts[row].sum() * counts.shape[0] < symbols.size:
            return False, nothing
    if kept.size:
        plan = classes_of_tables(counts, n_columns, kept, of_rows, given_weights, ladder)
    else:
        plan = choose_classes(
            counts, n_rows, n_columns, static_weights, static_bits, given_weights, given_bits,
            ladder,
        )  # fmt: skip
    source, heads, weights, rows, rungs, n_outliers, bits = plan
    lanes_log2 = _lanes_log2(bits, segments_of(rows, heads[:, 3], n_columns)[-1])
    if 3 + int(bits / 8) + (4 << lanes_log2) >= most_bytes:
        return True, nothing
    names = nothing
    if heads.shape[0] > 1 and source != SOURCE_ROWS:
        names = _names_of_classes(
            rows, heads.shape[0], static_weights[:0], static_bits[:0], ladder, inverses, shifts
        )
    return True, _assembled(
        symbols, source, heads, weights, rows, rungs, n_outliers > 0, names, lanes_log2,
        inverses, shifts,
    )  # fmt: skip


@compiled
def _lanes_log2(bits: float, n_groups: int) -> int:
    """A lane costs four bytes of state: 0.4 % of the stream is what their speed may cost."""
    lanes_log2 = 0
    while (
        lanes_log2 < _MOST_LANES_LOG2
        and (2 << lanes_log2) <= int(bits / 8) // 1000
        and (2 << lanes_log2) <= n_groups
    ):
        lanes_log2 += 1
    return lanes_log2


@compiled
def _names_of_classes(
    rows: np.ndarray,
    n_classes: int,
    no_weights: np.ndarray,
    no_bits: np.ndarray,
    ladder: np.ndarray,
    inverses: np.ndarray,
    shifts: np.ndarray,
) -> np.ndarray:
    """The class of each row: packed, or a stream of one row and one class.

    ``no_weights`` and ``no_bits`` are families without tables, of the types that those of streams
    have, since the planning of another type would be compiled again.
    """
    symbols = np.empty((1, rows.size), np.uint8)
    for row in range(rows.size):
        symbols[0, row] = uint8(rows[row])
    n_bits = 0
    while (1 << n_bits) < n_classes:
        n_bits += 1
    packed = np.zeros(1 + (rows.size * n_bits + 7) // 8, np.uint8)
    for row in range(rows.size):
        for bit in range(n_bits):
            at = row * n_bits + bit
            packed[1 + at // 8] |= uint8(((rows[row] >> bit) & 1) << (at % 8))
    if rows.size > _MANY_ROWS:
        return packed  # a thousandth of the stream, and not worth a plan of its own
    source, heads, weights, one, rungs, n_outliers, bits = choose_classes(
        histograms(symbols, n_classes), 1, rows.size, no_weights, no_bits, no_weights, no_bits,
        ladder,
    )  # fmt: skip
    lanes_log2 = _lanes_log2(bits, segments_of(one, heads[:, 3], rows.size)[-1])
    own = _assembled(
        symbols, source, heads, weights, one, rungs, n_outliers > 0, packed[:0], lanes_log2,
        inverses, shifts,
    )  # fmt: skip
    return own if own.size < packed.size else packed


@compiled
def _assembled(
    symbols: np.ndarray,
    source: int,
    heads: np.ndarray,
    weights: np.ndarray,
    rows: np.ndarray,
    rungs: np.ndarray,
    has_outliers: bool,
    names: np.ndarray,
    lanes_log2: int,
    inverses: np.ndarray,
    shifts: np.ndarray,
) -> np.ndarray:
    n_classes = heads.shape[0]
    words = encode_body(symbols, heads, weights, rows, 1 << lanes_log2, inverses, shifts)
    outliers = names[:0]
    if has_outliers:
        outliers = list_outliers(symbols, rows, heads[:, 1], heads[:, 2])
    size = 4 + 4 * n_classes + 8 + names.size + outliers.size + 4 * words.size
    if source == SOURCE_STREAM:
        size += heads[:, 2].sum()
    out = np.empty(size, np.uint8)
    out[0] = uint8(_RANS)
    out[1] = uint8(lanes_log2 | (_OUTLIERS if outliers.size else 0))
    out[2], out[3] = uint8(source), uint8(n_classes)
    place = 4
    for kind in range(n_classes):
        for field in range(4):
            out[place + field] = uint8(heads[kind, field] - (1 if field == 2 else 0))
        place += 4
        if source == SOURCE_STREAM:
            place = _append(out, place, rungs[kind, : heads[kind, 2]])
    if n_classes > 1 and source != SOURCE_ROWS:
        place = _append(out, _append_length(out, place, names.size), names)
    if outliers.size:
        place = _append(out, _append_length(out, place, outliers.size), outliers)
    place = _append(out, place, words.view(np.uint8))
    return out[:place]


@compiled
def _append(out: np.ndarray, place: int, source: np.ndarray) -> int:
    target = out[place : place + source.size]
    for index in range(uint64(source.size)):
        target[index] = source[index]
    return place + source.size


@compiled
def _append_length(out: np.ndarray, place: int, length: int) -> int:
    for byte in range(4):
        out[place + byte] = uint8((length >> (8 * byte)) & 255)
    return place + 4
