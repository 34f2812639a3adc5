"""What combinations are worth: evidence counts once, repetition and distraction cost, order too."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxpress.document import Range
from ctxpress.errors import StageError
from ctxpress.plugins.select.evidence import Evidence, evidence_of, repeated
from ctxpress.plugins.select.rewards import EvidenceReward, JoinedReward
from ctxpress.relevance.scorer import Relevance, Titled
from tests.plugins.documents import FixedScorer


def relevance(*scores: float, calibrated: bool = True) -> Relevance:
    """One text of sentences that are ten characters long each."""
    ranges = tuple(Range(10 * n, 10 * n + 10) for n in range(len(scores)))
    best = max(scores, default=0.0)
    return Relevance(best, ranges, np.array(scores, np.float32), calibrated)


def evidence(*documents: Sequence[float], calibrated: bool = True) -> Evidence:
    """Of documents whose sentences are all different."""
    numbers = itertools.count()
    texts = ["".join(f"word{next(numbers):04d}. " for _ in one) for one in documents]
    return evidence_of([relevance(*one, calibrated=calibrated) for one in documents], texts)


def reward_of(*documents: Sequence[float], tokens: int = 100) -> EvidenceReward:
    return EvidenceReward(evidence(*documents), [tokens] * len(documents))


def test_two_documents_that_each_know_a_part_beat_either():
    reward = reward_of([0.95, 0.02], [0.6, 0.02], [0.02, 0.02])
    both, first, second = reward.evaluate([(0, 1), (0,), (1,)])
    assert both > first > second


def test_a_document_of_no_use_makes_it_worse():
    reward = reward_of([0.95], [0.02], [0.02])
    values = reward.evaluate([(0,), (0, 1), (0, 1, 2), (1,)])
    assert values == sorted(values, reverse=True)
    assert values[3] == 0.0


def test_a_document_that_is_hardly_of_use_is_better_left_out():
    with_it, without = reward_of([0.95], [0.9], [0.15]).evaluate([(0, 1, 2), (0, 1)])
    assert without > with_it


def test_a_longer_distraction_costs_more():
    found = evidence([0.95], [0.02], [0.02])
    short, long = EvidenceReward(found, [100, 20, 500]).evaluate([(0, 1), (0, 2)])
    assert short > long


def test_what_repeats_another_adds_nothing_and_costs():
    text = "The tower is 330 metres tall in all."
    same = Relevance(0.9, (Range(0, len(text)),), np.array([0.9], np.float32), True)
    other = "The tower, in all, is 330 metres tall."
    like = dataclasses.replace(same, sentences=(Range(0, len(other)),))
    reward = EvidenceReward(evidence_of([same, like], [text, other]), [10, 10])
    alone, twice = reward.evaluate([(0,), (0, 1)])
    assert alone > twice
    different = other.replace("330", "324")
    contradicting = evidence_of([same, like], [text, different])
    alone, both = EvidenceReward(contradicting, [10, 10]).evaluate([(0,), (0, 1)])
    assert both > alone


def test_the_order_matters_where_there_is_a_middle():
    reward = reward_of([0.95], [0.5], [0.3], [0.3])
    edge, middle = reward.evaluate([(0, 2, 3, 1), (2, 0, 1, 3)])
    assert edge > middle
    first, second = reward_of([0.95], [0.5]).evaluate([(0, 1), (1, 0)])
    assert first == pytest.approx(second)


def test_documents_that_always_stay_are_a_part_of_every_combination():
    found = evidence([0.95], [0.9], [0.02])
    free = EvidenceReward(found, [10, 10, 10])
    bound = EvidenceReward(found, [10, 10, 10], always=[2])
    assert bound.evaluate([(0,)])[0] < free.evaluate([(0,)])[0]
    assert bound.evaluate([()]) == [0.0]
    known = EvidenceReward(found, [10, 10, 10], always=[0])
    empty, more = known.evaluate([(), (1,)])
    assert 0 < empty < more


def test_where_nothing_tells_documents_apart_more_is_better():
    for scores in ([0.0, 0.0], [0.3, 0.3]):
        reward = EvidenceReward(
            evidence(scores, scores, scores, calibrated=scores[0] > 0), [10, 10, 10]
        )
        values = reward.evaluate([(0,), (0, 1), (0, 1, 2)])
        assert values == sorted(values)


def test_scores_of_any_scale_serve_where_they_are_no_chances():
    low = evidence([-5.0], [-1.0], [-4.9], calibrated=False)
    high = evidence([0.0], [4e37], [1e36], calibrated=False)
    for found in (low, high):
        assert np.argmax(found.useful) == 1
        assert found.facts.sum(axis=1).argmax() == 1
        assert np.isfinite(found.facts).all()
    assert evidence([3e38], [-3e38], calibrated=False).useful.argmax() == 0


scores = st.lists(st.floats(-1, 2, width=32), max_size=4)


@given(st.lists(scores, min_size=1, max_size=5), st.booleans(), st.data())
def test_rewards_lie_between_none_and_all_whatever_the_batch(documents, calibrated, data):
    found = evidence(*documents, calibrated=calibrated)
    assert ((found.useful >= 0) & (found.useful <= 1)).all()
    tokens = data.draw(st.lists(st.integers(1, 50), min_size=5, max_size=5))[: len(documents)]
    reward = EvidenceReward(found, tokens)
    numbers = range(len(documents))
    batch = [
        tuple(data.draw(st.permutations(numbers)))[: data.draw(st.integers(0, len(documents)))]
        for _ in range(4)
    ]
    values = reward.evaluate(batch)
    assert all(-1e-9 <= value <= 1 + 1e-9 for value in values)
    assert values == pytest.approx([reward.evaluate([key])[0] for key in batch])
    assert reward.evaluate([]) == []


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("The repairs cost 4,300 euros.", "The repairs cost 4,300 euros!", True),
        ("The repairs cost 4,300 euros.", "The repairs cost 4,200 euros.", False),
        ("The heating failed twice.", "The heating has failed twice", True),
        ("The heating failed twice.", "The heating did not fail, said the board.", False),
        ("供暖系统坏了两次。", "供暖系统坏了两次！", True),
        ("!!!", "!!!", True),
        ("!!!", "???", False),
        ("", "", True),
    ],
)
def test_sentences_repeat_each_other_by_words_and_numbers(first, second, same):
    assert (repeated([first, second]) == [0, 0]) is same


@given(st.lists(st.text(max_size=20), max_size=12))
def test_sentences_are_numbered_from_zero_without_gaps(sentences):
    groups = repeated([*sentences, *sentences])
    assert sorted(set(groups)) == list(range(len(set(groups))))
    assert groups[: len(sentences)] == groups[len(sentences) :]


def test_a_joined_combination_is_read_as_one_text():
    scorer = FixedScorer({"tower": 0.9})
    texts = [Titled("The tower."), Titled("The sea.", "Sea"), Titled("A note.")]
    reward = JoinedReward(scorer, "Why?", texts, always=[2])
    assert reward.evaluate([(0,), (1, 0), (1,)]) == [0.9, 0.9, 0.02]
    ((question, joined),) = scorer.asked
    assert question == "Why?"
    assert [one.text for one in joined] == [
        "A note.\n\nThe tower.",
        "A note.\n\nSea\nThe sea.\n\nThe tower.",
        "A note.\n\nSea\nThe sea.",
    ]


def test_joined_scores_that_do_not_compare_are_refused():
    reward = JoinedReward(FixedScorer(calibrated=False), "Why?", [Titled("x")])
    with pytest.raises(StageError, match="not calibrated"):
        reward.evaluate([(0,)])
