from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from ctxpress.errors import ConfigError
from ctxpress.plugins.token_classification import (
    TokenClassificationConfig,
    TokenClassificationStage,
)
from ctxpress.plugins.token_classification.question import question_priority
from ctxpress.testing import check_stage, make_block, make_document
from tests.plugins.token_classification.running import FakeScorer, run

TEXT = (
    "The boiler cost nine thousand euros. The mill was painted green last summer. "
    "Nobody has seen the old cat since then. Dinner is served at seven tonight."
)
DOCUMENT = make_document(make_block(TEXT), question="Which colour was the mill painted?")


def blind(document: object = DOCUMENT) -> object:
    return dataclasses.replace(DOCUMENT, question=None)


def test_words_that_serve_the_question_and_their_sentence_come_first() -> None:
    kept = run(DOCUMENT, scorer=FakeScorer(uses={"green": 0.9}), keep_ratio=0.3, question_weight=1)
    assert "mill was painted green" in kept.blocks[0].text


def test_without_a_weight_or_a_question_the_question_changes_nothing() -> None:
    plain = run(DOCUMENT, scorer=FakeScorer(), keep_ratio=0.4)
    reader = FakeScorer(uses={"green": 0.9})
    assert run(DOCUMENT, scorer=reader, keep_ratio=0.4, question_weight=0) == plain
    without = dataclasses.replace(DOCUMENT, question=None)
    asked = run(without, scorer=reader, keep_ratio=0.4)
    assert asked.blocks == plain.blocks
    assert reader.questions == [None, None]


def test_the_default_weight_asks_a_scorer_that_reads_questions() -> None:
    reader = FakeScorer(uses={})
    run(DOCUMENT, scorer=reader, keep_ratio=0.4)
    assert reader.questions == [DOCUMENT.question]


def test_a_weight_with_a_scorer_that_cannot_read_questions_is_an_error() -> None:
    with pytest.raises(ConfigError, match="question_weight"):
        TokenClassificationStage(TokenClassificationConfig(question_weight=0.3), FakeScorer())
    for config in (TokenClassificationConfig(), TokenClassificationConfig(question_weight=0)):
        assert not TokenClassificationStage(config, FakeScorer()).traits.query_aware


def test_traits_follow_the_scorer_and_the_laws_hold() -> None:
    stage = TokenClassificationStage(TokenClassificationConfig(), FakeScorer(uses={"cost": 0.8}))
    assert stage.traits.query_aware
    assert stage.traits.query_optional
    check_stage(stage)


KEEP = np.array([0.9, 0.1, 0.5, 0.5, 0.2])
USE = np.array([0.0, 0.9, 0.3, 0.1, 0.1])
SENTENCE = np.array([0, 0, 0, 1, 1])


def test_priority_moves_from_keep_to_use() -> None:
    assert question_priority(KEEP, USE, SENTENCE, 0.0).tolist() == KEEP.tolist()
    asked = question_priority(KEEP, USE, SENTENCE, 1.0)
    assert asked.argmax() == 1
    half = question_priority(KEEP, USE, SENTENCE, 0.5)
    assert np.allclose(half, (KEEP + asked) / 2)


def test_units_of_relevant_sentences_get_more() -> None:
    same = np.full(6, 0.5)
    use = np.array([0.9, 0.1, 0.1, 0.1, 0.1, 0.1])
    priority = question_priority(same, use, np.array([0, 0, 0, 1, 1, 1]), 0.5)
    assert (priority[1:3] > priority[3:5].max()).all()


def test_priority_of_nothing() -> None:
    nothing = np.zeros(0)
    assert len(question_priority(nothing, nothing, np.zeros(0, np.int64), 0.5)) == 0
