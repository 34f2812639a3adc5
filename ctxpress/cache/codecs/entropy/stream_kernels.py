"""A whole rANS stream in a few compiled calls: small streams would spend their time between loops.

Classes are rows of arrays: ``heads`` int64 ``(n_classes, 4)``, the table, the lowest symbol, the
number of symbols and how many make a group; ``weights`` uint32 ``(n_classes, 256)``, from the
lowest symbol on.
"""

from __future__ import annotations

import numpy as np
from numba import uint32

from ctxpress.cache.codecs.entropy.compiling import compiled
from ctxpress.cache.codecs.entropy.kernels import (
    decode_lanes,
    decode_table,
    encode_lanes,
    expand_groups,
    pack_groups,
    starts_of,
)
from ctxpress.cache.codecs.entropy.pricing_kernels import TABLE_SIZE, group_frequencies
from ctxpress.cache.codecs.entropy.tables import static_weights

__all__ = ["decode_body", "encode_body", "order_of", "parse_classes", "segments_of", "tables_of"]


@compiled
def order_of(of_rows: np.ndarray, n_classes: int) -> np.ndarray:
    """All rows, those of a class together, as they are coded."""
    places = np.zeros(n_classes + 1, np.int64)
    for kind in of_rows:
        places[kind + 1] += 1
    for kind in range(n_classes):
        places[kind + 1] += places[kind]
    order = np.empty(of_rows.size, np.int64)
    for row in range(of_rows.size):
        order[places[of_rows[row]]] = row
        places[of_rows[row]] += 1
    return order


@compiled
def segments_of(of_rows: np.ndarray, groups: np.ndarray, n_columns: int) -> np.ndarray:
    """Where the groups of each class begin, and where the last ones end; int64."""
    segments = np.zeros(groups.size + 1, np.int64)
    for kind in of_rows:
        segments[kind + 1] += (n_columns + groups[kind] - 1) // groups[kind]
    for kind in range(groups.size):
        segments[kind + 1] += segments[kind]
    return segments


@compiled
def tables_of(heads: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The decoder's tables of all classes, uint32 ``(n_classes, 4096)``."""
    tables = np.empty((heads.shape[0], TABLE_SIZE), np.uint32)
    for kind in range(heads.shape[0]):
        own = weights[kind, : heads[kind, 2]].copy()
        decode_table(group_frequencies(own, heads[kind, 3]), tables[kind])
    return tables


@compiled
def parse_classes(
    data: np.ndarray,
    n_classes: int,
    n_levels: int,
    are_own: bool,
    family: np.ndarray,
    densities: np.ndarray,
    ladder: np.ndarray,
) -> tuple[int, int, np.ndarray, np.ndarray]:
    """Read ``n_classes`` classes from the start of ``data``, uint8.

    Their tables are in the stream where they ``are_own``, else of ``family``, or static ones where
    that has none; see ``tables.py`` for ``densities``. Returns 0, where the
    classes end, heads and weights; or what is wrong first and in which class: 1 the end comes too
    early, 2 symbols and groups that cannot be, 3 a table that is not whole, 4 no such table.
    """
    heads = np.zeros((n_classes, 4), np.int64)
    weights = np.zeros((n_classes, 256), np.uint32)
    place = 0
    for kind in range(n_classes):
        if place + 4 > data.size:
            return 1, kind, heads, weights
        for field in range(4):
            heads[kind, field] = data[place + field]
        heads[kind, 2] += 1
        place += 4
        low, width, group = heads[kind, 1], heads[kind, 2], heads[kind, 3]
        if low + width > n_levels or group < 1 or group > 4 or width**group > 256:
            return 2, kind, heads, weights
        if are_own:
            if heads[kind, 0] != 0 or place + width > data.size:
                return 3, kind, heads, weights
            for index in range(width):
                if data[place + index] >= ladder.size:
                    return 3, kind, heads, weights
                weights[kind, index] = ladder[data[place + index]]
            place += width
            continue
        table, n_tables = heads[kind, 0], family.shape[0]
        if table >= (n_tables if n_tables > 0 else densities.shape[0]):
            return 4, kind, heads, weights
        chosen = family[table] if n_tables > 0 else static_weights(densities[table], n_levels)
        for index in range(width):
            weights[kind, index] = chosen[low + index]
    return 0, place, heads, weights


@compiled
def decode_body(
    words: np.ndarray,
    n_lanes: int,
    heads: np.ndarray,
    weights: np.ndarray,
    of_rows: np.ndarray,
    out: np.ndarray,
) -> int:
    """Decode all symbols but outliers into ``out``; what is wrong, as ``decode_lanes`` says it."""
    segments = segments_of(of_rows, heads[:, 3], out.shape[1])
    grouped = np.empty(segments[-1], np.uint8)
    problem = decode_lanes(words, n_lanes, segments, tables_of(heads, weights), grouped)
    if problem == 0:
        order = order_of(of_rows, heads.shape[0])
        expand_groups(grouped, order, of_rows, heads, out.shape[1], out)
    return problem


@compiled
def encode_body(
    symbols: np.ndarray,
    heads: np.ndarray,
    weights: np.ndarray,
    of_rows: np.ndarray,
    n_lanes: int,
    inverses: np.ndarray,
    shifts: np.ndarray,
) -> np.ndarray:
    """The words of all symbols, uint32; those outside their row's class become its nearest."""
    n_classes = heads.shape[0]
    starts = np.empty((n_classes, 256), np.uint32)
    fillers = np.empty(n_classes, np.int64)
    for kind in range(n_classes):
        own = weights[kind, : heads[kind, 2]].copy()
        starts[kind] = starts_of(group_frequencies(own, heads[kind, 3]))
        fillers[kind] = own.argmax()
    n_groups = segments_of(of_rows, heads[:, 3], symbols.shape[1])[-1]
    block = 2 * n_lanes
    packed = np.empty((n_groups + block - 1) // block * block, np.uint32)
    packed[n_groups:] = uint32(TABLE_SIZE)
    pack_groups(
        symbols, order_of(of_rows, n_classes), of_rows, heads, fillers, starts, packed
    )  # fmt: skip
    words = np.empty(packed.size + block, np.uint32)
    begin = encode_lanes(packed, n_lanes, words, inverses, shifts)
    return words[begin:].copy()
