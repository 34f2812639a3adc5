from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ctxpress.plugins.token_classification import (
    TokenClassificationConfig,
    TokenClassificationStage,
)
from ctxpress.plugins.token_classification.sharing import share_budgets
from ctxpress.testing import check_stage, make_block, make_document
from tests.plugins.token_classification.running import FakeScorer, count, run

DENSE = " ".join(f"fact{'abcdefghij'[i % 10]}" for i in range(60))
CHATTER = " ".join(f"well{'abcdefghij'[i % 10]}" for i in range(60))
SCORES = {f"fact{c}": 0.9 for c in "abcdefghij"} | {f"well{c}": 0.1 for c in "abcdefghij"}
TURN = make_document(
    make_block(DENSE, pointer="/messages/0/content"),
    make_block(CHATTER, message=1, pointer="/messages/1/content"),
)


def kept(strength: float) -> list[int]:
    after = run(TURN, scores=SCORES, keep_ratio=0.4, dynamic_ratio=strength)
    return [count(block.text) for block in after.blocks]


def test_dense_blocks_keep_more_than_chatter_at_the_same_total() -> None:
    assert kept(0) == [24, 24]
    assert kept(0.5) == [30, 18]
    assert kept(1) == [36, 12]


def test_a_turn_is_worked_on_together_only_if_budgets_are_shared() -> None:
    def scope(strength: float) -> str:
        config = TokenClassificationConfig(dynamic_ratio=strength)
        return TokenClassificationStage(config, FakeScorer()).traits.scope

    assert (scope(0), scope(0.1)) == ("block", "turn")


def test_the_laws_hold() -> None:
    check_stage(TokenClassificationStage(TokenClassificationConfig(dynamic_ratio=1), FakeScorer()))


@settings(max_examples=200, deadline=None)
@given(
    budgets=st.lists(st.integers(0, 500), min_size=1, max_size=12),
    strength=st.floats(0, 1),
    seed=st.integers(0, 99),
)
def test_shares_are_bounded_and_have_the_same_sum(
    budgets: list[int], strength: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    equal = np.array(budgets, np.int64)
    limits = equal + rng.integers(0, 300, len(equal))
    blocks = np.repeat(np.arange(len(equal)), limits)
    shares = share_budgets(
        equal, limits, blocks, rng.random(len(blocks)), np.ones(len(blocks)), strength
    )
    assert shares.sum() == equal.sum()
    assert (shares >= np.floor(0.5 * equal) - 1).all()
    assert (shares <= np.ceil(np.minimum(1.5 * equal, limits)) + 1).all()
    if strength == 0:
        assert shares.tolist() == budgets
