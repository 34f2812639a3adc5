"""What an encoder says of sub-tokens, gathered by sentences."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ctxpress.document import Range
from ctxpress.models.scorer import TokenEvidence
from ctxpress.relevance.joint import (
    ANSWER,
    NO_EVIDENCE,
    QUOTE,
    STRETCH_TOKENS,
    JointEvidence,
    sentence_evidence,
)
from ctxpress.relevance.scorer import Titled
from ctxpress.relevance.sentences import split_sentences
from tests.relevance.readers import LOW, TableReader


def evidence_at(*starts: int) -> TokenEvidence:
    values = np.arange(len(starts), dtype=np.float32)
    return TokenEvidence(np.array(starts, np.int32), values, -values)


def test_a_sentence_has_its_sub_tokens_mean_of_quote_and_best_of_answer() -> None:
    found = evidence_at(0, 4, 8, 9, 20)
    rows = sentence_evidence(found, [Range(0, 8), Range(8, 12), Range(12, 30)], 0)
    assert rows[:, QUOTE].tolist() == [0.5, 2.5, 4.0]
    assert rows[:, ANSWER].tolist() == [0.0, -2.0, -4.0]


def test_a_long_sentence_is_worth_its_best_stretch() -> None:
    quote = np.full(100, -6.0, np.float32)
    quote[40 : 40 + STRETCH_TOKENS] = 2.0
    starts = np.arange(100, dtype=np.int32)
    found = TokenEvidence(starts, quote, np.zeros(100, np.float32))
    rows = sentence_evidence(found, [Range(0, 90), Range(90, 100)], 0)
    assert rows[:, QUOTE].tolist() == [2.0, -6.0]


def test_sub_tokens_of_the_title_belong_to_no_sentence() -> None:
    found = evidence_at(0, 3, 6, 10)
    rows = sentence_evidence(found, [Range(0, 4), Range(4, 9)], 6)
    assert rows[:, QUOTE].tolist() == [2.0, 3.0]


def test_sentences_without_sub_tokens_have_no_evidence() -> None:
    rows = sentence_evidence(evidence_at(5), [Range(0, 5), Range(5, 6), Range(6, 9)], 0)
    assert rows[:, QUOTE].tolist() == [NO_EVIDENCE, 0.0, NO_EVIDENCE]
    assert sentence_evidence(evidence_at(), [Range(0, 5)], 0).tolist() == [[NO_EVIDENCE] * 2]
    assert sentence_evidence(evidence_at(1), [], 0).shape == (0, 2)


def test_the_title_is_read_before_the_text() -> None:
    reader = TableReader({"tall": 3.0})
    texts = [Titled("It is tall. Bees.", " Tower "), Titled("Bees. So tall.")]
    ranges = [split_sentences(text.text) for text in texts]
    found = JointEvidence(reader).of("How tall?", texts, ranges)
    assert reader.read == ["Tower\nIt is tall. Bees.", "Bees. So tall."]
    assert [rows[:, ANSWER].tolist() for rows in found] == [[3.0, LOW], [LOW, 3.0]]


@given(st.lists(st.tuples(st.text(max_size=60), st.none() | st.text(max_size=10)), max_size=4))
def test_any_texts_have_finite_evidence_for_each_sentence(pairs) -> None:
    texts = [Titled(*pair) for pair in pairs]
    ranges = [split_sentences(text.text) for text in texts]
    found = JointEvidence(TableReader()).of("q", texts, ranges)
    assert [len(rows) for rows in found] == [len(own) for own in ranges]
    assert all(np.isfinite(rows).all() for rows in found)
