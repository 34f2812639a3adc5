"""zstd over symbols: as many in a byte as fit, for the library's Huffman coder to find.

Level 1 and long matches only: symbols are noise, and whatever matches a search finds in noise cost
more than they save.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ctxpress.errors import CorruptContainerError, MissingDependencyError

__all__ = ["compress", "decompress", "sampled_bytes", "symbols_a_byte"]

_LEVEL = 1
_MIN_MATCH = 7


def symbols_a_byte(n_levels: int) -> int:
    """How many symbols share a byte: the most whose combinations are at most 256, up to 8."""
    count = 1
    while count < 8 and n_levels ** (count + 1) <= 256:
        count += 1
    return count


def compress(symbols: np.ndarray, n_levels: int) -> bytes:
    """One zstd frame; the first symbol of a byte is its lowest digit in base ``n_levels``.

    :raises MissingDependencyError: the package ``zstandard`` is not installed.
    """
    library = _library()
    count = symbols_a_byte(n_levels)
    flat = symbols.reshape(-1)
    if count > 1:
        padded = np.zeros((-(-flat.size // count) * count,), np.uint8)
        padded[: flat.size] = flat
        digits = padded.reshape(-1, count)
        flat = digits[:, count - 1].copy()
        for digit in range(count - 2, -1, -1):
            flat *= np.uint8(n_levels)
            flat += digits[:, digit]
    parameters = library.ZstdCompressionParameters.from_level(
        _LEVEL, min_match=_MIN_MATCH, source_size=flat.size
    )
    frame: bytes = library.ZstdCompressor(compression_params=parameters).compress(flat)
    return frame


def sampled_bytes(sample: np.ndarray) -> int:
    """About what zstd makes of a sample of rows, taken as bytes: quick, and good to find repeats.

    :raises MissingDependencyError: the package ``zstandard`` is not installed.
    """
    return len(_library().ZstdCompressor(level=_LEVEL).compress(sample.tobytes()))


def decompress(data: memoryview, n_symbols: int, n_levels: int) -> np.ndarray:
    """``n_symbols`` symbols, uint8, flat.

    :raises CorruptContainerError: no frame, of another size, or with something behind it.
    :raises MissingDependencyError: the package ``zstandard`` is not installed.
    """
    library = _library()
    count = symbols_a_byte(n_levels)
    size = -(-n_symbols // count)
    try:
        # Known before anything is allocated: a frame may claim any size.
        claimed = library.frame_content_size(data)
        if claimed != size:
            raise CorruptContainerError(f"a zstd frame of {claimed} bytes, not {size}")
        raw = library.ZstdDecompressor().decompress(
            data, max_output_size=size, allow_extra_data=False
        )
    except library.ZstdError as error:
        raise CorruptContainerError(f"no whole zstd frame ({error})") from error
    grouped = np.frombuffer(raw, np.uint8)
    if grouped.size and int(grouped.max()) >= n_levels**count:
        raise CorruptContainerError(f"a byte of the zstd frame is not below {n_levels**count}")
    if count == 1:
        return grouped.copy()
    digits = np.empty((size, count), np.uint8)
    rest = grouped
    for digit in range(count):
        rest, digits[:, digit] = np.divmod(rest, np.uint8(n_levels))
    return digits.reshape(-1)[:n_symbols]


def _library() -> Any:
    try:
        import zstandard
    except ImportError as error:
        raise MissingDependencyError(
            "compressed KV needs zstandard: pip install 'ctxpress[torch]'"
        ) from error
    return zstandard
