"""One stream of symbols: a byte that names the coder, then the coder's own bytes."""

from __future__ import annotations

import numpy as np

from ctxpress.cache.codecs.entropy import packing, rans, zstd
from ctxpress.cache.codecs.entropy.tables import SymbolTables
from ctxpress.errors import CodecError, CorruptContainerError

__all__ = ["CODERS", "decode_symbols", "encode_symbols", "is_zstd"]

CODERS = ("packed", "zstd", "rans")
_PACKED, _ZSTD, _ = range(3)
_SAMPLE_SYMBOLS = 2**12


def encode_symbols(
    symbols: np.ndarray,
    n_levels: int,
    *,
    tables: SymbolTables | None = None,
    row_tables: np.ndarray | None = None,
    coders: tuple[str, ...] = CODERS,
) -> bytes:
    """The smallest stream of ``symbols``, at most a byte larger than the symbols packed.

    ``symbols``: uint8 ``(n_rows, n_columns)``, each below ``n_levels``; a row is a channel, and
    alike rows lie together. ``n_levels``: 1 to 256. ``tables``: frequency tables that the decoder
    will have too; they compete with those that need none. ``row_tables``: ``(n_rows,)`` integers,
    which of ``tables`` each row uses, known to the decoder too; then nothing competes with them
    but zstd. ``coders``: which coders compete beside packing.

    :raises CodecError: the symbols, levels or tables are not of that kind.
    """
    if symbols.dtype != np.uint8 or symbols.ndim != 2:
        raise CodecError(
            f"symbols must be uint8 (n_rows, n_columns), not {symbols.dtype} {symbols.shape}"
        )
    _check_tables(symbols.shape[0], n_levels, tables, row_tables)
    symbols = np.ascontiguousarray(symbols)
    if symbols.size == 0 or n_levels == 1:
        if symbols.any():
            raise CodecError("a symbol is not below n_levels 1")
        return bytes([_PACKED])
    best = packing.packed_bytes(symbols.size, n_levels)
    stream = b""
    if "rans" in coders:
        stream = rans.encode(symbols, n_levels, tables, row_tables, best)
        stream = stream if len(stream) <= best else b""
    elif int(symbols.max()) >= n_levels:
        raise CodecError(f"a symbol is not below n_levels {n_levels}")
    best = len(stream) - 1 if stream else best
    if "zstd" in coders and _zstd_may_win(symbols, best, alone="rans" not in coders):
        frame = zstd.compress(symbols, n_levels)
        if len(frame) < best:
            stream = bytes([_ZSTD]) + frame
    return stream or bytes([_PACKED]) + packing.pack(symbols, n_levels)


def _zstd_may_win(symbols: np.ndarray, best: int, *, alone: bool) -> bool:
    """Whether a sample of the rows says that zstd comes near ``best``; its tables cost some."""
    if alone or symbols.size < _SAMPLE_SYMBOLS:
        return alone  # of so few symbols, a frame's own bytes are too many
    n_samples = symbols.size // _SAMPLE_SYMBOLS
    sample = symbols[:: min(n_samples, len(symbols))]
    return zstd.sampled_bytes(sample) * n_samples < 1.02 * best


def decode_symbols(
    data: bytes | memoryview,
    shape: tuple[int, int],
    n_levels: int,
    *,
    tables: SymbolTables | None = None,
    row_tables: np.ndarray | None = None,
) -> np.ndarray:
    """The symbols of a stream: uint8 ``shape``, each below ``n_levels``.

    ``data`` is hostile; ``shape`` is what the caller allows: time and memory are a small multiple
    of it, whatever the bytes say.

    :raises CorruptContainerError: the bytes are not one whole stream of that shape.
    :raises CodecError: levels or tables are not what :func:`encode_symbols` takes.
    """
    _check_tables(shape[0], n_levels, tables, row_tables)
    view = memoryview(data).cast("B")
    if len(view) == 0:
        raise CorruptContainerError("a stream of symbols is empty")
    coder, body = view[0], view[1:]
    n_symbols = shape[0] * shape[1]
    if coder == _PACKED:
        return packing.unpack(body, n_symbols, n_levels).reshape(shape)
    if n_symbols == 0 or n_levels == 1 or coder >= len(CODERS):
        raise CorruptContainerError(f"no coder {coder} for {shape} symbols of {n_levels} levels")
    if coder == _ZSTD:
        return zstd.decompress(body, n_symbols, n_levels).reshape(shape)
    return rans.decode(body, shape, n_levels, tables, row_tables)


def is_zstd(first_byte: int) -> bool:
    """Whether a stream that begins with this byte is coded by zstd."""
    return first_byte == _ZSTD


def _check_tables(
    n_rows: int, n_levels: int, tables: SymbolTables | None, row_tables: np.ndarray | None
) -> None:
    if not 1 <= n_levels <= 256:
        raise CodecError(f"n_levels must be 1 to 256, not {n_levels}")
    if tables is not None and tables.weights.shape[1] != n_levels:
        raise CodecError(f"tables of {tables.weights.shape[1]} levels for {n_levels}")
    if row_tables is None:
        return
    if tables is None or row_tables.shape != (n_rows,) or row_tables.dtype.kind not in "iu":
        raise CodecError(f"row_tables must name one of the given tables for each of {n_rows} rows")
    if n_rows and not 0 <= row_tables.min() <= row_tables.max() < len(tables.weights):
        raise CodecError(f"row_tables name tables that are not among {len(tables.weights)}")
