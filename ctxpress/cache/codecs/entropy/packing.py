"""Raw bit packing: ``ceil(log2(n_levels))`` bits a symbol, lowest bits first."""

from __future__ import annotations

import numpy as np

from ctxpress.errors import CorruptContainerError

__all__ = ["pack", "packed_bytes", "unpack"]


def packed_bytes(n_symbols: int, n_levels: int) -> int:
    """The bytes that ``n_symbols`` of ``n_levels`` take up packed."""
    return (n_symbols * (n_levels - 1).bit_length() + 7) // 8


def pack(symbols: np.ndarray, n_levels: int) -> bytes:
    """The packed bits of all symbols, row by row; the last byte ends in zeros."""
    n_bits = (n_levels - 1).bit_length()
    if n_bits == 8:
        return symbols.tobytes()
    flat = symbols.reshape(-1, 1)
    bits = np.unpackbits(flat, axis=1, count=n_bits, bitorder="little")
    return np.packbits(bits, bitorder="little").tobytes()


def unpack(data: memoryview, n_symbols: int, n_levels: int) -> np.ndarray:
    """``n_symbols`` symbols, uint8, flat.

    :raises CorruptContainerError: another number of bytes, bits behind the end, or no symbol.
    """
    if len(data) != packed_bytes(n_symbols, n_levels):
        raise CorruptContainerError(
            f"{len(data)} bytes of packed symbols, not {packed_bytes(n_symbols, n_levels)}"
        )
    n_bits = (n_levels - 1).bit_length()
    if n_bits == 0:
        return np.zeros(n_symbols, np.uint8)
    raw = np.frombuffer(data, np.uint8)
    if n_bits == 8:
        symbols = raw.copy()
    else:
        bits = np.unpackbits(raw, bitorder="little")
        if bits[n_symbols * n_bits :].any():
            raise CorruptContainerError("bits are set behind the last packed symbol")
        rows = bits[: n_symbols * n_bits].reshape(n_symbols, n_bits)
        symbols = np.packbits(rows, axis=1, bitorder="little").reshape(n_symbols)
    if n_symbols and int(symbols.max()) >= n_levels:
        raise CorruptContainerError(f"a packed symbol is not below {n_levels}")
    return symbols
