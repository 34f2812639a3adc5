"""One simulated request: its chunks, its link, how long decoding and recomputing really take."""

from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ctxpress.cache.streaming import ChunkOptions, Transfer
from ctxpress.evaluation.streaming.traces import Trace

__all__ = ["Outcome", "Policy", "World", "run_policy"]

TICK_MS = 10.0  # how often a policy is asked whether a transfer is still worth its while


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Times in milliseconds from the request on. ``decode_ms`` by chunk and level."""

    chunks: tuple[ChunkOptions, ...]
    trace: Trace
    decode_ms: tuple[dict[str, float], ...]
    prefill_ms: tuple[float, ...]
    slo_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a policy made of a world. ``quality_loss`` is the mean over tokens."""

    ttft_ms: float
    quality_loss: float
    transferred_bytes: float
    text_share: float
    slo_ms: float

    @property
    def violated(self) -> bool:
        """Whether the context came too late."""
        return self.ttft_ms > self.slo_ms


class Policy(Protocol):
    """What decides; :class:`~ctxpress.cache.streaming.StreamingController` is one."""

    @property
    def finished(self) -> bool:
        """Whether there is nothing to wait for once all chunks are in place."""

    def begin_transfer(self, now_ms: float) -> Transfer | None:
        """What to load now."""

    def keep_transfer(self, now_ms: float, received_bytes: float) -> bool:
        """Whether to go on."""

    def end_transfer(self, now_ms: float) -> None:
        """It has arrived."""

    def end_decode(self, chunk: int, now_ms: float, ms: float) -> None:
        """It is decoded."""

    def begin_prefill(self, now_ms: float) -> int | None:
        """What to recompute now."""

    def end_prefill(self, now_ms: float, ms: float) -> None:
        """It is recomputed."""


def run_policy(world: World, policy: Policy) -> Outcome:
    """Let ``policy`` load the context of ``world``.

    :raises RuntimeError: it stops before every chunk is in place.
    """
    return _Run(world, policy).outcome()


class _Run:
    def __init__(self, world: World, policy: Policy) -> None:
        self.world, self.policy = world, policy
        self.events: list[tuple[float, int, str, int]] = []  # time, order, what, chunk or flight
        self.order = itertools.count()
        self.done: list[str | None] = [None] * len(world.chunks)  # level, or empty for text
        self.levels: dict[int, str] = {}
        self.flight: Transfer | None = None
        self.flights = 0
        self.flight_began = 0.0
        self.decoding: list[int] = []
        self.bytes = 0.0

    def at(self, time: float, what: str, which: int) -> None:
        heapq.heappush(self.events, (time, next(self.order), what, which))

    def outcome(self) -> Outcome:
        world, now = self.world, 0.0
        self.ask(now)
        while None in self.done or not self.policy.finished:
            if not self.events:
                raise RuntimeError(f"nothing is under way at {now} ms, and chunks are missing")
            now, _, what, which = heapq.heappop(self.events)
            getattr(self, what)(now, which)
            self.ask(now)
        tokens = [chunk.n_tokens for chunk in world.chunks]
        losses = [
            next((one.quality_loss for one in chunk.levels if one.level == level), 0.0)
            for chunk, level in zip(world.chunks, self.done, strict=True)
        ]
        total = sum(tokens) or 1
        text = sum(n for n, level in zip(tokens, self.done, strict=True) if not level)
        return Outcome(
            ttft_ms=now,
            quality_loss=float(np.dot(tokens, losses)) / total,
            transferred_bytes=self.bytes,
            text_share=text / total,
            slo_ms=world.slo_ms,
        )

    def ask(self, now: float) -> None:
        chunk = self.policy.begin_prefill(now)
        if chunk is not None:
            self.at(now + self.world.prefill_ms[chunk], "prefilled", chunk)
        if self.flight is None:
            self.flight = self.policy.begin_transfer(now)
            if self.flight is not None:
                self.flights += 1
                self.flight_began = now
                transfer = self.flight
                arrival = float(
                    self.world.trace.arrival_ms(transfer.chunk, np.array(now), transfer.size_bytes)
                )
                self.at(arrival, "arrived", self.flights)
                if arrival > now + TICK_MS:
                    self.at(now + TICK_MS, "ticked", self.flights)

    def ticked(self, now: float, number: int) -> None:
        if number != self.flights or self.flight is None:
            return
        moved = self.world.trace.moved_bytes(self.flight.chunk, self.flight_began, now)
        if self.policy.keep_transfer(now, moved):
            self.at(now + TICK_MS, "ticked", number)
        else:
            self.bytes += moved
            self.flight = None

    def arrived(self, now: float, number: int) -> None:
        if number != self.flights or self.flight is None:
            return
        chunk, self.flight = self.flight, None
        self.bytes += chunk.size_bytes
        self.levels[chunk.chunk] = chunk.level
        self.policy.end_transfer(now)
        self.decoding.append(chunk.chunk)
        if len(self.decoding) == 1:
            self.at(now + self.decode_ms(chunk.chunk), "decoded", chunk.chunk)

    def decoded(self, now: float, chunk: int) -> None:
        self.decoding.pop(0)
        self.done[chunk] = self.levels[chunk]
        self.policy.end_decode(chunk, now, self.decode_ms(chunk))
        if self.decoding:
            self.at(now + self.decode_ms(self.decoding[0]), "decoded", self.decoding[0])

    def prefilled(self, now: float, chunk: int) -> None:
        self.done[chunk] = ""
        self.policy.end_prefill(now, self.world.prefill_ms[chunk])

    def decode_ms(self, chunk: int) -> float:
        return self.world.decode_ms[chunk][self.levels[chunk]]
