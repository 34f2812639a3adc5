"""Plans beside a search through all plans: in time whenever one is, and of the least loss."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings

from ctxpress.cache.streaming.planner import cheapest_in_time, solve
from ctxpress.cache.streaming.schedule import FIXED, TEXT, Problem, finish_ms
from tests.cache.streaming.problems import (
    all_plans,
    link_bound_problems,
    problems,
    reference_finish,
)

EPSILON = 1e-6


def faster(problem: Problem, factor: float) -> Problem:
    transfers = [[ms / factor for ms in row] for row in problem.transfers]
    return replace(problem, transfers=transfers)


def alike(n_chunks: int, *, deadline_ms: float, transfer_ms: float = 10.0) -> Problem:
    """Chunks with three levels; recomputing takes five times as long as the smallest one."""
    return Problem(
        link_ms=0.0,
        decoder_ms=0.0,
        compute_ms=0.0,
        deadline_ms=deadline_ms,
        prefills=[50.0] * n_chunks,
        transfers=[[transfer_ms * size for size in (1.0, 1.3, 1.8)]] * n_chunks,
        decodes=[[2.0, 2.0, 2.0]] * n_chunks,
        losses=[[0.02, 0.006, 0.001]] * n_chunks,
        ready=[None] * n_chunks,
    )


@settings(max_examples=150, deadline=None)
@given(problems())
def test_few_chunks_get_the_best_plan_there_is(problem: Problem) -> None:
    found = solve(problem)
    plans = all_plans(problem)
    if any(not late for late, _, _ in plans):
        assert found.feasible
        assert found.loss <= min(loss for late, loss, _ in plans if not late) + EPSILON
    else:
        assert not found.feasible
        assert found.finish_ms <= min(finish for _, _, finish in plans) + EPSILON


@settings(max_examples=150, deadline=None)
@given(problems(max_chunks=6))
def test_a_plan_takes_as_long_as_it_says(problem: Problem) -> None:
    for found in (solve(problem), solve(problem, max_exhaustive=0), cheapest_in_time(problem)):
        assert found.finish_ms == pytest.approx(reference_finish(problem, found.choices))
        assert found.feasible == (found.finish_ms <= problem.deadline_ms)
        for choice, ready in zip(found.choices, problem.ready, strict=True):
            assert (choice == FIXED) == (ready is not None)


@settings(max_examples=150, deadline=None)
@given(link_bound_problems())
def test_many_chunks_are_in_time_when_they_can_be_and_lose_one_upgrade_at_most(
    problem: Problem,
) -> None:
    found = solve(problem, max_exhaustive=0)
    plans = all_plans(problem)
    in_time = [loss for late, loss, _ in plans if not late]
    assert found.feasible == bool(in_time)
    if in_time:
        assert found.loss <= min(in_time) + 0.6 + EPSILON  # 1.0 to 0.4 is the largest upgrade


@settings(max_examples=100, deadline=None)
@given(problems())
def test_a_faster_link_is_never_worse(problem: Problem) -> None:
    slow, fast = solve(problem), solve(faster(problem, 1.7))
    assert fast.feasible >= slow.feasible
    if slow.feasible:
        assert fast.loss <= slow.loss + EPSILON
    else:
        assert fast.feasible or fast.finish_ms <= slow.finish_ms + EPSILON


@pytest.mark.parametrize("n_chunks", [12, 64])
def test_loss_falls_as_bandwidth_or_time_grows(n_chunks: int) -> None:
    by_bandwidth = [
        solve(faster(alike(n_chunks, deadline_ms=n_chunks * 6.0), factor / 4))
        for factor in range(4, 20)
    ]
    by_time = [solve(alike(n_chunks, deadline_ms=n_chunks * ms)) for ms in range(6, 60, 4)]
    for found in (by_bandwidth, by_time):
        feasible = [one for one in found if one.feasible]
        losses = [one.loss for one in feasible]
        assert len(feasible) > 5
        assert losses[0] > 2 * losses[-1]
        for before, after in zip(losses, losses[1:], strict=False):
            assert after <= before + 0.014  # one upgrade


def test_a_link_that_moves_nothing_leaves_text_alone() -> None:
    problem = alike(8, deadline_ms=1.0, transfer_ms=math.inf)
    found = solve(problem)
    assert set(found.choices) == {TEXT}
    assert not found.feasible
    assert found.finish_ms == 400.0


def test_nothing_is_loaded_when_recomputing_is_in_time() -> None:
    found = solve(alike(8, deadline_ms=401.0))
    assert set(found.choices) == {TEXT}
    assert found.loss == 0.0


def test_text_and_kv_share_the_work_while_both_machines_have_time() -> None:
    found = solve(alike(8, deadline_ms=110.0))
    assert found.feasible
    assert found.choices[:2] == (TEXT, TEXT)  # two fit, and need no link
    assert all(choice >= 0 for choice in found.choices[2:])
    assert found.loss < 6 * 0.02


def test_lossless_kv_that_comes_sooner_beats_recomputing() -> None:
    problem = replace(
        alike(8, deadline_ms=500.0),
        transfers=[[10.0, 12.0]] * 8,
        decodes=[[1.0, 1.0]] * 8,
        losses=[[0.02, 0.0]] * 8,
    )
    found = solve(problem)
    assert found.loss == 0.0
    assert found.finish_ms < 8 * 12.0 + 1.0
    assert 1 in found.choices


def test_kv_in_front_of_a_chunk_without_any_comes_first() -> None:
    problem = alike(6, deadline_ms=130.0)
    problem = replace(
        problem,
        transfers=[row if index != 3 else [] for index, row in enumerate(problem.transfers)],
        decodes=[row if index != 3 else [] for index, row in enumerate(problem.decodes)],
        losses=[row if index != 3 else [] for index, row in enumerate(problem.losses)],
    )
    assert problem.order == [2, 1, 0, 5, 4]
    found = solve(problem)
    assert found.choices[3] == TEXT
    assert found.feasible


@pytest.mark.parametrize("deadline_ms", [0.0, -100.0])
def test_where_time_is_gone_the_quickest_plan_is_made(deadline_ms: float) -> None:
    found = solve(alike(16, deadline_ms=deadline_ms))
    assert not found.feasible
    rows = [
        finish_ms(alike(16, deadline_ms=0.0), [TEXT] * row + [0] * (16 - row)) for row in range(17)
    ]
    assert found.finish_ms == pytest.approx(min(rows))


def test_no_chunks_need_no_plan() -> None:
    found = solve(alike(0, deadline_ms=10.0))
    assert (found.choices, found.loss, found.feasible) == ((), 0.0, True)


@pytest.mark.parametrize("deadline_ms", [100.0, 30_000.0, 60_000.0])
def test_thousands_of_chunks_are_planned(deadline_ms: float) -> None:
    problem = alike(2000, deadline_ms=deadline_ms)
    found = solve(problem)
    assert len(found.choices) == 2000
    assert found.feasible == (deadline_ms > 20_000)
