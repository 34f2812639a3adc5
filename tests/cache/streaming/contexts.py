"""Contexts, sources and machines for the controller and its driver."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

import numpy as np

from ctxpress.cache.streaming import (
    Caution,
    ChunkOptions,
    DecodeMeter,
    LevelOption,
    LinkMeter,
    PrefillMeter,
    PrefillModel,
    StreamingController,
)
from ctxpress.errors import CodecError, StoreError
from ctxpress.evaluation.streaming.traces import TimeTrace, Trace
from tests.cache.streaming.virtual_time import clock_ms

PREFILL = PrefillModel(fixed_ms=0.0, ms_per_token=0.5, ms_per_token_pair=0.0)
DECODE_MS_PER_TOKEN = 0.02
LEVELS = (("small", 100_000, 0.02), ("medium", 130_000, 0.006), ("large", 180_000, 0.001))


def chunk(*levels: str, n_tokens: int = 100) -> ChunkOptions:
    """Fifty milliseconds to recompute; 100, 130 and 180 kB, or the levels named."""
    wanted = levels or tuple(name for name, _, _ in LEVELS)
    return ChunkOptions(
        n_tokens=n_tokens,
        levels=tuple(
            LevelOption(level=name, size_bytes=size, quality_loss=loss)
            for name, size, loss in LEVELS
            if name in wanted
        ),
    )


def controller(
    chunks: Sequence[ChunkOptions],
    *,
    slo_ms: float,
    prior_bytes_per_ms: float = 10_000.0,
    now_ms: float = 0.0,
    link: LinkMeter | None = None,
    **caution: Any,
) -> StreamingController:
    """Without margins unless ``caution`` sets some, so that a test can compute what it expects."""
    options: dict[str, Any] = {"stress": 1.0, "reserve": 0.0, "prefill": 1.0, "decode": 1.0}
    return StreamingController(
        chunks,
        slo_ms=slo_ms,
        now_ms=now_ms,
        link=link or LinkMeter(prior_bytes_per_ms=prior_bytes_per_ms),
        decode=DecodeMeter(default_ms_per_token=DECODE_MS_PER_TOKEN),
        prefill=PrefillMeter(PREFILL),
        caution=Caution(**{**options, **caution}),
    )


def content(index: int, level: str) -> bytes:
    """The bytes of a chunk, of the size that its level promises."""
    size = next(size for name, size, _ in LEVELS if name == level)
    return bytes([index]) * size


class Source:
    """A store behind a link that follows a trace; some chunks fail in the way that is named.

    ``faults``: by chunk, ``missing``, ``short``, ``long``, ``broken`` (an error in the middle) or
    ``stuck`` (no byte ever).
    """

    def __init__(self, trace: Trace, faults: Mapping[int, str] | None = None) -> None:
        self.trace, self.faults = trace, faults or {}
        self.opened: list[tuple[int, str]] = []
        self.closed = 0

    async def open(self, index: int, level: str) -> AsyncGenerator[bytes, None]:
        """Pieces of a kilobyte, each when the link has carried it."""
        self.opened.append((index, level))
        fault, data = self.faults.get(index, ""), content(index, level)
        try:
            if fault == "missing":
                raise StoreError("it is gone")
            if fault == "stuck":
                await asyncio.sleep(3600)
            data = {"short": data[:-1], "long": data + b"!"}.get(fault, data)
            for start in range(0, len(data), 1000):
                piece = data[start : start + 1000]
                now = clock_ms()
                arrival = float(self.trace.arrival_ms(index, np.array(now), len(piece)))
                await asyncio.sleep((arrival - now) / 1000)
                if fault == "broken" and start > len(data) / 2:
                    raise ConnectionResetError("the line is cut")
                yield piece
        finally:
            self.closed += 1


class Machine:
    """A decoder and a model; keeps what is in place and checks the order of recomputing.

    ``damaged`` chunks fail to decode.
    """

    def __init__(self, n_chunks: int, damaged: Sequence[int] = ()) -> None:
        self.in_place: list[str | None] = [None] * n_chunks
        self.damaged = damaged
        self.decoding = self.recomputing = 0

    async def decode(self, index: int, level: str, data: bytes) -> None:
        """Two milliseconds a chunk."""
        self.decoding += 1
        assert self.decoding == 1
        await asyncio.sleep(100 * DECODE_MS_PER_TOKEN / 1000)
        self.decoding -= 1
        if index in self.damaged:
            raise CodecError("the checksum is wrong")
        assert data == content(index, level)
        self.in_place[index] = level

    async def prefill(self, index: int) -> None:
        """Fifty milliseconds a chunk."""
        self.recomputing += 1
        assert self.recomputing == 1
        assert None not in self.in_place[:index]
        await asyncio.sleep(PREFILL.ms(100, 0) / 1000)
        self.recomputing -= 1
        self.in_place[index] = "text"


def steady(bytes_per_ms: float) -> TimeTrace:
    """A link that never changes."""
    return TimeTrace([(1000.0, bytes_per_ms)])
