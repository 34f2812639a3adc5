"""How the question of a turn moves the priorities of units."""

from __future__ import annotations

import numpy as np

from ctxpress.plugins.token_classification.characters import FloatArray, IntArray

__all__ = ["SENTENCE_SHARE", "TOP_UNITS", "question_priority"]

SENTENCE_SHARE = 0.25
"""Part of the question's say that goes by the sentence, the rest by the unit itself."""
TOP_UNITS = 3
"""A sentence is as relevant as this many of its most useful units on average."""


def question_priority(
    keep: FloatArray, use: FloatArray, sentence: IntArray, weight: float
) -> FloatArray:
    """Priority of each unit for a question: coarse by its sentence, fine by itself.

    All arrays are (n_units,): `keep` and `use`, both in [0, 1], are what a unit is worth to any
    reader and to this question; `sentence` numbers the units' sentences, ascending from 0. With
    `weight` 0 the result is `keep`, with 1 only the question counts. Fine-grained scores alone keep
    answers without what they are said of; whole relevant sentences above others is what made
    question-aware compression work in LongLLMLingua (Jiang et al. 2023, section 4.1).
    """
    if weight == 0 or not len(keep):
        return keep
    order = np.lexsort((-use, sentence))
    ordered = sentence[order]
    first = np.searchsorted(ordered, ordered, side="left")
    top = np.arange(len(order)) - first < TOP_UNITS
    n_sentences = int(sentence[-1]) + 1
    sums = np.bincount(ordered[top], weights=use[order][top], minlength=n_sentences)
    counts = np.bincount(ordered[top], minlength=n_sentences)
    relevance = (sums / np.maximum(counts, 1))[sentence]
    asked = (1 - SENTENCE_SHARE) * use + SENTENCE_SHARE * relevance
    return np.asarray((1 - weight) * keep + weight * asked)
