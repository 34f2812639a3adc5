"""The engine's loop: answers share steps, one's trouble is its own, nothing waits for ever."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator
from concurrent.futures import Future
from typing import Any

import pytest
import torch

from ctxpress.engine.attention import Row
from ctxpress.engine.generation import Finished, GenerationRequest, Piece, PreparedPrompt, Work
from ctxpress.engine.sampling import SamplingOptions
from ctxpress.engine.scheduler import Scheduler, SchedulerLimits
from ctxpress.engine.sequence import SequenceKV
from ctxpress.errors import ContextLengthError, EngineBusyError, EngineClosedError
from tests.engine.small_worker import byte_model

MODEL = byte_model()
GREEDY = SamplingOptions(temperature=0)
PATIENCE_S = 30


class Answer:
    """Collects what a generation tells."""

    def __init__(self) -> None:
        self._events: queue.Queue[Piece | Finished] = queue.Queue()
        self.tokens: list[int] = []
        self.ends: list[Finished] = []

    def tell(self, event: Piece | Finished) -> None:
        self._events.put(event)

    def wait_for_a_token(self) -> None:
        event = self._events.get(timeout=PATIENCE_S)
        assert isinstance(event, Piece)
        self.tokens.append(event.token.token_id)

    def end(self) -> Finished:
        while True:
            event = self._events.get(timeout=PATIENCE_S)
            if isinstance(event, Finished):
                assert self._events.empty()
                return event
            self.tokens.append(event.token.token_id)


def plain(tokens: list[int]) -> Work[PreparedPrompt]:
    yield None
    row = Row(SequenceKV(MODEL.n_layers))
    return PreparedPrompt(row=row, tokens=tuple(tokens), position=0, n_prompt_tokens=len(tokens))


def request(tokens: list[int], max_tokens: int = 6, **changes: Any) -> GenerationRequest:
    values: dict[str, Any] = {
        "prepare": lambda: plain(tokens),
        "n_prompt_tokens": len(tokens),
        "max_tokens": max_tokens,
        "sampling": GREEDY,
        **changes,
    }
    return GenerationRequest(**values)


def alone(tokens: list[int], max_tokens: int = 6) -> list[int]:
    """What greedy decoding gives, by whole passes."""
    found = list(tokens)
    with torch.inference_mode():
        for _ in range(max_tokens):
            found.append(int(MODEL.model(torch.tensor([found])).logits[0, -1].argmax()))
    return found[len(tokens) :]


@pytest.fixture
def scheduler() -> Generator[Scheduler]:
    made = Scheduler(MODEL, SchedulerLimits(max_rows=3, max_waiting=3, piece_tokens=5))
    yield made
    made.close()


PROMPTS = [[5, 6, 7], list(range(40, 53)), [9], [100, 101, 102, 103, 104, 105], [8, 8, 8]]


def test_answers_together_are_the_answers_alone(scheduler: Scheduler) -> None:
    answers = [Answer() for _ in PROMPTS]
    for prompt, answer in zip(PROMPTS, answers, strict=True):
        scheduler.submit(request(prompt), answer.tell)
    for prompt, answer in zip(PROMPTS, answers, strict=True):
        end = answer.end()
        assert (end.reason, end.n_generated_tokens) == ("length", 6)
        assert answer.tokens == alone(prompt)


def test_more_than_may_wait_are_refused_and_places_come_free_again(scheduler: Scheduler) -> None:
    gate: Future[None] = Future()

    def waits() -> Work[PreparedPrompt]:
        yield gate
        return (yield from plain([5]))

    answers = [Answer() for _ in range(6)]
    for answer in answers:
        scheduler.submit(request([5], 1, prepare=waits), answer.tell)
    with pytest.raises(EngineBusyError, match="3 requests are waiting"):
        scheduler.submit(request([5], 1), Answer().tell)
    gate.set_result(None)
    for answer in answers:
        assert answer.end().reason == "length"
    late = Answer()
    scheduler.submit(request([5], 1), late.tell)
    assert late.end().reason == "length"


def test_who_waits_for_a_load_holds_nobody_up(scheduler: Scheduler) -> None:
    gate: Future[None] = Future()

    def waits() -> Work[PreparedPrompt]:
        yield gate
        return (yield from plain([5]))

    slow, quick = Answer(), Answer()
    scheduler.submit(request([5], 1, prepare=waits), slow.tell)
    scheduler.submit(request([6, 7]), quick.tell)
    assert quick.end().reason == "length"
    gate.set_result(None)
    assert slow.end().reason == "length"


def test_an_answer_that_fails_ends_with_its_error_and_no_other_does(scheduler: Scheduler) -> None:
    def fails() -> Work[PreparedPrompt]:
        yield None
        raise ContextLengthError("too long")

    broken, fine = Answer(), Answer()
    scheduler.submit(request([5], prepare=fails), broken.tell)
    scheduler.submit(request([6, 7]), fine.tell)
    assert isinstance(broken.end().error, ContextLengthError)
    assert fine.end().reason == "length"


@pytest.mark.parametrize("when", ["in line", "waiting for a load", "in prefill", "in decode"])
def test_a_cancelled_answer_ends_wherever_it_stands(scheduler: Scheduler, when: str) -> None:
    gate: Future[None] = Future()

    def waits() -> Work[PreparedPrompt]:
        yield gate
        return (yield from plain([5]))

    def endless() -> Work[PreparedPrompt]:
        while True:
            yield None

    answer = Answer()
    blockers = []
    if when == "in line":
        for _ in range(3):
            blocker = Answer()
            scheduler.submit(request([5], 1, prepare=waits), blocker.tell)
            blockers.append(blocker)
    prepare = {"in line": lambda: plain([5]), "waiting for a load": waits, "in prefill": endless}
    changes = {"prepare": prepare[when]} if when in prepare else {}
    generation = scheduler.submit(request([5, 6], 1900, **changes), answer.tell)
    if when == "in decode":
        answer.wait_for_a_token()
    generation.cancel()
    assert answer.end().reason == "cancelled"
    gate.set_result(None)
    for blocker in blockers:
        assert blocker.end().reason == "length"
    assert scheduler.state.reserved_tokens == 0


def test_end_tokens_and_stop_strings_end_an_answer(scheduler: Scheduler) -> None:
    expected = alone([5, 6, 7], 6)
    answer = Answer()
    scheduler.submit(request([5, 6, 7], end_tokens=frozenset({expected[2]})), answer.tell)
    assert answer.end().reason == "stop"
    assert answer.tokens == expected[: expected.index(expected[2])]


def test_what_could_never_fit_is_refused_at_once() -> None:
    scheduler = Scheduler(MODEL, SchedulerLimits(max_tokens=20))
    try:
        with pytest.raises(ContextLengthError, match="30 tokens, and this worker holds 20"):
            scheduler.submit(request([5] * 10, 20), Answer().tell)
    finally:
        scheduler.close()


def test_rows_wait_until_their_tokens_fit() -> None:
    scheduler = Scheduler(MODEL, SchedulerLimits(max_rows=8, max_tokens=20))
    try:
        answers = [Answer() for _ in range(4)]
        for answer in answers:
            scheduler.submit(request([5, 6, 7], 6), answer.tell)  # 9 tokens each: two at a time
        assert [answer.end().reason for answer in answers] == ["length"] * 4
    finally:
        scheduler.close()


def test_a_closing_engine_finishes_what_runs_and_takes_nothing_new() -> None:
    scheduler = Scheduler(MODEL)
    answer = Answer()
    scheduler.submit(request([5, 6, 7]), answer.tell)
    scheduler.close(drain_s=PATIENCE_S)
    assert answer.end().reason == "length"
    with pytest.raises(EngineClosedError):
        scheduler.submit(request([5]), Answer().tell)


def test_a_closing_engine_cancels_what_does_not_end_in_time() -> None:
    def endless() -> Work[PreparedPrompt]:
        while True:
            yield None

    scheduler = Scheduler(MODEL)
    answer = Answer()
    scheduler.submit(request([5], prepare=endless), answer.tell)
    scheduler.close(drain_s=0.05)
    assert answer.end().reason == "cancelled"
    assert not any(thread.name == "ctxpress-engine" for thread in threading.enumerate())
