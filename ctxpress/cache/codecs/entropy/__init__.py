"""Entropy coding of symbols: raw bit packing, zstd or interleaved rANS, whichever is smallest.

Symbols are ``uint8`` arrays ``(n_rows, n_columns)``: a row is a channel, a column a token, so that
what is alike lies together. A stream is never more than a byte larger than its symbols packed into
``ceil(log2(n_levels))`` bits each.
"""

from ctxpress.cache.codecs.entropy.coding import decode_symbols, encode_symbols, is_zstd
from ctxpress.cache.codecs.entropy.tables import SymbolTables

__all__ = ["SymbolTables", "decode_symbols", "encode_symbols", "is_zstd"]
