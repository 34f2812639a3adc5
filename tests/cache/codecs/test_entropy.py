"""Entropy coding keeps every symbol, stays near the entropy, and believes no hostile byte."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ctxpress.cache.codecs.entropy import (
    SymbolTables,
    decode_symbols,
    encode_symbols,
    is_zstd,
    kernels,
    rans,
)
from ctxpress.cache.codecs.entropy.classes import ladder
from ctxpress.cache.codecs.entropy.on_device import decode_streams
from ctxpress.cache.codecs.entropy.packing import packed_bytes
from ctxpress.cache.codecs.entropy.stream_decoding import decode_stream
from ctxpress.cache.codecs.entropy.tables import static_densities, static_tables
from ctxpress.errors import CodecError, CorruptContainerError


@st.composite
def symbol_arrays(draw: st.DrawFn) -> tuple[np.ndarray, int]:
    """Any shape and number of levels; flat, peaked, drifting over the rows, or all alike."""
    n_levels = draw(st.sampled_from((1, 2, 3, 5, 15, 16, 17, 31, 100, 255, 256)))
    shape = (draw(st.integers(0, 40)), draw(st.integers(0, 70)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    spread = draw(st.sampled_from((0.0, 0.2, 1.0, 5.0, 1000.0)))
    centre = draw(st.sampled_from((0, (n_levels - 1) // 2, n_levels - 1)))
    widths = spread * rng.lognormal(0, 1, (shape[0], 1))
    symbols = np.rint(rng.normal(0, 1, shape) * widths + centre)
    return np.clip(symbols, 0, n_levels - 1).astype(np.uint8), n_levels


def is_for_loops(stream: bytes) -> bool:
    return not is_zstd(stream[0])


def decoded_at_once(stream: bytes, shape: tuple[int, int], n_levels: int) -> np.ndarray | None:
    """What the one compiled call makes of a stream in the middle of others; None if it refuses."""
    data = np.frombuffer(b"before" + stream + b"behind", np.uint8)
    out = np.zeros((shape[0], shape[1] + 5), np.uint8)
    done = decode_stream(
        data, 6, 6 + len(stream), shape[1], n_levels, static_densities(), ladder(), out
    )
    assert not out[:, shape[1] :].any()
    return out[:, : shape[1]] if done else None


def tables_of(n_levels: int) -> SymbolTables:
    return SymbolTables.of_counts(np.random.default_rng(1).integers(0, 99, (3, n_levels)))


@settings(max_examples=200, deadline=None)
@given(
    symbol_arrays(),
    st.sampled_from(("none", "given", "of rows")),
    st.sampled_from((("rans",), ("zstd",), ("rans", "zstd"))),
)
def test_symbols_of_any_shape_come_back(
    case: tuple[np.ndarray, int], with_tables: str, coders: tuple[str, ...]
) -> None:
    symbols, n_levels = case
    tables = None if with_tables == "none" else tables_of(n_levels)
    row_tables = np.arange(len(symbols)) % 3 if with_tables == "of rows" else None
    data = encode_symbols(symbols, n_levels, tables=tables, row_tables=row_tables, coders=coders)
    again = decode_symbols(data, symbols.shape, n_levels, tables=tables, row_tables=row_tables)
    assert again.dtype == np.uint8
    assert np.array_equal(again, symbols)
    if tables is None and is_for_loops(data):
        assert np.array_equal(decoded_at_once(data, symbols.shape, n_levels), symbols)
    assert len(data) <= 1 + packed_bytes(symbols.size, n_levels)
    assert data == encode_symbols(
        symbols, n_levels, tables=tables, row_tables=row_tables, coders=coders
    )


def test_a_few_outliers_do_not_widen_the_tables_of_all() -> None:
    rng = np.random.default_rng(0)
    symbols = np.clip(np.rint(rng.normal(127, 1, (64, 1024))), 0, 255).astype(np.uint8)
    clean = len(encode_symbols(symbols, 256, coders=("rans",)))
    symbols[rng.integers(0, 64, 10), rng.integers(0, 1024, 10)] = (0, 255, 9, 40, 200) * 2
    data = encode_symbols(symbols, 256, coders=("rans",))
    assert np.array_equal(decode_symbols(data, symbols.shape, 256), symbols)
    assert len(data) < clean + 100


@settings(max_examples=150, deadline=None)
@given(symbol_arrays(), st.data())
def test_mutated_streams_give_symbols_or_our_error(
    case: tuple[np.ndarray, int], data: st.DataObject
) -> None:
    symbols, n_levels = case
    coders = data.draw(st.sampled_from((("rans",), ("zstd",))))
    stream = bytearray(encode_symbols(symbols, n_levels, coders=coders))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(stream)))
        kind = data.draw(st.sampled_from(("change", "cut", "insert")))
        if kind == "cut":
            del stream[place:]
        elif kind == "insert":
            stream[place:place] = data.draw(st.binary(max_size=9))
        elif place < len(stream):
            stream[place] = data.draw(st.integers(0, 255))
    at_once = decoded_at_once(bytes(stream), symbols.shape, n_levels)
    try:
        again = decode_symbols(bytes(stream), symbols.shape, n_levels)
    except CorruptContainerError:
        assert at_once is None
        return
    assert np.array_equal(at_once, again) if is_for_loops(stream) else at_once is None
    assert again.shape == symbols.shape
    assert again.size == 0 or int(again.max()) < n_levels


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=400), st.integers(1, 256), st.sampled_from((0, 1, 2)))
def test_bytes_from_anywhere_give_symbols_or_our_error(
    body: bytes, n_levels: int, coder: int
) -> None:
    stream = bytes([coder]) + body
    at_once = decoded_at_once(stream, (7, 19), n_levels)
    try:
        again = decode_symbols(stream, (7, 19), n_levels)
    except CorruptContainerError:
        assert at_once is None
        return
    assert np.array_equal(at_once, again) if is_for_loops(stream) else at_once is None
    assert again.shape == (7, 19)
    assert int(again.max()) < n_levels


@pytest.mark.parametrize("entropy_bits", [0.1, 0.2, 0.5, 1.0, 2.0, 3.5])
@pytest.mark.parametrize("n_levels", [3, 31, 255])
def test_rans_is_within_2_percent_of_the_entropy_down_to_a_tenth_of_a_bit(
    entropy_bits: float, n_levels: int
) -> None:
    rng = np.random.default_rng(0)
    draws = rng.laplace(0, 1, (256, 1024))
    low, high = 0.01, 100.0
    for _ in range(40):  # the width at which the symbols have that entropy
        width = (low * high) ** 0.5
        symbols = np.rint(draws * width) + (n_levels - 1) // 2
        symbols = np.clip(symbols, 0, n_levels - 1).astype(np.uint8)
        low, high = (width, high) if entropy_of(symbols) < entropy_bits else (low, width)
    data = encode_symbols(symbols, n_levels, coders=("rans",))
    assert 8 * len(data) / symbols.size <= 1.02 * entropy_of(symbols)


def entropy_of(symbols: np.ndarray) -> float:
    share = np.bincount(symbols.reshape(-1)) / symbols.size
    share = share[share > 0]
    return -float((share * np.log2(share)).sum())


def test_rows_that_differ_are_coded_by_their_own_tables() -> None:
    rng = np.random.default_rng(0)
    widths = np.repeat((0.2, 0.5, 1.0, 2.0), 64)[:, None]
    symbols = np.clip(np.rint(rng.normal(0, 1, (256, 512)) * widths + 15), 0, 30).astype(np.uint8)
    data = encode_symbols(symbols, 31, coders=("rans",))
    assert 8 * len(data) / symbols.size <= 1.02 * np.mean([entropy_of(row) for row in symbols])


def test_given_tables_save_what_tables_in_the_stream_cost() -> None:
    rng = np.random.default_rng(0)
    skewed = np.array([40, 1, 20, 9, 3, 25, 1, 1, 0, 30, 2, 7, 1, 1, 60])
    symbols = rng.choice(15, (16, 64), p=skewed / skewed.sum()).astype(np.uint8)
    tables = SymbolTables.of_counts(skewed[None])
    alone = encode_symbols(symbols, 15)
    shared = encode_symbols(symbols, 15, tables=tables)
    assert len(shared) < len(alone)
    with pytest.raises(CorruptContainerError, match="tables that were not given"):
        decode_symbols(shared, symbols.shape, 15)


def test_decoding_on_a_device_gives_the_same_symbols() -> None:
    rng = np.random.default_rng(0)
    streams, shapes, wanted = [], [], []
    for shape, n_levels in (((40, 256), 15), ((7, 33), 31), ((64, 300), 127), ((300, 17), 3)):
        widths = rng.lognormal(0, 0.7, (shape[0], 1))
        symbols = np.rint(rng.normal(0, 1, shape) * widths) + (n_levels - 1) // 2
        symbols = np.clip(symbols, 0, n_levels - 1).astype(np.uint8)
        symbols[0, :2] = (0, n_levels - 1)
        data = encode_symbols(symbols, n_levels, coders=("rans",))
        streams.append(rans.parse(memoryview(data)[1:], shape, n_levels, None, None))
        shapes.append(shape)
        wanted.append(symbols)
    found = decode_streams(streams, shapes, torch.device("cpu"))
    assert all(np.array_equal(a.numpy(), b) for a, b in zip(found, wanted, strict=True))
    streams[1].words[-1] ^= 1
    with pytest.raises(CorruptContainerError, match="does not end where"):
        decode_streams(streams, shapes, torch.device("cpu"))


@pytest.mark.parametrize("n_lanes", [1, 4, 8, 32])
def test_lanes_make_the_words_that_the_page_says(n_lanes: int) -> None:
    """Frequencies from 1 to 4,095 in long runs, against the page's own arithmetic."""
    rng = np.random.default_rng(0)
    for frequencies in ([1, 4094], [1] * 200 + [3895], [2047, 2048], [4095], [1000, 1, 94, 3000]):
        starts = np.concatenate(([0], np.cumsum(frequencies)[:-1]))
        groups = np.sort(rng.integers(0, len(frequencies), 40 * n_lanes))
        groups = np.concatenate((groups, rng.permutation(groups)))
        packed = (starts[groups] << 16 | np.array(frequencies)[groups]).astype(np.uint32)
        words = np.empty(packed.size + 2 * n_lanes, np.uint32)
        begin = kernels.encode_lanes(packed, n_lanes, words, *kernels.inverses_of_frequencies())
        found = words[begin:].tolist()
        states = [found[2 * lane] | found[2 * lane + 1] << 32 for lane in range(n_lanes)]
        place = 2 * n_lanes
        for j, group in enumerate(groups.tolist()):
            lane, frequency, start = j % n_lanes, frequencies[group], int(starts[group])
            slot = states[lane] % 4096
            assert start <= slot < start + frequency
            states[lane] = frequency * (states[lane] // 4096) + slot - start
            if j // n_lanes % 2 and states[lane] < 2**31:
                states[lane], place = states[lane] << 32 | found[place], place + 1
        assert states == [2**31] * n_lanes
        assert place == len(found)
        table = np.empty((1, kernels.TABLE_SIZE), np.uint32)
        kernels.decode_table(np.array(frequencies, np.uint32), table[0])
        out = np.empty(groups.size, np.uint8)
        segments = np.array([0, groups.size])
        assert kernels.decode_lanes(words[begin:].copy(), n_lanes, segments, table, out) == 0
        assert np.array_equal(out, groups)


def test_static_tables_are_the_same_everywhere() -> None:
    # Streams name these tables by number: a change is a new version of every codec that uses them.
    weights = static_tables(15).weights
    assert weights.shape == (120, 15)
    assert weights[36].tolist() == [1, 1, 1, 1, 25, 248, 987, 1563, 987, 248, 25, 1, 1, 1, 1]
    checksum = sum(
        int((static_tables(n).weights * np.arange(1, n + 1) ** 2 % 65521).sum()) % 65521
        for n in (1, 2, 3, 11, 31, 64, 255, 256)
    )
    assert checksum == 266206


@pytest.mark.parametrize(
    ("symbols", "n_levels", "message"),
    [
        (np.zeros((2, 2), np.int64), 4, "must be uint8"),
        (np.zeros(4, np.uint8), 4, "n_rows, n_columns"),
        (np.full((2, 2), 4, np.uint8), 4, "not below n_levels 4"),
        (np.ones((2, 2), np.uint8), 1, "not below n_levels 1"),
        (np.zeros((2, 2), np.uint8), 257, "1 to 256"),
    ],
)
def test_what_is_no_symbol_is_refused(symbols: np.ndarray, n_levels: int, message: str) -> None:
    with pytest.raises(CodecError, match=message):
        encode_symbols(symbols, n_levels)


@pytest.mark.parametrize(
    "weights",
    [
        np.zeros((1, 4), np.int64),
        np.ones(4, np.int64),
        np.ones((0, 4), np.int64),
        np.full((1, 4), 2000),
        np.ones((1, 4), np.float64),
    ],
)
def test_tables_that_cannot_code_are_refused(weights: np.ndarray) -> None:
    with pytest.raises(CodecError, match="tables must"):
        SymbolTables(weights)


def test_tables_of_other_levels_are_refused() -> None:
    with pytest.raises(CodecError, match="tables of 5 levels for 4"):
        encode_symbols(np.zeros((2, 2), np.uint8), 4, tables=tables_of(5))


def test_a_zstd_frame_that_claims_more_is_refused_before_memory_is_taken() -> None:
    import zstandard

    bomb = zstandard.ZstdCompressor().compress(bytes(2**27))
    with pytest.raises(CorruptContainerError, match="134217728 bytes, not 5"):
        decode_symbols(b"\x01" + bomb, (2, 5), 16)
