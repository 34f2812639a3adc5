"""Affinity of words: likeness where words differ, and any string at all."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctxpress.models import OnnxTokenScorer, load_bundled_scorer
from ctxpress.relevance import affinity
from ctxpress.relevance.affinity import WordAffinity
from ctxpress.relevance.bm25 import BM25Scorer
from ctxpress.relevance.scorer import Titled
from tests.relevance.readers import TableReader

BEES = Titled("Bees dance to show where flowers are.", "Bees")
REEFS = Titled("Reefs grow where the sea is warm.", "Reefs")


@pytest.fixture(scope="module")
def bundled() -> OnnxTokenScorer:
    return load_bundled_scorer(threads=1)


def test_other_words_for_the_same_are_found(bundled: OnnxTokenScorer) -> None:
    question = "Which physicians treated the ill child?"
    texts = [BEES, Titled("Two doctors cared for the sick girl."), REEFS]
    assert BM25Scorer().text_scores(question, texts).max() == 0
    assert int(WordAffinity(bundled).of(question, texts).argmax()) == 1


def test_the_same_word_counts_for_more_than_another_for_it(bundled: OnnxTokenScorer) -> None:
    texts = [Titled("A doctor came."), Titled("A physician came."), BEES, REEFS]
    scores = WordAffinity(bundled).of("Which physician came?", texts)
    assert scores[1] > scores[0] > max(scores[2], scores[3])


def test_a_title_counts(bundled: OnnxTokenScorer) -> None:
    texts = [Titled("It dances.", "Flies"), Titled("It dances.", "Bees"), REEFS]
    assert int(WordAffinity(bundled).of("Do bees dance?", texts).argmax()) == 1


@pytest.mark.parametrize("question", ["", "What is it?", "?!", "\ud800"])
def test_a_question_without_words_likes_nothing(question: str) -> None:
    scores = WordAffinity(TableReader()).of(question, [BEES, REEFS])
    assert scores.tolist() == [0.0, 0.0]


def test_no_texts_and_empty_texts_are_fine() -> None:
    assert len(WordAffinity(TableReader()).of("Do bees dance?", [])) == 0
    scores = WordAffinity(TableReader()).of("Do bees dance?", [Titled(""), BEES])
    assert scores[1] > scores[0] == 0


def test_it_says_the_same_when_its_memory_of_words_is_full(
    bundled: OnnxTokenScorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    question, texts = "Do bees dance near reefs?", [BEES, REEFS]
    expected = WordAffinity(bundled).of(question, texts).tolist()
    monkeypatch.setattr(affinity, "_MAX_WORDS_KNOWN", 8)
    small = WordAffinity(bundled)
    assert [small.of(question, texts).tolist() for _ in range(3)] == [expected] * 3
    assert len(small._known) <= 8


strings = st.text(max_size=60) | st.sampled_from(["\ud800", "漢字かな", "a" * 5_000, "é" * 300])


@settings(deadline=None, max_examples=60)
@given(strings, st.lists(st.tuples(strings, st.none() | strings), max_size=5))
def test_any_strings_have_finite_scores(
    bundled: OnnxTokenScorer, question: str, pairs: list[tuple[str, str | None]]
) -> None:
    scores = WordAffinity(bundled).of(question, [Titled(*pair) for pair in pairs])
    assert scores.shape == (len(pairs),)
    assert np.isfinite(scores).all()
    assert (scores >= 0).all()
