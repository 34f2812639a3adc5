"""Streams of interleaved rANS: classes of rows, each with a table, symbols in groups.

Rows that are alike share a table. A table may be one of the static family, one that the caller
gave, or one in the stream. Several symbols of a row are coded as one where their combinations are
at most 256: that is faster, and is priced before it is chosen. Bytes of a stream::

    u8  base-2 logarithm of the number of lanes, at most 6; 128 is added where there are outliers
    u8  source of the tables: 0 static, 1 in the stream, 2 given, 3 given with each row's table
    u8  number of classes, 1 to 255
    a class: u8 table (0 where the source is 1), u8 lowest symbol, u8 symbols minus 1,
             u8 symbols a group, and where the source is 1 each weight's place on the ladder, u8
    where there are two classes or more and the source is not 3: u32 length, then the class of each
             row: u8 0 and packed bits, or u8 2 and a stream like this one of one row and one class
    where there are outliers, symbols outside their row's class: u32 length, then their list
    u32 words, little-endian, to the end: the lanes' states (low half first), then the payload
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ctxpress.cache.codecs.entropy import kernels, packing
from ctxpress.cache.codecs.entropy.classes import MAX_CLASSES, RowClasses, ladder
from ctxpress.cache.codecs.entropy.outliers import place_outliers
from ctxpress.cache.codecs.entropy.planning import (
    SOURCE_GIVEN,
    SOURCE_ROWS,
    SOURCE_STATIC,
    SOURCE_STREAM,
)
from ctxpress.cache.codecs.entropy.pricing_kernels import histograms
from ctxpress.cache.codecs.entropy.stream_encoding import encode_stream
from ctxpress.cache.codecs.entropy.stream_kernels import decode_body, parse_classes
from ctxpress.cache.codecs.entropy.tables import (
    MAX_TABLES,
    SymbolTables,
    static_densities,
    static_tables,
)
from ctxpress.errors import CodecError, CorruptContainerError

__all__ = [
    "ParsedStream",
    "count_symbols",
    "decode",
    "encode",
    "parse",
]

_MAX_LANES_LOG2 = 6
_OUTLIERS = 128
_LENGTH = struct.Struct("<I")
_NO_TABLES = np.zeros((0, 0), np.uint32)
_NO_TABLES.flags.writeable = False  # as those of SymbolTables: one kind to compile for
_NO_BITS = np.zeros((0, 0), np.float32)
_NO_ROWS = np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedStream:
    """A stream's head, checked, and its words."""

    n_lanes: int
    classes: RowClasses
    outliers: np.ndarray
    words: np.ndarray


def count_symbols(symbols: np.ndarray, n_levels: int) -> np.ndarray:
    """How often each row holds each symbol: ``(n_rows, n_levels)`` float32.

    :raises CodecError: a symbol is not below ``n_levels``.
    """
    counts: np.ndarray = histograms(symbols, n_levels)
    if symbols.size and counts.sum(axis=1).min() < symbols.shape[1]:
        raise CodecError(f"a symbol is not below n_levels {n_levels}")
    return counts


def encode(
    symbols: np.ndarray,
    n_levels: int,
    tables: SymbolTables | None,
    row_tables: np.ndarray | None,
    most_bytes: int,
) -> bytes:
    """The stream of ``symbols``, uint8 ``(n_rows, n_columns)``, with the byte that names the coder.

    Nothing where it would not have less than ``most_bytes``.

    :raises CodecError: a symbol is not below ``n_levels``.
    """
    static = static_tables(n_levels).weights if row_tables is None else _NO_TABLES
    static_bits = _static_bits(n_levels) if row_tables is None else _NO_BITS
    given = _NO_TABLES if tables is None else tables.weights
    given_bits = _NO_BITS if tables is None or row_tables is not None else _bits_of(given)
    kept, of_rows = _NO_ROWS, _NO_ROWS
    if row_tables is not None:
        kept, of_rows = np.unique(row_tables.astype(np.int64), return_inverse=True)
    valid, stream = encode_stream(
        symbols,
        n_levels,
        static,
        static_bits,
        given,
        given_bits,
        kept,
        of_rows.reshape(-1),
        ladder(),
        *_inverses(),
        most_bytes,
    )
    if not valid:
        raise CodecError(f"a symbol is not below n_levels {n_levels}")
    found: bytes = stream.tobytes()
    return found


def decode(
    data: memoryview,
    shape: tuple[int, int],
    n_levels: int,
    tables: SymbolTables | None,
    row_tables: np.ndarray | None = None,
) -> np.ndarray:
    """The symbols, uint8 ``shape``.

    :raises CorruptContainerError: the bytes are not a whole stream of that shape.
    """
    stream = parse(data, shape, n_levels, tables, row_tables)
    classes, out = stream.classes, np.empty(shape, np.uint8)
    problem = decode_body(
        stream.words, stream.n_lanes, classes.heads, classes.weights, classes.of_rows, out
    )
    if problem:
        raise CorruptContainerError(
            "the words of a rANS stream end early"
            if problem == 1
            else "a rANS stream does not end where its symbols do"
        )
    if stream.outliers.size and not place_outliers(stream.outliers, n_levels, shape[1], out):
        raise CorruptContainerError("the outliers of a rANS stream are no whole list")
    return out


