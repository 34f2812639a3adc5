"""A cachegen section: one layer's keys and values as named, counted streams.

::

    u8     1 where tokens are copies of others, else 0
    then three streams: (1, tokens behind the sinks) of 2 levels, 1 where a token is a copy, and
    for each copy the low and the high byte of its original's place among tokens that are none
    keys, then values, each:
      i16  rung of the channels' least scale
      u8   rungs from there to the greatest scale
      u8   flags: 1 channels' scales and means follow, 2 rows of deltas follow
      where flag 1 is set: stream (1, n_kv_heads * head_dim) of rungs above the least,
                           stream of the same shape of means plus 127, 255 levels
      where flag 2 is set: stream of the same shape, 2 levels: rows that hold deltas
      sinks, where the header has any, then all other tokens that are no copies, each:
        i16  rung of the tokens' least scale
        u8   rungs from there to the greatest scale
        u8   outermost symbol, 1 to 127
        stream (n_kv_heads, tokens) of rungs above the least
        stream (n_kv_heads * head_dim, tokens) of symbols, twice the outermost plus 1 levels

A stream is a u32 of its bytes, then as ``entropy`` describes. All integers are little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ctxpress.cache.codecs.cachegen_parsing import (
    COPIES,
    FIELDS,
    HAS_CHANNELS,
    HAS_DELTAS,
    PROBLEMS,
    RUNS,
    TENSORS,
    parse_section,
)
from ctxpress.cache.codecs.cachegen_quantiser import MOST_MEAN, ChannelScales, QuantisedTokens
from ctxpress.cache.codecs.entropy import decode_symbols, encode_symbols, is_zstd
from ctxpress.errors import CorruptContainerError

__all__ = [
    "SectionStreams",
    "SectionWriter",
    "TensorStreams",
    "TokenStreams",
    "bytes_of",
    "find_fields",
    "read_channels",
    "read_token_rungs",
    "streams_of",
    "without_zstd",
]

_TENSOR = struct.Struct("<hBB")
_TOKENS = struct.Struct("<hBB")
_LENGTH = struct.Struct("<I")
_NOTHING = np.empty(0, np.uint8)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenStreams:
    """Where the streams of a run of tokens lie."""

    least_rung: int
    rungs: int
    most: int
    scales: memoryview
    symbols: memoryview


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorStreams:
    """Keys' or values' streams of a section; ``runs`` are those of sinks, if any, and the rest."""

    least_rung: int
    rungs: int
    scales: memoryview | None
    means: memoryview | None
    deltas: memoryview | None
    runs: tuple[TokenStreams, ...]

    def sizes(self, suffix: str) -> dict[str, int]:
        """What the bytes are for; they sum up to all but the framing."""
        found = {
            f"scales_{suffix}": sum(len(run.scales) for run in self.runs),
            f"symbols_{suffix}": len(self.runs[-1].symbols),
        }
        if self.scales is not None and self.means is not None:
            found[f"scales_channels_{suffix}"] = len(self.scales) + len(self.means)
        if self.deltas is not None:
            found[f"symbols_deltas_{suffix}"] = len(self.deltas)
        if len(self.runs) > 1:
            found[f"symbols_sinks_{suffix}"] = len(self.runs[0].symbols)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class SectionStreams:
    """A whole section; ``copies`` are three streams, or none."""

    copies: tuple[memoryview, ...]
    keys: TensorStreams
    values: TensorStreams


@dataclass(slots=True)
class SectionWriter:
    """Collects the parts of a section in order."""

    parts: list[bytes] = field(default_factory=list)

    def copies(self, streams: Sequence[bytes]) -> None:
        """The streams that tell copied tokens; none where there are no copies."""
        self.parts.append(bytes([1 if streams else 0]))
        for data in streams:
            self.parts += (_LENGTH.pack(len(data)), data)

    def tensor(self, channels: ChannelScales, deltas: np.ndarray | None) -> None:
        """The channels' scales and means, where the section names them, and the rows of deltas."""
        flags = HAS_DELTAS if deltas is not None else 0
        if channels.rungs is None or channels.mean_symbols is None:
            self.parts.append(_TENSOR.pack(0, 0, flags))
        else:
            least, rungs = int(channels.rungs.min()), int(np.ptp(channels.rungs))
            self.parts.append(_TENSOR.pack(least, rungs, flags | HAS_CHANNELS))
            self._stream((channels.rungs - least).reshape(1, -1), rungs + 1)
            means = channels.mean_symbols + MOST_MEAN
            self._stream(means.reshape(1, -1), 2 * MOST_MEAN + 1)
        if deltas is not None:
            self._stream(deltas.reshape(1, -1), 2)

    def tokens(self, tokens: QuantisedTokens, encoded_symbols: bytes) -> None:
        """A run of tokens: its scales, and its symbols, which are encoded already."""
        rungs = tokens.token_rungs
        least, span = (int(rungs.min()), int(np.ptp(rungs))) if rungs.size else (0, 0)
        self.parts.append(_TOKENS.pack(least, span, tokens.most))
        self._stream(rungs - least, span + 1)
        self.parts += (_LENGTH.pack(len(encoded_symbols)), encoded_symbols)

    def _stream(self, symbols: np.ndarray, n_levels: int) -> None:
        data = encode_symbols(symbols.astype(np.uint8), n_levels)
        self.parts += (_LENGTH.pack(len(data)), data)


