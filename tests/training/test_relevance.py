"""From evidence to chances: the fit finds the weights that the labels were made with."""

from __future__ import annotations

import dataclasses
from typing import cast

import numpy as np
import pytest

from ctxpress.models import OnnxTokenScorer
from ctxpress.relevance.cascade import RelevanceMix
from tests.relevance.readers import TableReader
from training.questions import Item
from training.relevance import ANSWER_WEIGHT, BM25_WEIGHT, UNREAD_CHANCE, _logistic, fit_relevance

TEXTS = (
    "The tower is 330 metres tall. Bees dance. It was built by Eiffel.",
    "Coral reefs need warm water. They grow slowly.",
)
QUOTED = ((0, TEXTS[0].index(" Bees")),)


def item(question: str, quoted: tuple[tuple[tuple[int, int], ...], ...]) -> Item:
    return Item("R1", question, (), ("Tower", "Reef"), TEXTS, quoted, None)


def test_newtons_method_finds_the_slope_and_the_intercept() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=40_000)
    chances = 1 / (1 + np.exp(-(1.7 * values - 0.6)))
    scale, bias = _logistic(values, (rng.random(40_000) < chances).astype(float))
    assert scale == pytest.approx(1.7, abs=0.08)
    assert bias == pytest.approx(-0.6, abs=0.05)


def test_what_can_be_told_apart_perfectly_still_has_finite_weights() -> None:
    scale, bias = _logistic(np.array([-1.0, -2.0, 1.0, 2.0]), np.array([0.0, 0.0, 1.0, 1.0]))
    assert 0 < scale < 1e3
    assert np.isfinite(bias)


def test_the_fit_has_the_fields_of_the_mix_and_evidence_counts() -> None:
    reader = TableReader({"metres": 4.0, "tall": 4.0, "slowly": 4.0, "Bees": -2.0})
    items = [item("How tall is the tower?", (QUOTED, ())), item("How do reefs grow?", ((), ()))]
    weights = fit_relevance(cast(OnnxTokenScorer, reader), items * 3)
    mix = RelevanceMix(**weights)
    assert {field.name for field in dataclasses.fields(mix)} == set(weights)
    assert mix.quote > 0
    assert mix.answer == pytest.approx(ANSWER_WEIGHT * mix.quote, abs=1e-3)
    assert mix.bm25 == pytest.approx(BM25_WEIGHT * mix.quote, abs=1e-3)
    assert 1 / (1 + np.exp(-mix.unread)) == pytest.approx(UNREAD_CHANCE, rel=1e-2)
    assert all(np.isfinite(value) for value in weights.values())


def test_questions_without_any_word_of_the_passages_are_no_error() -> None:
    weights = fit_relevance(cast(OnnxTokenScorer, TableReader()), [item("xyzzy", (QUOTED, ()))])
    assert all(np.isfinite(value) for value in weights.values())