def parse(
    data: memoryview,
    shape: tuple[int, int],
    n_levels: int,
    tables: SymbolTables | None,
    row_tables: np.ndarray | None,
) -> ParsedStream:
    """The head of a stream, every field of it checked.

    :raises CorruptContainerError: says which field is wrong.
    """
    if len(data) < 3:
        raise CorruptContainerError("a rANS stream is too short")
    lanes_log2, source, n_classes = data[0] & ~_OUTLIERS, data[1], data[2]
    if lanes_log2 > _MAX_LANES_LOG2:
        raise CorruptContainerError(f"a rANS stream of 2 ** {lanes_log2} lanes")
    if not 1 <= n_classes <= min(MAX_CLASSES, shape[0]):
        raise CorruptContainerError(f"a rANS stream of {n_classes} classes for {shape[0]} rows")
    family = _given_weights(source, tables)
    raw = np.frombuffer(data[3:], np.uint8)
    raw.flags.writeable = False  # else there would be two kinds of arrays to compile for
    problem, size, heads, weights = parse_classes(
        raw, n_classes, n_levels, source == SOURCE_STREAM, family, static_densities(), ladder()
    )
    if problem:
        raise CorruptContainerError(_class_problem(problem, size, heads[size]))
    place = 3 + size
    of_rows, nothing = np.zeros(shape[0], np.int64), np.empty(0, np.uint8)
    if source == SOURCE_ROWS:
        of_rows = _given_row_classes(heads[:, 0], row_tables)
    elif n_classes > 1:
        listed, place = _counted(data, place, "classes of rows")
        of_rows[:] = _decode_row_classes(listed, shape[0], n_classes)
    outliers, place = _counted(data, place, "outliers") if data[0] & _OUTLIERS else (nothing, place)
    if (len(data) - place) % 4:
        raise CorruptContainerError("a rANS stream is no whole number of words")
    classes = RowClasses(source=source, heads=heads, weights=weights, of_rows=of_rows)
    return ParsedStream(
        n_lanes=1 << lanes_log2,
        classes=classes,
        outliers=np.frombuffer(outliers, np.uint8),
        # Copied, so that the words are aligned.
        words=np.frombuffer(data[place:], "<u4").astype(np.uint32),
    )


def _class_problem(problem: int, kind: int, head: np.ndarray) -> str:
    table, low, width, group = (int(number) for number in head)
    return (
        f"a rANS stream ends within its classes, in that numbered {kind}",
        f"class {kind} of a rANS stream has {width} symbols from {low} in groups of {group}",
        f"the table of class {kind} of a rANS stream is not whole",
        f"class {kind} of a rANS stream names a table that there is not: no table {table}",
    )[problem - 1]


def _counted(data: memoryview, place: int, what: str) -> tuple[memoryview, int]:
    """The bytes at ``place`` that a u32 counts, and where they end."""
    if len(data) < place + _LENGTH.size:
        raise CorruptContainerError(f"a rANS stream ends before its {what}")
    (length,) = _LENGTH.unpack(data[place : place + _LENGTH.size])
    place += _LENGTH.size
    if length > len(data) - place:
        raise CorruptContainerError(f"the {what} of a rANS stream are not whole")
    return data[place : place + length], place + length


def _given_row_classes(indices: np.ndarray, row_tables: np.ndarray | None) -> np.ndarray:
    if row_tables is None:
        raise CorruptContainerError("a rANS stream of rows whose tables were not given")
    used = np.zeros(MAX_TABLES, np.bool_)
    used[row_tables] = True
    if not np.array_equal(np.flatnonzero(used), indices):
        raise CorruptContainerError("a rANS stream of other tables than the rows'")
    classes: np.ndarray = (np.cumsum(used) - 1)[row_tables]
    return classes


def _decode_row_classes(data: memoryview, n_rows: int, n_classes: int) -> np.ndarray:
    if len(data) == 0 or data[0] not in (0, 2):
        raise CorruptContainerError("the classes of rows are of no known coder")
    if data[0] == 0:
        return packing.unpack(data[1:], n_rows, n_classes)
    # One row has one class: a stream within a stream ends here.
    return decode(data[1:], (1, n_rows), n_classes, None).reshape(-1)


def _given_weights(source: int, tables: SymbolTables | None) -> np.ndarray:
    if source in (SOURCE_STATIC, SOURCE_STREAM):
        return _NO_TABLES
    if source not in (SOURCE_GIVEN, SOURCE_ROWS):
        raise CorruptContainerError(f"a rANS stream with tables from {source}")
    if tables is None:
        raise CorruptContainerError("a rANS stream of tables that were not given")
    return tables.weights


@lru_cache(maxsize=1)
def _inverses() -> tuple[np.ndarray, np.ndarray]:
    inverses: tuple[np.ndarray, np.ndarray] = kernels.inverses_of_frequencies()
    return inverses


@lru_cache(maxsize=128)
def _static_bits(n_levels: int) -> np.ndarray:
    return _bits_of(static_tables(n_levels).weights)


def _bits_of(weights: np.ndarray) -> np.ndarray:
    """Bits a symbol: ``(n_levels, n_tables)``."""
    wide = weights.astype(np.float32)
    return np.ascontiguousarray(np.log2(wide.sum(axis=1, keepdims=True) / wide).T)