def find_fields(data: memoryview, index: int, n_runs: int) -> np.ndarray:
    """Where streams lie in section ``index``, as ``cachegen_parsing`` says; int64.

    ``n_runs``: of tokens in each tensor.

    :raises CorruptContainerError: a number is out of range, a stream is not whole, or something
        stands behind the last one.
    """
    fields = np.empty(TENSORS + 2 * FIELDS, np.int64)
    problem = parse_section(bytes_of(data), n_runs > 1, fields)
    if problem:
        what = PROBLEMS[problem].format(*fields[:3].tolist())
        raise CorruptContainerError(f"section {index} has {what}")
    return fields


def bytes_of(data: memoryview) -> np.ndarray:
    """``data`` as an array that cannot be written to: one kind of arrays to compile for."""
    found = np.frombuffer(data, np.uint8)
    found.flags.writeable = False
    return found


def streams_of(data: memoryview, found: np.ndarray, n_runs: int) -> SectionStreams:
    """The streams of a section at the places that :func:`find_fields` found."""
    fields = found.tolist()

    def part(at: int) -> memoryview:
        return data[fields[at] : fields[at + 1]]

    def tensor(base: int) -> TensorStreams:
        flags = fields[base + 2]
        return TensorStreams(
            least_rung=fields[base],
            rungs=fields[base + 1],
            scales=part(base + 3) if flags & HAS_CHANNELS else None,
            means=part(base + 5) if flags & HAS_CHANNELS else None,
            deltas=part(base + 7) if flags & HAS_DELTAS else None,
            runs=tuple(run(base + RUNS + 7 * number) for number in range(2 - n_runs, 2)),
        )

    def run(base: int) -> TokenStreams:
        least, rungs, most = fields[base : base + 3]
        return TokenStreams(
            least_rung=least, rungs=rungs, most=most, scales=part(base + 3), symbols=part(base + 5)
        )

    return SectionStreams(
        copies=tuple(part(COPIES + 1 + 2 * stream) for stream in range(3 * fields[COPIES])),
        keys=tensor(TENSORS),
        values=tensor(TENSORS + FIELDS),
    )


def without_zstd(
    data: memoryview, fields: np.ndarray, shape: Sequence[int], n_sinks: int
) -> tuple[np.ndarray, np.ndarray]:
    """Decode symbols that are coded by zstd, which no compiled loop can.

    ``shape``: ``(n_kv_heads, n_tokens, head_dim)``. Returns fields and plain symbols as
    ``cachegen_decoding`` takes them. Where there are copies, only those of sinks are decoded.

    :raises CorruptContainerError: as :func:`decode_symbols`.
    """
    parts, size = [], 0
    for base in (TENSORS + RUNS, TENSORS + FIELDS + RUNS):
        for run, n_tokens in enumerate((n_sinks, shape[1] - n_sinks)):
            begin, end = (int(at) for at in fields[base + 7 * run + 5 : base + 7 * run + 7])
            if begin == end or not is_zstd(data[begin]) or (run and fields[COPIES]):
                continue
            rows = (shape[0] * shape[2], n_tokens)
            levels = 2 * int(fields[base + 7 * run + 2]) + 1
            parts.append(decode_symbols(data[begin:end], rows, levels).reshape(-1))
            fields = fields.copy()
            fields[base + 7 * run + 5] = -1 - size
            size += parts[-1].size
    return fields, np.concatenate(parts) if parts else _NOTHING


def read_channels(streams: TensorStreams, shape: tuple[int, int]) -> ChannelScales | None:
    """The channels' scales and means; None where the section does not name them.

    :raises CorruptContainerError: a stream is not one of that shape.
    """
    if streams.scales is None or streams.means is None:
        return None
    row = (1, shape[0] * shape[1])
    rungs = decode_symbols(streams.scales, row, streams.rungs + 1).astype(np.int64)
    means = decode_symbols(streams.means, row, 2 * MOST_MEAN + 1).astype(np.int64)
    return ChannelScales.of_section(
        (rungs + streams.least_rung).reshape(shape), (means - MOST_MEAN).reshape(shape)
    )


def read_token_rungs(run: TokenStreams, shape: tuple[int, int]) -> np.ndarray:
    """The rungs of tokens' scales, int64 ``(n_kv_heads, n_tokens)``.

    :raises CorruptContainerError: the stream is not one of that shape.
    """
    rungs = decode_symbols(run.scales, shape, run.rungs + 1).astype(np.int64) + run.least_rung
    return rungs
