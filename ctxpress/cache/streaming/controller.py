"""Decides what to do next for one context: which chunk to load at which level, which to recompute.

The controller does nothing itself and has no clock: whoever drives it (``fetch.py``, a simulator)
asks what is next, says what happened, and gives the time, in milliseconds on one clock of his own.
It plans anew whenever it is asked.

Safe first, better later. Bandwidth may collapse at any moment, and a plan that spends all time on
quality is then too late. So a level above the fastest is only loaded while everything could be in
time over a link that is ``Caution.stress`` times slower; once all is in place or on its way, chunks
are loaded again at better levels until the deadline, which risks nothing. A transfer that falls
behind is given up while something else can still meet the deadline.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ctxpress.cache.streaming.link import LinkMeter
from ctxpress.cache.streaming.options import ChunkOptions, LevelOption, check_number
from ctxpress.cache.streaming.planner import cheapest_in_time, solve
from ctxpress.cache.streaming.progress import Flight, Progress, State
from ctxpress.cache.streaming.prudence import Caution, prudent_level
from ctxpress.cache.streaming.rates import DecodeMeter, PrefillMeter
from ctxpress.cache.streaming.report import TEXT_NAME, ChunkReport, StreamingReport
from ctxpress.cache.streaming.schedule import Problem

__all__ = ["Plan", "PlannedChunk", "StreamingController", "Transfer"]

REFINEMENT_DECODES = 1.5  # decoding times that must fit behind a second transfer: it can wait
CLEARLY = 0.05  # by how much of the time ahead another way must be quicker to be taken


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedChunk:
    """What is planned for a chunk: a level's name or ``text``."""

    chunk: int
    level: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is planned for all chunks that are not in place.

    ``finish_ms``: when the context will be in place, on the caller's clock. ``quality_loss``: the
    mean over all tokens of the context, those in place included. ``feasible``: whether it is
    expected to be in time; where none is, the plan is the quickest one.
    """

    chunks: tuple[PlannedChunk, ...]
    finish_ms: float
    quality_loss: float
    feasible: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """A chunk to load now, and the size that the store says it has."""

    chunk: int
    level: str
    size_bytes: int


class StreamingController:
    """One context on its way: see the module's description.

    ``chunks``: in order. ``slo_ms``: from ``now_ms`` to the first token. ``tail_ms``: what comes
    after the context is in place, such as the prefill of the question. ``context_tokens``: what
    stands before the first chunk. The meters are shared with other requests.

    :raises ValueError: a number is not finite, or negative where that makes no sense.
    """

    def __init__(
        self,
        chunks: Sequence[ChunkOptions],
        *,
        slo_ms: float,
        now_ms: float,
        link: LinkMeter,
        decode: DecodeMeter,
        prefill: PrefillMeter,
        tail_ms: float = 0.0,
        context_tokens: int = 0,
        caution: Caution | None = None,
    ) -> None:
        check_number("slo_ms", slo_ms)
        check_number("tail_ms", tail_ms)
        check_number("context_tokens", context_tokens)
        self._began_ms = _time(now_ms)
        self._progress = Progress(
            chunks,
            now_ms=now_ms,
            deadline_ms=now_ms + slo_ms - tail_ms,
            context_tokens=context_tokens,
            link=link,
            decode=decode,
            prefill=prefill,
            caution=caution or Caution(),
        )
        self._tokens = sum(chunk.n_tokens for chunk in chunks)
        self._was_measured = False
        self.report = StreamingReport(
            slo_ms=slo_ms - tail_ms,
            chunks=[ChunkReport(n_tokens=chunk.n_tokens) for chunk in chunks],
        )
        first = self.plan(now_ms)
        self.report.predicted_ms = first.finish_ms - now_ms
        self.report.predicted_loss = first.quality_loss
        for planned in first.chunks:
            self.report.chunks[planned.chunk].first_planned = planned.level

    @property
    def finished(self) -> bool:
        """Whether every chunk is in place, and none is about to become better."""
        progress = self._progress
        return progress.complete and progress.flight is None and not progress.queue

    # --- what was measured -------------------------------------------------------------------

    def observe_transfer(self, n_bytes: float, ms: float) -> None:
        """See :meth:`LinkMeter.observe`; transfers that the controller began are told it anyway."""
        self._progress.link.observe(n_bytes, ms)

    def observe_decode(self, level: str, n_tokens: int, ms: float) -> None:
        """See :meth:`DecodeMeter.observe`."""
        self._progress.decode.observe(level, n_tokens, ms)

    def observe_prefill(self, n_tokens: int, context_tokens: int, ms: float) -> None:
        """See :meth:`PrefillMeter.observe`."""
        self._progress.prefill.observe(n_tokens, context_tokens, ms)

    # --- what is next ------------------------------------------------------------------------

    def plan(self, now_ms: float) -> Plan:
        """What is best for all chunks that are not in place, as far as is known now."""
        progress = self._progress
        solution = solve(self._problem(now_ms))
        planned, loss = [], self.report.quality_loss * self._tokens + solution.loss
        for chunk, choice in enumerate(solution.choices, progress.first):
            option: LevelOption | None = None
            if progress.states[chunk] is State.IN_PLACE:
                continue
            if choice >= 0:
                option = progress.levels_of(chunk)[choice]
            elif progress.states[chunk] is State.DECODING:
                option = progress.queue[chunk][0]
                loss += option.quality_loss * progress.chunks[chunk].n_tokens
            elif progress.flight is not None and progress.flight.chunk == chunk:
                option = progress.flight.option
                loss += option.quality_loss * progress.chunks[chunk].n_tokens
            level = TEXT_NAME if option is None else option.level
            planned.append(PlannedChunk(chunk=chunk, level=level))
        return Plan(
            chunks=tuple(planned),
            finish_ms=solution.finish_ms,
            quality_loss=loss / self._tokens if self._tokens else 0.0,
            feasible=solution.feasible,
        )

    def begin_transfer(self, now_ms: float) -> Transfer | None:
        """The chunk that the link shall carry now, if any; the caller then loads it."""
        progress = self._progress
        if progress.flight is not None or len(progress.queue) >= progress.caution.backlog:
            return None
        problem = self._problem(now_ms)
        solution = solve(problem)
        index = next((i for i in problem.order if solution.choices[i] >= 0), None)
        if index is None:
            flight = self._refinement(now_ms, problem)
            if flight is None:
                return None
        else:
            chunk = progress.first + index
            level = prudent_level(problem, solution, index, progress.caution.stress)
            flight = Flight(chunk, progress.levels_of(chunk)[level], now_ms)
            progress.states[chunk] = State.TRANSFERRING
        progress.attempts[flight.chunk] += 1
        progress.flight = flight
        size_bytes = flight.option.size_bytes
        report = self.report.chunks[flight.chunk]
        report.predicted_transfer_ms = size_bytes and size_bytes * progress.pace()
        return Transfer(chunk=flight.chunk, level=flight.option.level, size_bytes=size_bytes)

    def begin_prefill(self, now_ms: float) -> int | None:
        """The chunk to recompute now, if any; all chunks before it are in place."""
        progress = self._progress
        if progress.prefilling is not None or progress.complete:
            return None
        chunk = progress.first
        if progress.states[chunk] is not State.PENDING:
            return None
        if progress.levels_of(chunk) and solve(self._problem(now_ms)).choices[0] >= 0:
            return None
        expected = progress.prefill_ms(chunk)
        self.report.chunks[chunk].predicted_prefill_ms = expected
        progress.states[chunk] = State.PREFILLING
        progress.prefilling = (chunk, now_ms + expected)
        return chunk

    def keep_transfer(self, now_ms: float, received_bytes: float) -> bool:
        """Whether the transfer under way is still worth its while; to be asked now and then.

        If not, it is as if it had never begun: the caller ends it and asks what is next.

        :raises ValueError: a number is not finite, or ``received_bytes`` negative.
        """
        flight = self._progress.flight
        if flight is None:
            return False
        flight.receive(_time(now_ms), check_number("received_bytes", received_bytes))
        if flight.refines:
            keep = self._refines_in_time(flight, now_ms)
        elif now_ms - flight.began_ms < self._progress.caution.settle_ms:
            keep = True
        elif self._is_straggler(flight, now_ms):
            self._progress.stragglers += 1
            keep = False
        else:
            keep = cheapest_in_time(self._problem(now_ms)).feasible or not self._text_is_better(
                flight, now_ms
            )
        if not keep:
            self._progress.land()
            self._drop(flight, now_ms)
            self._progress.put_off(flight, now_ms)
            self.report.chunks[flight.chunk].abandoned.append(flight.option.level)
            self._settle(now_ms)
        return keep

    # --- what happened -----------------------------------------------------------------------

    def end_transfer(self, now_ms: float) -> None:
        """The transfer under way is complete; its chunk goes to the decoder.

        :raises ValueError: none is under way.
        """
        flight = self._progress.land()
        took_ms = max(_time(now_ms) - flight.began_ms, 0.0)
        self._progress.link.observe(flight.option.size_bytes, took_ms)
        self._was_measured = True
        report = self.report.chunks[flight.chunk]
        report.transfer_ms = took_ms
        report.transferred_bytes += flight.option.size_bytes
        report.predicted_decode_ms = self._progress.decode_ms(flight.chunk, flight.option)
        self._progress.enqueue(flight, now_ms, took_ms)

    def fail_transfer(self, now_ms: float, reason: str, received_bytes: float = 0.0) -> None:
        """The transfer under way failed: its chunk is recomputed.

        :raises ValueError: none is under way.
        """
        flight = self._progress.land()
        flight.receive(_time(now_ms), check_number("received_bytes", received_bytes))
        self._drop(flight, now_ms)
        self._refuse(flight.chunk, flight.option, reason, now_ms)

    def end_decode(self, chunk: int, now_ms: float, ms: float) -> None:
        """``chunk`` is decoded and in place, after ``ms`` of work.

        :raises ValueError: it was not in the decoder's queue, or ``ms`` is not a finite time.
        """
        option = self._progress.dequeue(chunk, _time(now_ms))
        self._progress.decode.observe(option.level, self._progress.chunks[chunk].n_tokens, ms)
        report = self.report.chunks[chunk]
        report.decode_ms, report.done, report.quality_loss = ms, option.level, option.quality_loss
        self._progress.place(chunk)
        self._settle(now_ms)

    def fail_decode(self, chunk: int, now_ms: float, reason: str) -> None:
        """What came for ``chunk`` cannot be decoded: it is recomputed.

        :raises ValueError: it was not in the decoder's queue.
        """
        option = self._progress.dequeue(chunk, _time(now_ms))
        report = self.report.chunks[chunk]
        report.wasted_bytes += option.size_bytes
        report.transferred_bytes -= option.size_bytes
        self._refuse(chunk, option, reason, now_ms)

    def end_prefill(self, now_ms: float, ms: float) -> None:
        """The chunk that :meth:`begin_prefill` named is recomputed and in place, after ``ms``.

        :raises ValueError: none was being recomputed, or ``ms`` is not a finite time.
        """
        progress = self._progress
        if progress.prefilling is None:
            raise ValueError("no chunk is being recomputed")
        chunk, _ = progress.prefilling
        progress.prefill.observe(progress.chunks[chunk].n_tokens, progress.before[chunk], ms)
        progress.prefilling = None
        report = self.report.chunks[chunk]
        report.prefill_ms, report.done, report.quality_loss = ms, TEXT_NAME, 0.0
        progress.place(chunk)
        self._settle(now_ms)

    # --- how it is decided -------------------------------------------------------------------

    def _problem(self, now_ms: float, *, only_text: int | None = None) -> Problem:
        self.report.plans += 1
        return self._progress.problem(_time(now_ms), only_text=only_text)

    def _is_straggler(self, flight: Flight, now_ms: float) -> bool:
        """Whether this transfer alone is slow, and others wait for the link.

        What one chunk suffers, such as a busy node of the store, another need not. Several in a
        row mean that the link is slow, and then putting off helps nobody.
        """
        progress, caution = self._progress, self._progress.caution
        if progress.link_is_slow or progress.attempts[flight.chunk] >= caution.attempts:
            return False
        pace = progress.pace()
        usual = flight.option.size_bytes * pace
        if progress.flight_ms(flight, now_ms, pace) < caution.straggler * usual:
            return False
        return any(choice >= 0 for choice in solve(self._problem(now_ms)).choices)

    def _text_is_better(self, flight: Flight, now_ms: float) -> bool:
        """Whether recomputing this chunk, while the link goes on with others, saves the day."""
        ahead = solve(self._problem(now_ms))
        other = solve(self._problem(now_ms, only_text=flight.chunk))
        # A transfer that does not move at all never ends.
        clearly_sooner = other.finish_ms - now_ms < (1.0 - CLEARLY) * (ahead.finish_ms - now_ms)
        return other.feasible or clearly_sooner

    def _refinement(self, now_ms: float, problem: Problem) -> Flight | None:
        """The second transfer that avoids most loss per millisecond and is done in time.

        A chunk is left alone once a later one was recomputed: that one has read it.
        """
        progress = self._progress
        pace, best, most = progress.pace(), None, 0.0
        for chunk in range(len(progress.chunks) - 1, -1, -1):
            report, state = self.report.chunks[chunk], progress.states[chunk]
            if state is State.PREFILLING or report.done == TEXT_NAME:
                break
            if state is not State.IN_PLACE or chunk in progress.queue:
                continue
            for option in progress.levels_of(chunk):
                avoided = (report.quality_loss - option.quality_loss) * report.n_tokens
                flight = Flight(chunk, option, now_ms, refines=True)
                worth = avoided / max(option.size_bytes * pace, 1e-6)
                if worth > most and self._end_ms(flight, now_ms, problem) <= problem.deadline_ms:
                    best, most = flight, worth
        return best

    def _refines_in_time(self, flight: Flight, now_ms: float) -> bool:
        problem = self._problem(now_ms)
        if self._end_ms(flight, now_ms, problem) > problem.deadline_ms:
            return False
        # What is missing altogether goes first.
        return not any(choice >= 0 for choice in solve(problem).choices)

    def _end_ms(self, flight: Flight, now_ms: float, problem: Problem) -> float:
        arrived = now_ms + self._progress.flight_ms(flight, now_ms, self._progress.pace())
        decode_ms = self._progress.decode_ms(flight.chunk, flight.option)
        return max(arrived, problem.decoder_ms) + REFINEMENT_DECODES * decode_ms

    def _drop(self, flight: Flight, now_ms: float) -> None:
        took_ms = max(_time(now_ms) - flight.began_ms, 0.0)
        self._progress.link.observe(flight.received_bytes, took_ms)
        self._was_measured = True
        self.report.chunks[flight.chunk].wasted_bytes += int(flight.received_bytes)

    def _refuse(self, chunk: int, option: LevelOption, reason: str, now_ms: float) -> None:
        self._progress.refuse(chunk)
        self.report.chunks[chunk].failed.append(f"{option.level}: {reason}")
        self._settle(now_ms)

    def _settle(self, now_ms: float) -> None:
        if self.finished:
            self.report.actual_ms = now_ms - self._began_ms
            if not self._was_measured:
                self._progress.link.age()


def _time(now_ms: float) -> float:
    return check_number("now_ms", now_ms, least=-math.inf)
