from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxpress.plugins.token_classification.budget import choose_units, largest_within

sizes = st.lists(st.integers(1, 9), min_size=1, max_size=60)


@given(costs=sizes, budget=st.integers(0, 200), minimum=st.integers(0, 3), skew=st.floats(0.2, 5))
def test_the_largest_number_that_fits(
    costs: list[int], budget: int, minimum: int, skew: float
) -> None:
    minimum = min(minimum, len(costs))
    count, spent = largest_within(budget, lambda k: sum(costs[:k]), np.array(costs) * skew, minimum)
    assert spent == sum(costs[:count])
    assert spent <= budget or count == minimum
    assert count == len(costs) or sum(costs[: count + 1]) > budget


@given(costs=sizes, part=st.floats(0, 1), data=st.data())
def test_what_is_chosen_fits_and_fills(costs: list[int], part: float, data: st.DataObject) -> None:
    budget = int(part * sum(costs))
    ranked = np.array(data.draw(st.permutations(range(len(costs)))), np.int64)
    array = np.array(costs)

    def cost(units: np.ndarray) -> int:
        return int(array[units].sum())

    chosen, spent = choose_units(ranked, budget, cost, array[ranked].astype(float), 0)
    assert spent == cost(chosen) <= budget
    assert len(set(chosen.tolist())) == len(chosen)
    left = set(range(len(costs))) - set(chosen.tolist())
    if left and len(costs) <= 5:  # as many as are passed over at most
        assert min(costs[unit] for unit in left) > budget - spent


def test_a_long_unit_is_passed_over_for_smaller_ones() -> None:
    costs = np.array([50, 400, 30, 300, 20])
    chosen, spent = choose_units(
        np.arange(5), 100, lambda units: int(costs[units].sum()), costs.astype(float), 0
    )
    assert (chosen.tolist(), spent) == ([0, 2, 4], 100)


@pytest.mark.parametrize("skew", [0.3, 1.0, 4.0])
def test_few_counts(skew: float) -> None:
    rng = np.random.default_rng(0)
    costs = rng.integers(1, 6, 20_000)
    calls = 0

    def cost(units: np.ndarray) -> int:
        nonlocal calls
        calls += 1
        return int(costs[units].sum())

    estimates = costs * skew * rng.uniform(0.5, 1.5, len(costs))
    budget = int(costs.sum() * 0.4)
    _, spent = choose_units(np.arange(len(costs)), budget, cost, estimates, 0)
    assert 0.995 * budget <= spent <= budget
    assert calls <= 6


def test_the_minimum_is_taken_whatever_it_costs() -> None:
    chosen, spent = choose_units(np.arange(3), 2, lambda u: 5 * len(u), np.full(3, 5.0), 2)
    assert (chosen.tolist(), spent) == ([0, 1], 10)
