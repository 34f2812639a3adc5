"""Entropy coders on symbols of real KV: `python -m benchmarks.kv_entropy`.

    python -m benchmarks.kv_entropy --model FOLDER --texts FILE --calibration FILE
        [--runs 5] [--clock cpu] [--write docs/kv.md]

The symbols are those that `cachegen-2` and `cachegen-auto` make of chunks of 256 tokens, keys and
values of a layer by themselves, as they lie in a section: of the model's own KV, and of a block of
Llama-3.1-8B's shape made of it (see `benchmarks.kv_blocks`). Sizes are whole streams, their tables
and classes included. Medians of `--runs` after one run that does not count, one thread; `--clock
cpu` counts the seconds that the process computed, for machines that are not idle.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.kv_blocks import LLAMA_8B, mosaic, real_blocks
from ctxpress.cache.calibration import Calibration
from ctxpress.cache.codec import create_codec
from ctxpress.cache.codecs.cachegen_copies import decode_copies
from ctxpress.cache.codecs.cachegen_section import SectionReader
from ctxpress.cache.codecs.entropy import decode_symbols, encode_symbols
from ctxpress.cache.codecs.exact_rows import split_exact_rows
from ctxpress.cache.container import parse_header, read_section
from ctxpress.cache.kv import KVBlock
from ctxpress.engine import load_model, rounded
from ctxpress.evaluation.kv_texts import read_texts
from ctxpress.evaluation.sections import replace_section

CHUNK_TOKENS = 256
N_CHUNKS = 6
N_TILES = 48  # chunks that the large shape is made of
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


@dataclass(frozen=True)
class Stream:
    """Symbols of a layer's keys or values: uint8 `(channels, tokens)`."""

    symbols: np.ndarray
    n_levels: int


@dataclass(frozen=True)
class Coder:
    """A way to code one stream; `decode` gives the symbols back, in any order of its own."""

    name: str
    encode: Callable[[Stream], Any]
    decode: Callable[[Any, Stream], np.ndarray]
    size_bytes: Callable[[Any, Stream], int] = lambda data, _: len(data)


def ours(name: str, coders: tuple[str, ...]) -> Coder:
    """What `ctxpress.cache.codecs.entropy` does with these coders alone, or with all of them."""
    return Coder(
        name,
        lambda s: encode_symbols(s.symbols, s.n_levels, coders=coders),
        lambda data, s: decode_symbols(data, s.symbols.shape, s.n_levels),
    )


def zstd(name: str, level: int, *, token_major: bool) -> Coder:
    """The library over symbols, one a byte, as they lie in tensors or channel by channel."""
    import zstandard

    def encode(stream: Stream) -> bytes:
        symbols = stream.symbols.T if token_major else stream.symbols
        return zstandard.ZstdCompressor(level=level).compress(np.ascontiguousarray(symbols))

    def decode(data: bytes, stream: Stream) -> np.ndarray:
        raw = np.frombuffer(zstandard.ZstdDecompressor().decompress(data), np.uint8)
        rows, columns = stream.symbols.shape
        return raw.reshape(columns, rows).T if token_major else raw.reshape(rows, columns)

    return Coder(name, encode, decode)


def range_coder(name: str, *, table_a_channel: bool) -> Coder:
    """constriction's range coder; a frequency is a byte in size, as is each channel's length."""
    import constriction

    stream_coder = constriction.stream

    def models(stream: Stream) -> list[Any]:
        parts = stream.symbols if table_a_channel else [stream.symbols]
        counts = [np.bincount(p.reshape(-1), minlength=stream.n_levels) + 0.01 for p in parts]
        return [stream_coder.model.Categorical(c / c.sum(), perfect=False) for c in counts]

    def encode(stream: Stream) -> Any:
        rows = list(stream.symbols) if table_a_channel else [stream.symbols.reshape(-1)]
        words = []
        found = models(stream)
        for row, model in zip(rows, found, strict=True):
            encoder = stream_coder.queue.RangeEncoder()
            encoder.encode(row.astype(np.int32), model)
            words.append(encoder.get_compressed())
        return words, found

    def decode(coded: Any, stream: Stream) -> np.ndarray:
        shape = stream.symbols.shape
        count = shape[1] if table_a_channel else stream.symbols.size
        rows = [
            stream_coder.queue.RangeDecoder(words).decode(model, count)
            for words, model in zip(*coded, strict=True)
        ]
        return np.concatenate(rows).reshape(shape)

    def size_bytes(coded: Any, stream: Stream) -> int:
        words, found = coded
        return sum(4 * len(part) for part in words) + len(found) * (stream.n_levels + 1)

    return Coder(name, encode, decode, size_bytes)


