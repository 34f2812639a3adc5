"""Embeddings: cosine similarity of the encoder's pooled vectors, for any strings."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctxpress.errors import ModelError
from ctxpress.models.checkpoint import Checkpoint
from ctxpress.relevance import RelevanceScorer
from ctxpress.relevance.huggingface.embedding import EmbeddingScorer
from ctxpress.relevance.huggingface.kinds import Pooling
from ctxpress.relevance.scorer import Titled
from tests.relevance.huggingface.texts import (
    LONG,
    QUESTION,
    TEXTS,
    keeps_the_contract,
    same,
    strings,
    titled,
)


def vector(checkpoint: Checkpoint, text: str, pooling: Pooling) -> npt.NDArray[np.float64]:
    """The unit vector that transformers gives for one text."""
    import torch

    encoded = checkpoint.tokenizer(text, return_tensors="pt")
    with torch.inference_mode():
        hidden = checkpoint.model(**encoded).last_hidden_state[0].double().numpy()
    pooled = hidden[0] if pooling == "cls" else hidden.mean(axis=0)
    return np.asarray(pooled / np.linalg.norm(pooled))


@pytest.fixture(scope="module")
def scorer(encoder: Checkpoint) -> EmbeddingScorer:
    return EmbeddingScorer(encoder)


def test_it_is_a_scorer(scorer: EmbeddingScorer, encoder: Checkpoint) -> None:
    assert isinstance(scorer, RelevanceScorer)
    assert scorer.languages is None
    others = [
        EmbeddingScorer(encoder, pooling="cls"),
        EmbeddingScorer(encoder, query_prefix="query: "),
        EmbeddingScorer(encoder, text_prefix="query: "),
        EmbeddingScorer(encoder, sentences=False),
    ]
    assert len({one.identity for one in [scorer, *others]}) == 5
    assert keeps_the_contract(TEXTS, scorer.score(QUESTION, TEXTS))
    assert scorer.score(QUESTION, []) == []


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize(("before_question", "before_text"), [("", ""), ("How ", "budget: ")])
def test_scores_are_the_cosines_of_transformers_vectors(
    encoder: Checkpoint, pooling: Pooling, before_question: str, before_text: str
) -> None:
    scorer = EmbeddingScorer(
        encoder, pooling=pooling, query_prefix=before_question, text_prefix=before_text
    )
    asked = vector(encoder, before_question + QUESTION, pooling)
    scores = []
    for text, found in zip(TEXTS, scorer.score(QUESTION, TEXTS), strict=True):
        head = before_text + (f"{text.title}\n" if text.title else "")
        score = float(asked @ vector(encoder, head + text.text, pooling))
        assert found.score == pytest.approx(score, abs=1e-5)
        scores.append(score)
        if not text.text.isascii():
            continue  # without blanks between them, sentences share tokens with their neighbours
        own = [asked @ vector(encoder, head + text.text[a:b], pooling) for a, b in found.sentences]
        expected = [(float(one) + score) / 2 for one in own]
        np.testing.assert_allclose(found.sentence_scores, expected, atol=1e-5)
    assert np.ptp(scores) > 1e-3


def test_without_sentences_each_has_its_texts_score(encoder: Checkpoint) -> None:
    for found in EmbeddingScorer(encoder, sentences=False).score(QUESTION, TEXTS):
        assert np.all(found.sentence_scores == np.float32(found.score))


def test_a_long_text_is_worth_its_best_window(encoder: Checkpoint) -> None:
    scorer = EmbeddingScorer(encoder, max_tokens=64, sentences=False)
    (found,) = scorer.score(QUESTION, [Titled(LONG)])
    assert found.score == pytest.approx(float(found.sentence_scores.max()))
    assert len(set(found.sentence_scores.tolist())) > 10
    first = found.sentences[: list(found.sentence_scores).count(found.sentence_scores[0])]
    (head,) = scorer.score(QUESTION, [Titled(LONG[: first[-1].end])])
    assert head.score == pytest.approx(float(found.sentence_scores[0]), abs=1.1e-5)


def test_batches_do_not_change_scores(encoder: Checkpoint) -> None:
    texts = [*TEXTS, Titled(LONG), Titled(""), Titled(LONG[:900], "Title")]
    single = EmbeddingScorer(encoder, batch_size=1)
    wide = EmbeddingScorer(encoder, batch_size=64).score(QUESTION, texts)
    for text, found in zip(texts, wide, strict=True):
        assert same(single.score(QUESTION, [text])[0], found)


def test_concurrent_callers_get_their_own_scores(scorer: EmbeddingScorer) -> None:
    calls = [
        (f"{n} heating {QUESTION}", [Titled(f"{n} {LONG[: 90 * (n % 5)]}")]) for n in range(24)
    ]
    alone = [scorer.score(question, texts)[0] for question, texts in calls]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda call: scorer.score(*call)[0], calls))
    assert all(map(same, alone, together))


@settings(max_examples=30, deadline=None)
@given(strings, st.lists(titled, max_size=4))
def test_any_strings_can_be_scored(
    short_windows: EmbeddingScorer, question: str, texts: list[Titled]
) -> None:
    assert keeps_the_contract(texts, short_windows.score(question, texts))


@pytest.fixture(scope="module")
def short_windows(encoder: Checkpoint) -> EmbeddingScorer:
    return EmbeddingScorer(
        encoder, max_tokens=32, batch_size=64, text_prefix="text: ", query_prefix="a " * 40
    )


def test_a_text_of_the_questions_words_is_nearest(scorer: EmbeddingScorer) -> None:
    found = scorer.score(QUESTION, [*TEXTS, Titled(QUESTION)])
    assert found[-1].score == pytest.approx(1.0, abs=1e-5)
    assert max(one.score for one in found[:-1]) < 1


def test_windows_that_hold_no_text_are_an_error(encoder: Checkpoint) -> None:
    with pytest.raises(ModelError, match="too few"):
        EmbeddingScorer(encoder, max_tokens=4)
