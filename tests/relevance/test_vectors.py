"""Similarity of vectors: what is about the question comes first, and any strings will do."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ctxpress.models import load_bundled_scorer
from ctxpress.relevance.scorer import RelevanceScorer, Titled
from ctxpress.relevance.vectors import VectorScorer
from tests.relevance.readers import TableReader

TEXTS = [
    Titled("Coral reefs need warm water. They are found near coasts."),
    Titled("The tower is tall. How tall? Bees dance."),
    Titled(""),
]


def test_the_sentence_most_like_the_question_comes_first() -> None:
    scorer = VectorScorer(TableReader())
    assert isinstance(scorer, RelevanceScorer)
    reefs, tower, empty = scorer.score("how tall?", TEXTS)
    best = tower.sentences[int(tower.sentence_scores.argmax())]
    assert TEXTS[1].text[best.start : best.end].strip() == "How tall?"
    assert tower.score > reefs.score > empty.score == -1.0
    assert not tower.calibrated
    assert scorer.languages == frozenset({"en"})
    assert "table/1" in scorer.identity


@given(st.text(max_size=20), st.lists(st.text(max_size=60), max_size=5))
def test_any_strings_have_finite_similarities(question: str, texts: list[str]) -> None:
    found = VectorScorer(TableReader()).score(question, [Titled(text) for text in texts])
    assert len(found) == len(texts)
    for one in found:
        assert np.isfinite(one.score)
        assert len(one.sentences) == len(one.sentence_scores)
        assert (np.abs(one.sentence_scores) <= 1.0001).all()


def test_one_sentence_alone_is_neither_like_nor_unlike() -> None:
    (one,) = VectorScorer(TableReader()).score("how tall?", [Titled("The tower is tall.")])
    assert one.score == 0.0


def test_the_bundled_encoder_tells_what_texts_are_about() -> None:
    scorer = VectorScorer(load_bundled_scorer(threads=1))
    reefs, tower, empty = scorer.score("coral reefs in the sea", TEXTS)
    assert reefs.score > tower.score
    assert empty.score == -1.0
