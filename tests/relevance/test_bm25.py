"""BM25 over sentences and texts: what shares the question's words is first, for any input."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxpress.relevance import RelevanceScorer
from ctxpress.relevance.bm25 import BM25Scorer
from ctxpress.relevance.scorer import Titled
from ctxpress.relevance.sentences import split_sentences
from ctxpress.relevance.words import words_of

SCORER = BM25Scorer()
TEXTS = [
    Titled("Coral reefs need warm water. They are found near the coasts."),
    Titled("The tower is 330 metres tall. It was built for a fair. Tickets are sold at its foot."),
    Titled("Bees dance to show where flowers are."),
]
QUESTION = "How tall is the tower?"


def test_it_is_a_scorer_for_any_language() -> None:
    assert isinstance(SCORER, RelevanceScorer)
    assert SCORER.languages is None
    assert "bm25s/" in SCORER.identity
    assert BM25Scorer(k1=2.0).identity != SCORER.identity


def test_the_text_and_the_sentence_with_the_answer_are_first() -> None:
    found = SCORER.score(QUESTION, TEXTS)
    assert max(range(3), key=lambda n: found[n].score) == 1
    assert int(np.argmax(found[1].sentence_scores)) == 0
    assert not found[1].calibrated


def test_every_sentence_of_a_text_gets_a_share_of_its_text() -> None:
    found = SCORER.score(QUESTION, TEXTS)
    assert found[1].sentence_scores[2] == pytest.approx(0.3 * found[1].score)
    assert found[0].sentence_scores.tolist() == [0.0, 0.0]
    none = BM25Scorer(passage_share=0.0).score(QUESTION, TEXTS)
    assert none[1].sentence_scores[2] == 0.0


def test_texts_alone_score_as_they_do_with_their_sentences() -> None:
    texts = [*TEXTS, Titled("", "The tower"), Titled("tall. \n\nTower。塔很高。那座塔", "塔")]
    for question in (QUESTION, "塔有多高？", "of the"):
        found = [one.score for one in SCORER.score(question, texts)]
        assert SCORER.text_scores(question, texts).tolist() == pytest.approx(found)


def test_a_title_counts_with_its_text() -> None:
    texts = [Titled("It is very tall.", "Eiffel"), Titled("It is very tall.", "Empire State")]
    found = SCORER.score("How tall is the Eiffel?", texts)
    assert found[0].score > found[1].score
    assert found[0].sentence_scores[0] > found[1].sentence_scores[0]


def test_a_rare_word_says_more_than_one_that_is_everywhere() -> None:
    texts = [Titled(f"Report {n} of the ministry.") for n in range(9)] + [
        Titled("Report by Okafor.")
    ]
    found = SCORER.score("report Okafor", texts)
    assert max(range(10), key=lambda n: found[n].score) == 9


def test_text_scores_are_lucenes_bm25() -> None:
    found = SCORER.score("tower tall", TEXTS)
    collection = [words_of(text.text) for text in TEXTS]
    mean = sum(map(len, collection)) / len(collection)
    for words, one in zip(collection, found, strict=True):
        counts, expected = Counter(words), 0.0
        for word in words_of("tower tall"):
            holding = sum(word in other for other in collection)
            idf = math.log(1 + (len(collection) - holding + 0.5) / (holding + 0.5))
            length = 1.2 * (1 - 0.75 + 0.75 * len(words) / mean)
            expected += idf * counts[word] / (counts[word] + length)
        assert one.score == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("question", "text", "other"),
    [
        ("供暖系统为什么坏了？", "北翼的供暖系统一月份坏了两次。", "委员会周二开会。"),
        ("Kolik stojí oprava?", "Oprava stojí sto korun.", "Výbor se sešel v úterý."),
        ("हीटिंग की लागत", "हीटिंग की लागत बहुत है।", "समिति की बैठक हुई।"),
        ("คอมพิวเตอร์ราคา", "ราคาคอมพิวเตอร์สูงมาก", "วันนี้อากาศดี"),
    ],
)
def test_any_language(question: str, text: str, other: str) -> None:
    first, second = SCORER.score(question, [Titled(text), Titled(other)])
    assert first.score > second.score


strings = st.text(max_size=60) | st.sampled_from(["", " ", "\ud800", "tower", "the", "!", "猫"])


@given(strings, st.lists(st.builds(Titled, strings, st.none() | strings), max_size=8))
def test_any_input_has_one_finite_result_a_text(question: str, texts: list[Titled]) -> None:
    found = SCORER.score(question, texts)
    assert len(found) == len(texts)
    for one, titled in zip(found, texts, strict=True):
        assert one.sentences == split_sentences(titled.text)
        assert one.sentence_scores.shape == (len(one.sentences),)
        assert one.sentence_scores.dtype == np.float32
        assert math.isfinite(one.score)
        assert one.score >= 0
        assert np.isfinite(one.sentence_scores).all()
    again = SCORER.score(question, texts)
    for one, other in zip(found, again, strict=True):
        assert one.score == other.score
        assert (one.sentence_scores == other.sentence_scores).all()


def test_one_text_still_tells_its_sentences_apart() -> None:
    (found,) = SCORER.score(QUESTION, TEXTS[1:2])
    assert int(np.argmax(found.sentence_scores)) == 0
    assert found.score > 0


def test_a_question_of_function_words_scores_nothing() -> None:
    assert [one.score for one in SCORER.score("What is it?", TEXTS)] == [0.0, 0.0, 0.0]


def test_it_can_be_stopped_between_texts() -> None:
    calls = []

    def stop() -> None:
        calls.append(1)
        if len(calls) == 3:
            raise TimeoutError

    with pytest.raises(TimeoutError):
        SCORER.score(QUESTION, TEXTS * 100, checkpoint=stop)


def test_nothing_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG"):
        SCORER.score(QUESTION, TEXTS)
    assert not caplog.records
