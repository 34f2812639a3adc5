"""The tree search: never worse than greedy, exact where small, the same every time, stoppable."""

from __future__ import annotations

import hashlib
import itertools
import struct
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctxpress.errors import DeadlineError, StageError
from ctxpress.plugins.select.config import SearchOptions
from ctxpress.plugins.select.search import Combination, Found, search


class Rewards:
    """Any function of a combination as a reward; counts what it was asked."""

    def __init__(self, function: Callable[[Combination], float]) -> None:
        self.function = function
        self.batches: list[list[Combination]] = []

    def evaluate(self, batch: Sequence[Combination]) -> list[float]:
        self.batches.append(list(batch))
        return [self.function(key) for key in batch]


def drawn(seed: int) -> Callable[[Combination], float]:
    """A reward without any structure: each combination has a number of its own."""

    def value(key: Combination) -> float:
        digest = hashlib.sha256(f"{seed}:{key}".encode()).digest()
        return struct.unpack("<Q", digest[:8])[0] / 2**64

    return value


def misleading(key: Combination) -> float:
    """The best first step leads away: 0 alone is best alone, {1, 2} is the best of all."""
    values = {(0,): 0.5, (1,): 0.1, (2,): 0.1, (1, 2): 1.0}
    return values.get(tuple(sorted(key)), 0.2)


def shrinking(key: Combination) -> float:
    """More is worse."""
    return -float(len(key))


def peaked(key: Combination) -> float:
    """Best with three; scale and sign are unusual."""
    return -1e6 * abs(len(key) - 3) - sum(key)


def flat(key: Combination) -> float:
    return 0.0


rewards = st.one_of(
    st.integers(0, 10_000).map(drawn), st.sampled_from([misleading, shrinking, peaked, flat])
)
costs_of = st.lists(st.integers(1, 9), min_size=1, max_size=6)


def run(
    costs: Sequence[int],
    budget: int,
    function: Callable[[Combination], float],
    *,
    ranking: Sequence[int] | None = None,
    ordered: bool = False,
    may_be_empty: bool = False,
    checkpoint: Callable[[], None] = lambda: None,
    **options: float,
) -> Found:
    return search(
        costs,
        budget,
        Rewards(function),
        SearchOptions.model_validate(options),
        ranking=range(len(costs)) if ranking is None else ranking,
        ordered=ordered,
        may_be_empty=may_be_empty,
        checkpoint=checkpoint,
    )


def combinations(costs: Sequence[int], budget: int, ordered: bool) -> list[Combination]:
    make = itertools.permutations if ordered else itertools.combinations
    return [
        key
        for size in range(1, len(costs) + 1)
        for key in make(range(len(costs)), size)
        if sum(costs[n] for n in key) <= budget
    ]


def greedy(
    costs: Sequence[int], budget: int, function: Callable[[Combination], float], ordered: bool
) -> list[Combination]:
    """The path that adds the best candidate that fits, the cheapest of equals."""
    path: list[Combination] = [()]
    while True:
        left = budget - sum(costs[n] for n in path[-1])
        nexts = [(*path[-1], n) for n, c in enumerate(costs) if n not in path[-1] and c <= left]
        nexts = [key if ordered else tuple(sorted(key)) for key in nexts]
        if not nexts:
            return path[1:]
        path.append(max(nexts, key=lambda key: (function(key), -sum(costs[n] for n in key))))


@given(costs_of, st.integers(0, 40), rewards)
def test_up_to_six_candidates_the_best_combination_of_all_is_found(costs, budget, function):
    found = run(costs, budget, function)
    every = combinations(costs, budget, ordered=False)
    if not every:
        assert found == Found((), None, 0, 0, True)
        return
    assert found.reward == max(map(function, every))
    assert found.reward == function(found.chosen)
    assert found.evaluated == len(every)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=4), st.integers(0, 30), rewards)
