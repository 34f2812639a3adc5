"""Where each chunk of a context is, and what follows from that for the planner."""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass

from ctxpress.cache.streaming.link import LinkMeter
from ctxpress.cache.streaming.options import ChunkOptions, LevelOption
from ctxpress.cache.streaming.prudence import Caution
from ctxpress.cache.streaming.rates import DecodeMeter, PrefillMeter
from ctxpress.cache.streaming.schedule import Problem

__all__ = ["Flight", "Progress", "State"]

LARGEST_PIECE = 0.25  # of a transfer: so much may be on its way before the first byte is seen


class State(enum.Enum):
    """Of a chunk. One that is loaded again at a better level stays in place meanwhile."""

    PENDING = enum.auto()
    TRANSFERRING = enum.auto()
    DECODING = enum.auto()  # arrived, in the decoder's queue
    PREFILLING = enum.auto()
    IN_PLACE = enum.auto()


@dataclass(slots=True)
class Flight:
    """The transfer under way; ``refines`` a chunk that is in place at a lower level."""

    chunk: int
    option: LevelOption
    began_ms: float
    refines: bool = False
    received_bytes: float = 0.0
    received_ms: float = 0.0  # when that was first seen
    piece_bytes: float = 0.0  # the largest step seen

    def receive(self, now_ms: float, total_bytes: float) -> None:
        """So many bytes of it have come."""
        step = total_bytes - self.received_bytes
        if step > 0.0:
            self.piece_bytes = max(self.piece_bytes, step)
            self.received_bytes, self.received_ms = total_bytes, now_ms

    def own_pace(self, now_ms: float) -> float:
        """Milliseconds per byte so far.

        Bytes come in pieces. Until the next one is overdue, the pace is that of the last one.
        """
        coming = self.piece_bytes or self.option.size_bytes * LARGEST_PIECE
        least = (now_ms - self.began_ms) / (self.received_bytes + coming) if coming else 0.0
        if self.received_bytes > 0.0:
            return max(least, (self.received_ms - self.began_ms) / self.received_bytes)
        return least


