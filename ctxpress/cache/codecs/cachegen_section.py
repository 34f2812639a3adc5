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

from ctxpress.cache.codecs.cachegen_quantiser import (
    LEAST_PRODUCT,
    MOST_MEAN,
    MOST_PRODUCT,
    ChannelScales,
    QuantisedTokens,
)
from ctxpress.cache.codecs.cachegen_scales import LEAST_RUNG, MOST_RUNG
from ctxpress.cache.codecs.entropy import decode_symbols, encode_symbols
from ctxpress.errors import CorruptContainerError

__all__ = [
    "SectionReader",
    "SectionStreams",
    "SectionWriter",
    "TensorStreams",
    "TokenStreams",
    "read_channels",
    "read_token_rungs",
]

_TENSOR = struct.Struct("<hBB")
_TOKENS = struct.Struct("<hBB")
_LENGTH = struct.Struct("<I")
_FLAG = struct.Struct("<B")
_HAS_CHANNELS, _HAS_DELTAS = 1, 2


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
        flags = _HAS_DELTAS if deltas is not None else 0
        if channels.rungs is None or channels.mean_symbols is None:
            self.parts.append(_TENSOR.pack(0, 0, flags))
        else:
            least, rungs = int(channels.rungs.min()), int(np.ptp(channels.rungs))
            self.parts.append(_TENSOR.pack(least, rungs, flags | _HAS_CHANNELS))
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


@dataclass(slots=True)
class SectionReader:
    """Takes a section apart; every number is checked before it is used."""

    data: memoryview
    index: int
    place: int = 0

    def all(self, n_runs: int) -> SectionStreams:
        """The section's streams; ``n_runs`` of tokens in each tensor.

        :raises CorruptContainerError: a number is out of range, a stream is not whole, or
            something stands behind the last one.
        """
        (flag,) = self._unpack(_FLAG)
        if flag > 1:
            self._fail(f"flag {flag} for copies")
        copies = tuple(self._stream() for _ in range(3 * flag))
        keys, values = self._tensor(n_runs), self._tensor(n_runs)
        if self.place != len(self.data):
            self._fail(f"{len(self.data) - self.place} bytes behind the last stream")
        return SectionStreams(copies=copies, keys=keys, values=values)

    def _tensor(self, n_runs: int) -> TensorStreams:
        least, rungs, flags = self._unpack(_TENSOR)
        if flags & ~(_HAS_CHANNELS | _HAS_DELTAS):
            self._fail(f"flags {flags:#04x}")
        scales = self._stream() if flags & _HAS_CHANNELS else None
        means = self._stream() if flags & _HAS_CHANNELS else None
        deltas = self._stream() if flags & _HAS_DELTAS else None
        if not LEAST_RUNG <= least <= least + rungs <= MOST_RUNG:
            self._fail(f"channel scales from rung {least} to {least + rungs}")
        runs = tuple(self._tokens(least, least + rungs) for _ in range(n_runs))
        return TensorStreams(
            least_rung=least, rungs=rungs, scales=scales, means=means, deltas=deltas, runs=runs
        )

    def _tokens(self, least_channel: int, most_channel: int) -> TokenStreams:
        least, rungs, most = self._unpack(_TOKENS)
        greatest = least + rungs
        if not LEAST_RUNG <= least <= greatest <= MOST_RUNG or not 1 <= most <= 127:
            self._fail(f"token scales from rung {least} to {greatest}, symbols to {most}")
        if least + least_channel < LEAST_PRODUCT or greatest + most_channel > MOST_PRODUCT:
            self._fail("scales whose product is no normal number")
        return TokenStreams(
            least_rung=least,
            rungs=rungs,
            most=most,
            scales=self._stream(),
            symbols=self._stream(),
        )

    def _unpack(self, fields: struct.Struct) -> tuple[int, ...]:
        end = self.place + fields.size
        if end > len(self.data):
            self._fail("an end within its numbers")
        found = fields.unpack(self.data[self.place : end])
        self.place = end
        return found

    def _stream(self) -> memoryview:
        (size,) = self._unpack(_LENGTH)
        if size > len(self.data) - self.place:
            self._fail("a stream that is not whole")
        stream = self.data[self.place : self.place + size]
        self.place += size
        return stream

    def _fail(self, problem: str) -> None:
        raise CorruptContainerError(f"section {self.index} has {problem}")


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