def test_up_to_four_candidates_the_best_order_is_found_too(costs, budget, function):
    found = run(costs, budget, function, ordered=True)
    every = combinations(costs, budget, ordered=True)
    if every:
        assert found.reward == max(map(function, every))
        assert found.evaluated == len(every)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=14),
    st.integers(0, 120),
    rewards,
    st.booleans(),
    st.integers(14, 40),
    st.floats(0, 5),
    st.floats(0, 5),
    st.randoms(use_true_random=False),
)
def test_it_is_never_worse_than_greedy_nor_than_the_ranking(
    costs, budget, function, ordered, iterations, exploration, cost_weight, random
):
    ranking = list(range(len(costs)))
    random.shuffle(ranking)
    found = run(
        costs,
        budget,
        function,
        ranking=ranking,
        ordered=ordered,
        iterations=iterations,
        exploration=exploration,
        cost_weight=cost_weight,
    )
    assert sum(costs[n] for n in found.chosen) == found.cost <= budget
    assert len(set(found.chosen)) == len(found.chosen)
    assert ordered or list(found.chosen) == sorted(found.chosen)
    fill: list[int] = []
    for number in ranking:
        if costs[number] + sum(costs[n] for n in fill) <= budget:
            fill.append(number)
    if not fill:
        assert found.chosen == ()
        return
    prefixes = [tuple(fill[:k] if ordered else sorted(fill[:k])) for k in range(1, len(fill) + 1)]
    others = [*greedy(costs, budget, function, ordered), *prefixes]
    assert found.reward == function(found.chosen) >= max(map(function, others))


def test_it_finds_what_greedy_misses():
    found = run([1, 1, 1], 2, misleading)
    assert found.chosen == (1, 2)
    assert max(map(misleading, greedy([1, 1, 1], 2, misleading, ordered=False))) < found.reward


def test_fewer_win_where_more_is_worse():
    assert run([3, 2, 4], 100, shrinking).chosen == (1,)
    assert run([3, 2, 4], 100, shrinking, may_be_empty=True).chosen == ()


def test_the_order_is_searched_where_it_matters():
    function = {(1, 0): 1.0, (0, 1): 0.5}
    assert run([1, 1], 2, lambda key: function.get(key, 0.0), ordered=True).chosen == (1, 0)
    assert run([1, 1], 2, lambda key: function.get(key, 0.0)).chosen == (0, 1)


def test_of_equals_the_cheapest_wins():
    assert run([5, 2, 3], 10, flat).chosen == (1,)


def test_a_small_tree_is_known_to_be_complete_and_a_cut_one_is_not():
    assert run([1] * 5, 5, drawn(1)).complete
    assert not run([1] * 12, 12, drawn(1), iterations=5).complete


def test_the_same_problem_is_solved_by_the_same_steps():
    found = []
    for _ in range(2):
        reward = Rewards(drawn(7))
        options = SearchOptions(iterations=20)
        search([3, 1, 4, 1, 5, 9, 2, 6], 15, reward, options, ranking=range(8), ordered=True)
        found.append(reward.batches)
    assert found[0] == found[1]


def test_nothing_is_evaluated_twice():
    reward = Rewards(drawn(3))
    search([1] * 9, 6, reward, SearchOptions(), ranking=range(9))
    asked = [key for batch in reward.batches for key in batch]
    assert len(asked) == len(set(asked))


def test_work_is_bounded_by_the_iterations():
    reward = Rewards(drawn(5))
    found = search([1] * 64, 64, reward, SearchOptions(iterations=10), ranking=range(64))
    assert len(reward.batches) <= 21
    assert found.evaluated == sum(map(len, reward.batches)) <= 21 * 64


@pytest.mark.parametrize("calls", range(1, 40))
def test_when_time_is_up_the_best_so_far_is_returned(calls):
    left = [calls]

    def checkpoint() -> None:
        left[0] -= 1
        if left[0] == 0:
            raise DeadlineError("over")

    reward = Rewards(drawn(11))
    found = search([1] * 10, 8, reward, SearchOptions(), ranking=range(10), checkpoint=checkpoint)
    seen = [key for batch in reward.batches for key in batch]
    assert not found.complete
    if calls == 1:
        assert found == Found(tuple(range(8)), None, 8, 0, False)  # the ranking, as far as it fits
    else:
        assert found.chosen == max(seen, key=drawn(11))
        assert found.evaluated == len(seen)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_reward_that_is_no_number_is_an_error(value):
    with pytest.raises(StageError, match="no finite number"):
        run([1, 1], 2, lambda key: value)


def test_a_reward_that_leaves_some_out_is_an_error():
    class Short:
        def evaluate(self, batch):
            return [0.0] * (len(batch) - 1)

    with pytest.raises(StageError):
        search([1, 1], 2, Short(), SearchOptions(), ranking=[0, 1])


def test_where_nothing_fits_nothing_is_chosen():
    assert run([5, 6], 4, drawn(1)).chosen == ()
    assert run([5, 6], -3, drawn(1)).chosen == ()
    assert run([], 4, drawn(1)).chosen == ()
    assert run([5, 6], 4, drawn(1), may_be_empty=True).reward == drawn(1)(())
