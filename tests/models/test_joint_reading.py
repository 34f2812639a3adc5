"""Question and text read together, and vectors of texts: shapes, offsets, independence."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctxpress.errors import DeadlineError
from ctxpress.models import OnnxTokenScorer, load_bundled_scorer
from ctxpress.models.scorer import VECTOR_SIZE

QUESTION = "Who rebuilt the mill?"
TEXT = "The mill burned down in 1902, and Ada Lind rebuilt it. Bees dance in the garden."
LONG = TEXT * 40

any_text = st.text(
    st.characters(exclude_categories=()) | st.sampled_from("\ud800\u200b\0\n é水"), max_size=120
)


@settings(max_examples=40, deadline=None)
@given(any_text, any_text)
def test_any_strings_have_finite_evidence_and_vectors(
    scorer: OnnxTokenScorer, question: str, text: str
) -> None:
    (found,) = scorer.read_jointly([text], question)
    (vectors,) = scorer.embed([text])
    (scores,) = scorer.score([text])
    assert found.starts.tolist() == vectors.starts.tolist() == scores.starts.tolist()
    assert found.quote.shape == found.answer.shape == found.starts.shape
    assert vectors.vectors.shape == (len(vectors.starts), VECTOR_SIZE)
    for values in (found.quote, found.answer, vectors.vectors):
        assert values.dtype == np.float32
        assert np.isfinite(values).all()


def test_what_answers_the_question_stands_out(scorer: OnnxTokenScorer) -> None:
    (found,) = scorer.read_jointly([TEXT], QUESTION)
    name = (found.starts >= TEXT.index("Ada")) & (found.starts < TEXT.index("rebuilt"))
    bees = found.starts >= TEXT.index("Bees")
    assert found.answer[name].max() > found.answer[bees].max()
    assert found.quote[~bees].mean() > found.quote[bees].mean()
    (other,) = scorer.read_jointly([TEXT], "Where do bees dance?")
    assert other.answer[name].max() < found.answer[name].max()


def test_a_text_is_read_alike_whatever_stands_beside_it_and_in_any_number_of_threads(
    scorer: OnnxTokenScorer,
) -> None:
    (alone,) = scorer.read_jointly([LONG], QUESTION)
    *_, beside = scorer.read_jointly(["", TEXT, LONG], QUESTION)
    (single,) = load_bundled_scorer(threads=1).read_jointly([LONG], QUESTION)
    for other in (beside, single):
        assert alone.quote.tobytes() == other.quote.tobytes()
        assert alone.answer.tobytes() == other.answer.tobytes()
    (one,), (*_, two) = scorer.embed([LONG]), scorer.embed([TEXT, LONG])
    assert one.vectors.tobytes() == two.vectors.tobytes()


def test_equal_words_have_nearer_vectors_than_others(scorer: OnnxTokenScorer) -> None:
    texts = ["The mill was rebuilt.", "A mill was rebuilt.", "Coral reefs need warm water."]
    one, near, far = (found.vectors.mean(axis=0) for found in scorer.embed(texts))

    def cosine(left: np.ndarray, right: np.ndarray) -> float:
        return float(left @ right / np.linalg.norm(left) / np.linalg.norm(right))

    assert cosine(one, near) > cosine(one, far)


def test_the_checkpoint_stops_the_reading(scorer: OnnxTokenScorer) -> None:
    calls: list[int] = []

    def over() -> None:
        calls.append(1)
        raise DeadlineError("over")

    with pytest.raises(DeadlineError):
        scorer.read_jointly([TEXT], QUESTION, checkpoint=over)
    with pytest.raises(DeadlineError):
        scorer.embed([TEXT], checkpoint=over)
    assert calls == [1, 1]
    assert scorer.read_jointly([], QUESTION, checkpoint=over) == []
    assert scorer.embed([], checkpoint=over) == []
