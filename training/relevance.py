"""From what the encoder says of a sentence to the chance that it is quoted for the question.

A logistic regression with two free numbers, on questions that were not trained on. How evidence and
BM25 weigh against each other is fixed. `answer` weighs one and a half times as much as `quote`: for
the chance that a sentence holds an annotated answer, maximum likelihood over the same questions
gives 1.5 with negatives mined by BM25 among the passages and 2.1 without. (For the chance that it
is quoted it gives a tenth of that, but a quote without the answer is of little use.) BM25 weighs
twice as much as `quote`; on development questions nothing between one and four times made a
difference.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ctxpress.models import OnnxTokenScorer
from ctxpress.relevance import split_sentences
from ctxpress.relevance.bm25 import BM25Scorer
from ctxpress.relevance.joint import ANSWER, QUOTE, JointEvidence
from ctxpress.relevance.scorer import Titled
from training.questions import Item

QUOTE_WEIGHT, ANSWER_WEIGHT, BM25_WEIGHT = 1.0, 1.5, 2.0
UNREAD_CHANCE = 0.002
"""Of a sentence whose text BM25 finds no good and nobody read."""
_STEPS = 60


def fit_relevance(scorer: OnnxTokenScorer, items: Sequence[Item]) -> dict[str, float]:
    """The fields of `ctxpress.relevance.cascade.RelevanceMix`, from held-out questions."""
    values, truths = [], []
    words, joint = BM25Scorer(), JointEvidence(scorer)
    for item in items:
        texts = [Titled(*pair) for pair in zip(item.passages, item.titles, strict=True)]
        sentences = [split_sentences(text.text) for text in texts]
        bm25 = words.text_scores(item.question, texts).astype(np.float64)
        bm25 /= max(float(bm25.max()), 1e-9)
        evidence = joint.of(item.question, texts, sentences)
        for ranges, rows, share, quoted in zip(sentences, evidence, bm25, item.quoted, strict=True):
            mixed = QUOTE_WEIGHT * rows[:, QUOTE] + ANSWER_WEIGHT * rows[:, ANSWER]
            values += list(mixed + BM25_WEIGHT * share)
            truths += [any(a < end and start < b for a, b in quoted) for start, end in ranges]
    scale, bias = _logistic(np.array(values), np.array(truths, float))
    return {
        "quote": round(scale * QUOTE_WEIGHT, 4),
        "answer": round(scale * ANSWER_WEIGHT, 4),
        "bm25": round(scale * BM25_WEIGHT, 4),
        "bias": round(bias, 4),
        "unread": round(float(np.log(UNREAD_CHANCE / (1 - UNREAD_CHANCE))), 4),
    }


def _logistic(
    values: npt.NDArray[np.float64], truths: npt.NDArray[np.float64]
) -> tuple[float, float]:
    """Slope and intercept of the maximum-likelihood fit, by Newton's method."""
    rows = np.stack([values, np.ones_like(values)], axis=1)
    weights = np.zeros(2)
    for _ in range(_STEPS):
        chances = 1 / (1 + np.exp(-np.clip(rows @ weights, -30, 30)))
        slope = rows.T @ (truths - chances)
        bend = (rows * (chances * (1 - chances))[:, None]).T @ rows + 1e-6 * np.eye(2)
        weights += np.linalg.solve(bend, slope)
    return float(weights[0]), float(weights[1])
