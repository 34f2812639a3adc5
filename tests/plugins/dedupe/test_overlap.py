"""Shingles: what the index finds is what comparing all with all finds."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ctxpress.plugins.dedupe.overlap import FactRuns, ShingleIndex

texts = st.lists(st.lists(st.integers(0, 6), max_size=14), max_size=14)


def shingles(text: list[int]) -> set[tuple[int, ...]]:
    padded = [*text, *[-1] * (3 - len(text))]
    return {tuple(padded[n : n + 3]) for n in range(len(padded) - 2)}


@given(texts, st.sampled_from([0.5, 0.7, 0.9, 1.0]))
def test_texts_with_enough_in_common_are_found_and_measured_exactly(
    given_texts: list[list[int]], threshold: float
) -> None:
    index = ShingleIndex([np.array(t, dtype=np.int64) for t in given_texts], threshold)
    sets = [shingles(text) for text in given_texts]
    for one, mine in enumerate(sets):
        rivals = index.rivals(one, below=len(sets))
        assert set(index.rivals(one, below=one)) <= set(range(one))
        assert one not in rivals
        for other, theirs in enumerate(sets):
            if other == one:
                continue
            common = len(mine & theirs)
            held = common >= threshold * len(mine) - 1e-9
            assert index.contained(one, other) == held
            assert index.same(one, other) == (common >= threshold * len(mine | theirs) - 1e-9)
            assert not held or other in rivals


@given(st.lists(st.integers(0, 4), max_size=30), st.lists(st.integers(0, 4), max_size=5))
def test_facts_are_held_where_they_stand_in_one_run(held: list[int], wanted: list[int]) -> None:
    runs = FactRuns(np.array(held, dtype=np.int64))
    brute = any(held[n : n + len(wanted)] == wanted for n in range(len(held) + 1))
    assert runs.hold(np.array(wanted, dtype=np.int64)) == brute
