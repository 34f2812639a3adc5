"""Attacks on entropy-coded streams: bombs, lies about sizes, and tables that lead astray."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
import zstandard

from ctxpress.cache.codecs.entropy import decode_symbols, encode_symbols
from ctxpress.errors import CorruptContainerError

pytestmark = pytest.mark.timeout(300)  # the first one waits for kernels to be compiled
SHAPE, N_LEVELS = (8, 512), 16
N_BYTES = 8 * 512 // 2  # zstd sees two symbols a byte
PACKED, ZSTD, RANS = b"\0", b"\1", b"\2"


def frame(content: bytes, **options: object) -> bytes:
    return ZSTD + zstandard.ZstdCompressor(**options).compress(content)  # type: ignore[arg-type]


def bomb() -> bytes:
    """A frame of 15 KiB that says it has the right size, and holds a gigabyte's blocks."""
    magic, one_segment_two_bytes = b"\x28\xb5\x2f\xfd", b"\x60"
    size = struct.pack("<H", N_BYTES - 256)
    block = ((2**17 << 3) | (1 << 1)).to_bytes(3, "little") + b"\0"  # 128 KiB of one byte
    last = ((2**17 << 3) | (1 << 1) | 1).to_bytes(3, "little") + b"\0"
    return ZSTD + magic + one_segment_two_bytes + size + block * 2**13 + last


def huge_window() -> bytes:
    """No content size, and a window of 3.75 TiB."""
    return ZSTD + b"\x28\xb5\x2f\xfd" + b"\x00" + b"\xff" + b"\x01\x00\x00"


def without_size() -> bytes:
    compressor = zstandard.ZstdCompressor(write_content_size=False)
    return ZSTD + compressor.compress(bytes(N_BYTES))


def with_dictionary() -> bytes:
    return ZSTD + b"\x28\xb5\x2f\xfd" + b"\x63" + b"\x01\0\0\0" + struct.pack("<H", N_BYTES - 256)


def cut(stream: bytes) -> bytes:
    return stream[:-1]


def rans(*head: int, words: bytes = bytes(64)) -> bytes:
    return RANS + bytes(head) + words


NO_FRAME = "no whole zstd frame"
ATTACKS: tuple[tuple[str, Callable[[], bytes], str], ...] = (
    ("nothing", lambda: b"", "a stream of symbols is empty"),
    ("no such coder", lambda: b"\x03" + bytes(99), r"no coder 3 for \(8, 512\) symbols of 16"),
    ("packed, a byte too few", lambda: PACKED + bytes(N_BYTES - 1), "2047 bytes of packed symbols"),
    ("packed, a byte too many", lambda: PACKED + bytes(N_BYTES + 1), "2049 bytes of packed"),
    ("zstd: no frame", lambda: ZSTD + b"\0" * 40, NO_FRAME),
    ("zstd: an empty stream", lambda: ZSTD, NO_FRAME),
    (
        "zstd: a frame of a gigabyte",
        lambda: frame(bytes(2**30)),
        f"of {2**30} bytes, not {N_BYTES}",
    ),
    ("zstd: a frame that says too little", lambda: frame(bytes(9)), f"of 9 bytes, not {N_BYTES}"),
    ("zstd: more than it says", bomb, NO_FRAME),
    ("zstd: no size", without_size, f"of -1 bytes, not {N_BYTES}"),
    ("zstd: no size, a window of terabytes", huge_window, NO_FRAME),
    ("zstd: a dictionary that nobody has", with_dictionary, NO_FRAME),
    ("zstd: a frame cut off", lambda: cut(frame(bytes(N_BYTES))), NO_FRAME),
    ("zstd: two frames", lambda: frame(bytes(N_BYTES)) + frame(bytes(9))[1:], NO_FRAME),
    ("zstd: a byte behind the frame", lambda: frame(bytes(N_BYTES)) + b"\0", NO_FRAME),
    (
        "zstd: a damaged checksum",
        lambda: cut(frame(bytes(N_BYTES), write_checksum=True)) + b"\0",
        NO_FRAME,
    ),
    ("rans: 64 lanes and no states", lambda: rans(6, 0, 1, 0, 0, 15, 1), "words .* end early"),
    ("rans: 128 lanes", lambda: rans(7, 0, 1, 0, 0, 15, 1), r"of 2 \*\* 7 lanes"),
    ("rans: no classes", lambda: rans(0, 0, 0), "of 0 classes for 8 rows"),
    ("rans: more classes than rows", lambda: rans(0, 0, 9), "of 9 classes for 8 rows"),
    ("rans: no such table", lambda: rans(0, 0, 1, 250, 0, 15, 1), "no table 250"),
    ("rans: tables that nobody gave", lambda: rans(0, 2, 1, 0, 0, 15, 1), "were not given"),
    ("rans: tables from nowhere", lambda: rans(0, 9, 1), "with tables from 9"),
    ("rans: symbols past the last", lambda: rans(0, 0, 1, 0, 1, 15, 1), "16 symbols from 1"),
    ("rans: groups of more than a byte", lambda: rans(0, 0, 1, 0, 0, 15, 3), "in groups of 3"),
    ("rans: groups of none", lambda: rans(0, 0, 1, 0, 0, 15, 0), "in groups of 0"),
    ("rans: the head cut off", lambda: rans(0, 0, 1, words=b""), "ends within its classes"),
    ("rans: half a word", lambda: rans(0, 0, 1, 0, 0, 15, 1, words=bytes(63)), "whole number"),
    (
        "rans: outliers of 4 GiB",
        lambda: rans(128, 0, 1, 0, 0, 15, 1, 255, 255, 255, 255),
        "outliers of a rANS stream are not whole",
    ),
    ("rans: states of zeros", lambda: rans(0, 0, 1, 0, 0, 15, 1), "does not end|end early"),
)


@pytest.fixture(scope="module")
def compiled() -> None:
    """The kernels are compiled, which takes memory of its own."""
    zeros = np.zeros(SHAPE, np.uint8)
    decode_symbols(encode_symbols(zeros, N_LEVELS, coders=("rans",)), SHAPE, N_LEVELS)


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize(("name", "build", "message"), ATTACKS, ids=[row[0] for row in ATTACKS])
def test_a_stream_that_was_not_written_is_corrupt(
    name: str, build: Callable[[], bytes], message: str
) -> None:
    hostile = build()
    tracemalloc.start()
    try:
        with pytest.raises(CorruptContainerError, match=message):
            decode_symbols(hostile, SHAPE, N_LEVELS)
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


def test_the_honest_streams_that_these_resemble_decode() -> None:
    symbols = np.random.default_rng(0).integers(0, 4, SHAPE, dtype=np.uint8) + np.uint8(6)
    for coders in (("zstd",), ("rans",)):
        stream = encode_symbols(symbols, N_LEVELS, coders=coders)
        assert stream[0] == ("packed", "zstd", "rans").index(coders[0])
        np.testing.assert_array_equal(decode_symbols(stream, SHAPE, N_LEVELS), symbols)