class Progress:
    """The state of one context. Times are milliseconds on the caller's clock."""

    def __init__(
        self,
        chunks: Sequence[ChunkOptions],
        *,
        now_ms: float,
        deadline_ms: float,
        context_tokens: int,
        link: LinkMeter,
        decode: DecodeMeter,
        prefill: PrefillMeter,
        caution: Caution,
    ) -> None:
        self.chunks = list(chunks)
        self.deadline_ms = deadline_ms
        self.caution = caution
        self.link, self.decode, self.prefill = link, decode, prefill
        self.states = [State.PENDING] * len(chunks)
        self.attempts = [0] * len(chunks)
        self.before: list[int] = []  # tokens in front of each chunk
        for chunk in chunks:
            self.before.append(context_tokens)
            context_tokens += chunk.n_tokens
        self.first = 0  # the first chunk that is not in place
        self.flight: Flight | None = None
        self.prefilling: tuple[int, float] | None = None  # chunk, expected end
        self.queue: dict[int, tuple[LevelOption, float]] = {}  # at the decoder; expected end
        self.stragglers = 0  # in a row
        self._decoder_ms = now_ms
        self._levels = [chunk.levels for chunk in chunks]
        self._paces: list[float | None] = [None] * len(chunks)  # of transfers given up
        self._last_pace = 0.0  # of the last one of these

    @property
    def complete(self) -> bool:
        """Whether every chunk is in place."""
        return self.first == len(self.chunks)

    @property
    def link_is_slow(self) -> bool:
        """Whether the last transfers were all stragglers."""
        return self.stragglers >= self.caution.stragglers

    def levels_of(self, chunk: int) -> tuple[LevelOption, ...]:
        """The levels that may still be loaded."""
        return self._levels[chunk] if self.attempts[chunk] < self.caution.attempts else ()

    def pace(self) -> float:
        """Milliseconds per byte to plan with; infinite where nothing moves."""
        pending = sum(state is State.PENDING for state in self.states[self.first :])
        rate = self.link.estimate().over(pending)
        pace = 1.0 / rate if rate > 0.0 else math.inf
        return max(pace, self._last_pace) if self.link_is_slow else pace

    def decode_ms(self, chunk: int, option: LevelOption) -> float:
        """How long decoding should take."""
        rate = self.decode.ms_per_token(option.level) * self.caution.decode
        return self.chunks[chunk].n_tokens * rate

    def prefill_ms(self, chunk: int) -> float:
        """How long recomputing should take."""
        model = self.prefill.model
        return self.caution.prefill * model.ms(self.chunks[chunk].n_tokens, self.before[chunk])

    def flight_ms(self, flight: Flight, now_ms: float, pace: float) -> float:
        """How long a transfer will still take: by its own speed, once that shows."""
        left = flight.option.size_bytes - flight.received_bytes
        if left <= 0.0:
            return 0.0
        if now_ms - flight.began_ms >= self.caution.settle_ms:
            pace = flight.own_pace(now_ms)
        return left * pace

    # --- what happens ------------------------------------------------------------------------

    def land(self) -> Flight:
        """The transfer under way, which is over.

        :raises ValueError: none is under way.
        """
        if self.flight is None:
            raise ValueError("no transfer is under way")
        flight, self.flight = self.flight, None
        return flight

    def put_off(self, flight: Flight, now_ms: float) -> None:
        """The transfer is given up for now; its own pace is remembered."""
        self._paces[flight.chunk] = self._last_pace = flight.own_pace(now_ms)
        self.reopen(flight.chunk)

    def refuse(self, chunk: int) -> None:
        """The chunk's KV is of no use: it can only be recomputed."""
        self._levels[chunk] = ()
        self.reopen(chunk)

    def reopen(self, chunk: int) -> None:
        """The chunk is to be decided again, unless it is in place already."""
        if self.states[chunk] is not State.IN_PLACE:
            self.states[chunk] = State.PENDING

    def enqueue(self, flight: Flight, now_ms: float, took_ms: float) -> None:
        """The chunk has arrived and waits for the decoder."""
        if self.link_is_slow and took_ms > flight.option.size_bytes * self._last_pace / 2:
            self._paces = [None] * len(self.chunks)  # it was the link, not those chunks
        self.stragglers = 0
        self._decoder_ms = max(self._decoder_ms, now_ms) + self.decode_ms(
            flight.chunk, flight.option
        )
        if not flight.refines:
            self.states[flight.chunk] = State.DECODING
        self.queue[flight.chunk] = (flight.option, self._decoder_ms)

    def dequeue(self, chunk: int, now_ms: float) -> LevelOption:
        """The decoder is done with the chunk.

        :raises ValueError: it was not in the decoder's queue.
        """
        if chunk not in self.queue:
            raise ValueError(f"chunk {chunk} is not in the decoder's queue")
        option, _ = self.queue.pop(chunk)
        self._decoder_ms = now_ms
        for later, (queued, _) in self.queue.items():
            self._decoder_ms += self.decode_ms(later, queued)
            self.queue[later] = (queued, self._decoder_ms)
        return option

    def place(self, chunk: int) -> None:
        """The chunk is in place."""
        self.states[chunk] = State.IN_PLACE
        while not self.complete and self.states[self.first] is State.IN_PLACE:
            self.first += 1

    # --- what follows ------------------------------------------------------------------------

    def problem(self, now_ms: float, *, only_text: int | None = None) -> Problem:
        """What is left to decide, from the first chunk on that is not in place.

        ``only_text``: a chunk to be taken as if its transfer were over and it had no KV.
        """
        pace = self.pace()
        chunks = range(self.first, len(self.chunks))
        link_ms, decoder_ms = now_ms, max(self._decoder_ms, now_ms)
        flight = self.flight
        if flight is not None and not flight.refines and flight.chunk != only_text:
            link_ms += self.flight_ms(flight, now_ms, pace)
            decoder_ms = max(decoder_ms, link_ms) + self.decode_ms(flight.chunk, flight.option)
        ready = [
            None if chunk == only_text else self._ready_ms(chunk, now_ms, decoder_ms)
            for chunk in chunks
        ]
        levels = [
            () if fixed is not None or chunk == only_text else self.levels_of(chunk)
            for chunk, fixed in zip(chunks, ready, strict=True)
        ]
        paces = [pace] * len(chunks)
        deferred = set()
        if not self.link_is_slow:
            for index, own in enumerate(self._paces[self.first :]):
                if own is not None:
                    paces[index] = max(pace, own)
                    deferred.add(index)
        rates = _Rates(self.decode, self.caution.decode)
        tokens = [self.chunks[chunk].n_tokens for chunk in chunks]
        return Problem(
            link_ms=link_ms,
            decoder_ms=decoder_ms,
            compute_ms=now_ms,
            deadline_ms=self.deadline_ms
            - self.caution.reserve * max(self.deadline_ms - now_ms, 0.0),
            prefills=[self.prefill_ms(chunk) for chunk in chunks],
            transfers=[
                [one.size_bytes and one.size_bytes * own for one in row]
                for row, own in zip(levels, paces, strict=True)
            ],
            decodes=[
                [n_tokens * rates[one.level] for one in row]
                for row, n_tokens in zip(levels, tokens, strict=True)
            ],
            losses=[
                [n_tokens * one.quality_loss for one in row]
                for row, n_tokens in zip(levels, tokens, strict=True)
            ],
            ready=ready,
            deferred=deferred,
        )

    def _ready_ms(self, chunk: int, now_ms: float, flight_ms: float) -> float | None:
        """When a chunk will be in place for which nothing is to be decided; else ``None``."""
        state = self.states[chunk]
        if state is State.PENDING:
            return None
        if state is State.DECODING:
            return max(self.queue[chunk][1], now_ms)
        if state is State.PREFILLING and self.prefilling is not None:
            return max(self.prefilling[1], now_ms)
        return flight_ms if state is State.TRANSFERRING else now_ms


class _Rates(dict[str, float]):
    """Decode rates by level, looked up once a plan."""

    def __init__(self, meter: DecodeMeter, factor: float) -> None:
        super().__init__()
        self._meter, self._factor = meter, factor

    def __missing__(self, level: str) -> float:
        self[level] = self._factor * self._meter.ms_per_token(level)
        return self[level]