def coders() -> list[Coder]:
    """All that are compared."""
    return [
        ours("packed bits", ()),
        zstd("zstd -1, a byte a symbol, token by token", 1, token_major=True),
        zstd("zstd -1, a byte a symbol, channel by channel", 1, token_major=False),
        zstd("zstd -9, a byte a symbol, channel by channel", 9, token_major=False),
        ours("zstd -1, several symbols a byte, channel by channel", ("zstd",)),
        range_coder("range coder (constriction), a table a stream", table_a_channel=False),
        range_coder("range coder (constriction), a table a channel", table_a_channel=True),
        ours("rANS, classes of channels", ("rans",)),
        ours("smallest of packed bits, zstd and rANS", ("rans", "zstd")),
    ]


def streams_of(
    codec_name: str, calibration: Calibration, blocks: Sequence[KVBlock]
) -> list[Stream]:
    """The symbols that a codec makes of `blocks`; sinks, deltas and copies are left out."""
    found = []
    codec = create_codec(codec_name, calibration)
    for block in blocks:
        data = codec.encode(block)
        header = parse_header(data)
        layout = header.layout
        for index in range(len(header.sections)):
            _, own = split_exact_rows(header, index, read_section(header, index, data), 0)
            streams = SectionReader(own, index).all(1)
            n_tokens = layout.n_tokens
            if streams.copies:
                n_tokens = int(decode_copies(streams.copies, n_tokens).max()) + 1
            for tensor in (streams.keys, streams.values):
                run, n_rows = tensor.runs[0], layout.n_kv_heads * layout.head_dim
                n_levels = 2 * run.most + 1
                shape = (n_rows, n_tokens)
                found.append(Stream(decode_symbols(run.symbols, shape, n_levels), n_levels))
    return found


def entropies(streams: Sequence[Stream]) -> tuple[float, float]:
    """Bits a symbol by the frequencies of each stream, and by those of each channel in it."""
    whole = channels = n_symbols = 0.0
    for stream in streams:
        whole += _bits(stream.symbols.reshape(1, -1), stream.n_levels)
        channels += _bits(stream.symbols, stream.n_levels)
        n_symbols += stream.symbols.size
    return whole / n_symbols, channels / n_symbols


def _bits(rows: np.ndarray, n_levels: int) -> float:
    counts = np.stack([np.bincount(row, minlength=n_levels) for row in rows])
    return float(
        rows.size * np.log2(rows.shape[1]) - (counts * np.log2(np.maximum(counts, 1))).sum()
    )


def measure(
    coder: Coder, streams: Sequence[Stream], runs: int, clock: str
) -> tuple[float, float, float]:
    """Bits a symbol, and millions of symbols a second both ways."""
    now = CLOCKS[clock]
    n_symbols = sum(stream.symbols.size for stream in streams)
    coded = [coder.encode(stream) for stream in streams]
    size_bytes = 0
    for data, stream in zip(coded, streams, strict=True):
        if not np.array_equal(coder.decode(data, stream), stream.symbols):
            raise SystemExit(f"{coder.name}: other symbols came back")
        size_bytes += coder.size_bytes(data, stream)

    def median(work: Callable[[], object]) -> float:
        seconds = []
        for _ in range(runs):
            begun = now()
            work()
            seconds.append(now() - begun)
        return statistics.median(seconds)

    encode_s = median(lambda: [coder.encode(stream) for stream in streams])
    decode_s = median(lambda: [coder.decode(*pair) for pair in zip(coded, streams, strict=True)])
    return 8 * size_bytes / n_symbols, n_symbols / encode_s / 1e6, n_symbols / decode_s / 1e6


