"""The engine's loop: answers in the making share their decode steps, prompts run in pieces.

One thread owns the model. In each round it puts a bounded piece of one prompt in place and then
decodes one token of every answer that is under way, so that a long prompt holds nobody up for
longer than a piece takes. (transformers has continuous batching of its own; it keeps KV in pages
and gives out positions itself, so it can carry neither documents that share positions nor rows
whose attention is weighed; see docs/decisions.md.)
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from ctxpress.engine.arriving import KVLoadError
from ctxpress.engine.attention import Row
from ctxpress.engine.forward import run_rows
from ctxpress.engine.generation import (
    Finished,
    FinishReason,
    Generation,
    GenerationRequest,
    Piece,
)
from ctxpress.engine.loading import RotaryModel
from ctxpress.errors import ContextLengthError, EngineBusyError, EngineClosedError

__all__ = ["Scheduler", "SchedulerLimits", "SchedulerState"]

logger = logging.getLogger("ctxpress.engine")

_WAKE = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerLimits:
    """How much the engine takes on.

    ``max_rows``: answers under way at a time. ``max_waiting``: answers that wait for a place;
    beyond, they are refused. ``max_tokens``: tokens of KV, prompts and answers, under way at a
    time. ``piece_tokens``: tokens of a prompt in one pass.
    """

    max_rows: int = 16
    max_waiting: int = 64
    max_tokens: int = 131_072
    piece_tokens: int = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerState:
    """How busy the engine is, and what it has done.

    Answers under way and waiting, and tokens reserved by those under way. Of all answers that have
    ended: how many by reason, their prompts' tokens, those of them that were cached, and tokens
    generated.
    """

    n_running: int
    n_waiting: int
    reserved_tokens: int
    finished: Mapping[FinishReason, int]
    prompt_tokens: int
    cached_tokens: int
    generated_tokens: int


class Scheduler:
    """Owns the model and a thread. ``submit`` from anywhere; what happens is told by callback."""

    def __init__(self, model: RotaryModel, limits: SchedulerLimits | None = None) -> None:
        self._model = model
        self._limits = limits or SchedulerLimits()
        self._inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()  # None closes
        self._lock = threading.Lock()
        self._n_accepted = 0  # submitted and not finished
        self._finished: Counter[FinishReason] = Counter()
        self._tokens: Counter[str] = Counter()  # of answers that have ended, by kind
        self._closed = False
        self._waiting: deque[Generation] = deque()
        self._running: list[Generation] = []
        self._thread = threading.Thread(target=self._run, name="ctxpress-engine", daemon=True)
        self._thread.start()

    @property
    def state(self) -> SchedulerState:
        """A snapshot, for metrics."""
        running = [one for one in list(self._running) if not one.finished]
        with self._lock:
            accepted, finished, tokens = self._n_accepted, dict(self._finished), self._tokens.copy()
        return SchedulerState(
            n_running=len(running),
            n_waiting=max(0, accepted - len(running)),
            reserved_tokens=sum(one.reserved_tokens for one in running),
            finished=finished,
            prompt_tokens=tokens["prompt"],
            cached_tokens=tokens["cached"],
            generated_tokens=tokens["generated"],
        )

    def submit(
        self, request: GenerationRequest, tell: Callable[[Piece | Finished], None]
    ) -> Generation:
        """Begin an answer. ``tell`` is called in the engine's thread and must not block.

        The last thing told is a :class:`Finished`, once, whatever happens.

        :raises EngineBusyError: as many answers wait as may.
        :raises EngineClosedError: the engine is shutting down.
        :raises ContextLengthError: prompt and answer are more than the engine could ever hold.
        """
        generation = Generation(
            request, self._model.tokenizer, self._once_less(tell), on_cancel=self._wake
        )
        if generation.reserved_tokens > self._limits.max_tokens:
            raise ContextLengthError(
                f"prompt and answer may have {generation.reserved_tokens} tokens, "
                f"and this worker holds {self._limits.max_tokens}"
            )
        with self._lock:
            if self._closed:
                raise EngineClosedError("the worker is shutting down")
            if self._n_accepted >= self._limits.max_rows + self._limits.max_waiting:
                raise EngineBusyError(f"{self._limits.max_waiting} requests are waiting already")
            self._n_accepted += 1
        self._inbox.put(generation)
        return generation

    def close(self, *, drain_s: float = 0.0) -> None:
        """Take nothing new, wait ``drain_s`` for what runs, cancel the rest, end the thread."""
        with self._lock:
            self._closed = True
        self._inbox.put(None)
        self._thread.join(drain_s)
        if self._thread.is_alive():
            for generation in [*self._running, *self._waiting]:
                generation.cancel()
            self._thread.join()

    def _once_less(
        self, tell: Callable[[Piece | Finished], None]
    ) -> Callable[[Piece | Finished], None]:
        def told(event: Piece | Finished) -> None:
            if isinstance(event, Finished):
                with self._lock:
                    self._n_accepted -= 1
                    self._finished[event.reason] += 1
                    self._tokens["prompt"] += event.n_prompt_tokens
                    self._tokens["cached"] += event.n_cached_tokens
                    self._tokens["generated"] += event.n_generated_tokens
            tell(event)

        return told

    # All below runs in the engine's thread.

    def _run(self) -> None:
        try:
            self._rounds()
        except BaseException as error:  # a fault of the loop itself must not leave anyone waiting
            with self._lock:
                self._closed = True
            self._receive(block=False)
            for generation in [*self._running, *self._waiting]:
                generation.finish("error", error)
            raise

    def _rounds(self) -> None:
        closing = False
        while not (closing and not self._waiting and not self._running):
            closing |= self._receive(block=not self._has_work())
            self._drop_cancelled()
            self._admit()
            self._prepare_one()
            self._decode()
            self._running = [one for one in self._running if not one.finished]

    def _has_work(self) -> bool:
        """Whether a round would do anything."""
        if self._has_place():
            return True
        return any(
            one.can_advance or one.next_token is not None or one.cancelled or one.finished
            for one in self._running
        )

    def _wake(self, _: object = None) -> None:
        """From any thread: look again at what there is to do."""
        self._inbox.put(_WAKE)

    def _receive(self, *, block: bool) -> bool:
        """Move what was submitted to those waiting; whether the engine is closing."""
        closing = False
        while True:
            try:
                generation = self._inbox.get(block=block)
            except queue.Empty:
                return closing
            block = False
            if generation is None:
                closing = True
            elif generation is not _WAKE:
                self._waiting.append(generation)

    def _drop_cancelled(self) -> None:
        for generation in [*self._running, *self._waiting]:
            if generation.cancelled:
                generation.finish("cancelled")
        self._waiting = deque(one for one in self._waiting if not one.finished)
        self._running = [one for one in self._running if not one.finished]

    def _has_place(self) -> bool:
        """Whether the first in line may begin."""
        if not self._waiting or len(self._running) >= self._limits.max_rows:
            return False
        reserved = sum(one.reserved_tokens for one in self._running)
        return reserved + self._waiting[0].reserved_tokens <= self._limits.max_tokens

    def _admit(self) -> None:
        while self._has_place():
            generation = self._waiting.popleft()
            self._running.append(generation)
            self._guarded(generation, generation.begin)

    def _prepare_one(self) -> None:
        """One piece of the oldest prompt that is not in place yet."""
        for generation in self._running:
            if generation.can_advance:
                self._guarded(generation, partial(self._advance, generation))
                return

    def _advance(self, generation: Generation) -> None:
        try:
            self._advance_piece(generation)
        except KVLoadError as error:
            # Layers below the one that did not come have run already, so nothing of it is used.
            if not generation.begin_again():
                raise
            logger.warning("a prompt is prepared again: %s", error)

    def _advance_piece(self, generation: Generation) -> None:
        if generation.preparation is not None:
            try:
                generation.waits_for = next(generation.preparation)
                if generation.waits_for is not None:
                    generation.waits_for.add_done_callback(self._wake)
            except StopIteration as done:
                generation.preparation = None
                generation.prompt = done.value
                generation.position = done.value.position
                if not done.value.tokens:  # nothing was asked: the context was to be put in place
                    generation.finish("stop")
            return
        prompt = generation.prompt
        if prompt is None:
            raise RuntimeError("a prompt was prepared to nothing")
        if prompt.late is not None:
            late = prompt.late() if self._others_decode(generation) else None
            if late is not None:
                generation.waits_for = late
                late.add_done_callback(self._wake)
                return
            # Not kept: it holds what arrived.
            prompt = generation.prompt = replace(prompt, late=None)
        start = generation.n_run
        piece = prompt.tokens[start : start + self._limits.piece_tokens]
        n_before, begun_s = prompt.row.sequence.n_tokens, time.perf_counter()
        logits = self._forward([prompt.row], [piece], [generation.position])
        if prompt.measured is not None:
            prompt.measured(len(piece), n_before, (time.perf_counter() - begun_s) * 1000)
        generation.n_run += len(piece)
        generation.position += len(piece)
        if generation.n_run == len(prompt.tokens):
            if prompt.keep is not None:
                prompt.keep(prompt.row)
            generation.take(logits[0, -1])

    def _others_decode(self, generation: Generation) -> bool:
        """Whether answers would stand still while a pass of ``generation`` waits for a layer."""
        return any(
            one.next_token is not None and not one.finished
            for one in self._running
            if one is not generation
        )

    def _decode(self) -> None:
        ready = [one for one in self._running if one.next_token is not None and not one.finished]
        rows = [one.prompt.row for one in ready if one.prompt is not None]
        if not rows:
            return
        tokens = [[int(one.next_token or 0)] for one in ready]
        try:
            logits = self._forward(rows, tokens, [one.position for one in ready])
        except Exception as error:
            logger.exception("a decode step failed")
            for generation in ready:
                generation.finish("error", error)
            return
        for generation, row_logits in zip(ready, logits, strict=True):
            generation.position += 1
            self._guarded(generation, partial(generation.take, row_logits[-1]))

    def _forward(
        self, rows: Sequence[Row], tokens: Sequence[Sequence[int]], positions: Sequence[int]
    ) -> torch.Tensor:
        device = self._model.device
        ids = torch.tensor([list(row) for row in tokens], device=device)
        first = torch.tensor(list(positions), device=device)[:, None]
        places = first + torch.arange(ids.shape[1], device=device)
        return run_rows(self._model.model, rows, ids, places)

    def _guarded(self, generation: Generation, work: Callable[[], Any]) -> None:
        """Do ``work``; what it raises ends that one answer and no other."""
        try:
            work()
        except Exception as error:
            logger.warning("a request failed: %s: %s", type(error).__name__, error)
            generation.finish("error", error)