def table(title: str, streams: Sequence[Stream], runs: int, clock: str) -> str:
    """One table in Markdown."""
    whole, channels = entropies(streams)
    shape = streams[0].symbols.shape
    most = max(stream.symbols.shape[1] for stream in streams)
    lines = [
        f"**{title}**: {len(streams)} streams of {shape[0]:,} channels and up to {most} tokens. "
        f"Entropy by the frequencies of a stream {whole:.3f} bits, by those of each channel in "
        f"its symbols, which nobody is told for nothing, {channels:.3f} bits.",
        "",
        "| coder | bits/symbol | encode, Msymbols/s | decode, Msymbols/s |",
        "|---|---|---|---|",
    ]
    for coder in coders():
        bits, encode, decode = measure(coder, streams, runs, clock)
        lines.append(f"| {coder.name} | {bits:.3f} | {encode:,.0f} | {decode:,.0f} |")
        print(lines[-1], flush=True)
    return "\n".join(lines)


def main() -> None:
    """Measure, print, and write where asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--model", required=True)
    parser.add_argument("--texts", required=True, type=Path)
    parser.add_argument("--calibration", required=True, type=Path)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--clock", choices=sorted(CLOCKS), default="wall")
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = load_model(options.model, device="cpu", dtype="float32")
    ids = [token for text in read_texts(options.texts) for token in model.token_ids(text)]
    halves = [rounded(block, "float16") for block in real_blocks(model, ids, N_TILES, CHUNK_TOKENS)]
    # As chunks behind the first of a text, so that no tokens are sinks.
    own = [
        KVBlock(keys=b.keys, values=b.values, position_start=CHUNK_TOKENS)
        for b in halves[:N_CHUNKS]
    ]
    large_block = mosaic(halves, LLAMA_8B, seed=0)
    large = KVBlock(large_block.keys, large_block.values, position_start=CHUNK_TOKENS)
    calibration = Calibration.load(options.calibration)
    name = Path(options.model).name
    parts = [
        f"`python -m benchmarks.kv_entropy`: Python {platform.python_version()}, one thread, "
        f"{options.clock} clock, medians of {options.runs}."
    ]
    for codec in ("cachegen-auto", "cachegen-2"):
        parts.append(
            table(
                f"Symbols of `{codec}`, real KV of the model `{name}`",
                streams_of(codec, calibration, own), options.runs, options.clock,
            )
        )  # fmt: skip
    wide = _wide(calibration, large)
    for codec in ("cachegen-auto", "cachegen-2"):
        parts.append(
            table(
                f"Symbols of `{codec}`, a mosaic of that KV in the shape of {LLAMA_8B.name}",
                streams_of(codec, wide, [large]), options.runs, options.clock,
            )
        )  # fmt: skip
    text = "\n\n".join(parts)
    print(text)
    if options.write:
        replace_section(options.write, "kv-entropy", "Entropy coding", text)


def _wide(calibration: Calibration, block: KVBlock) -> Calibration:
    """Steps for the large shape: the block's own channels, at the relative steps of the model's."""
    arrays: dict[str, np.ndarray] = {}
    stds, relative = [], []
    for kind, tensor in (("key", block.keys), ("value", block.values)):
        std = calibration.arrays[f"cachegen/{kind}_std"]
        cost = calibration.arrays[f"cachegen/{kind}_cost"]
        relative.append(float(np.median(std * np.sqrt(cost))))
        stds.append(tensor.float().std(2).numpy())
        arrays[f"cachegen/{kind}_mean"] = tensor.float().mean(2).numpy()
        arrays[f"cachegen/{kind}_std"] = stds[-1]
        arrays[f"cachegen/{kind}_cost"] = (relative[-1] / np.maximum(stds[-1], 1e-6)) ** 2
    arrays["cachegen/step"] = calibration.arrays["cachegen/step"]
    return Calibration(arrays, {})


if __name__ == "__main__":
    main()
