"""What a combination of documents is worth for a question."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from ctxpress.errors import StageError
from ctxpress.plugins.select.evidence import Evidence, FloatArray
from ctxpress.plugins.select.search import Combination
from ctxpress.relevance.scorer import RelevanceScorer, Titled

__all__ = ["EvidenceReward", "JoinedReward"]

IntArray = npt.NDArray[np.int64]

RECALL_WEIGHT = 2.0
"""How many times finding evidence matters more than leaving out text without: F2."""
MIDDLE_LOSS = 0.2
"""Part of a fact that is lost in the middle of ten documents or more; less of fewer."""
_FEW, _MANY = 2, 10
_JOINT = "\n\n"


class EvidenceReward:
    """F-measure of evidence found and of text that is of use, in [0, 1].

    Recall is the evidence in the combination as a part of all there is. What is in the middle
    counts for less, up to MIDDLE_LOSS (Liu et al. 2023, "Lost in the Middle"), so order matters.
    Precision is the part of the tokens that is of use: those of a document count by the chance
    that it is useful, and by how much of its evidence is new where it stands. So repetition and
    distraction cost reward, and a document that adds little is better left out.
    """

    def __init__(
        self, evidence: Evidence, tokens: Sequence[int], *, always: Sequence[int] = ()
    ) -> None:
        """`tokens`, (n_documents,), at least 1 each; documents in `always` are part of all."""
        self._facts, self._useful = evidence.facts, evidence.useful
        self._tokens = np.asarray(tokens, np.float64)
        self._own = self._facts.sum(axis=1)
        self._all = float(self._facts.max(axis=0, initial=0.0).sum())
        self._known = np.zeros(self._facts.shape[1])
        self._always_useful = 0.0
        for number in always:
            gain = float(np.maximum(self._facts[number] - self._known, 0).sum())
            self._always_useful += self._useful_tokens(np.array([number]), np.array([gain]))[0]
            self._known = np.maximum(self._known, self._facts[number])
        self._always_tokens = float(self._tokens[list(always)].sum())

    def evaluate(self, batch: Sequence[Combination]) -> list[float]:
        """One number in [0, 1] a combination."""
        lengths = np.array([len(key) for key in batch])
        width = int(lengths.max(initial=0))
        numbers = np.zeros((len(batch), width), np.int64)
        for row, key in enumerate(batch):
            numbers[row, : len(key)] = key
        there = np.arange(width) < lengths[:, None]
        gains = np.zeros((len(batch), width))
        known = np.tile(self._known, (len(batch), 1))
        for place in range(width):
            rows = np.flatnonzero(there[:, place])
            facts = self._facts[numbers[rows, place]]
            gains[rows, place] = np.maximum(facts - known[rows], 0).sum(axis=1)
            known[rows] = np.maximum(known[rows], facts)
        seen = (gains * _attention(lengths, width)).sum(axis=1) + self._known.sum()
        useful = (self._useful_tokens(numbers, gains) * there).sum(axis=1) + self._always_useful
        tokens = (self._tokens[numbers] * there).sum(axis=1) + self._always_tokens
        recall = seen / max(self._all, 1e-12)
        precision = useful / np.maximum(tokens, 1.0)
        weight = RECALL_WEIGHT**2
        below = np.maximum(weight * precision + recall, 1e-12)
        return [float(value) for value in (1 + weight) * precision * recall / below]

    def _useful_tokens(self, numbers: IntArray, gains: FloatArray) -> FloatArray:
        own = self._own[numbers]
        new = np.divide(gains, own, out=np.zeros_like(own), where=own > 0)
        result: FloatArray = self._tokens[numbers] * self._useful[numbers] * new
        return result


class JoinedReward:
    """A scorer's judgement of the combination read as one text: the reward of the paper."""

    def __init__(
        self,
        scorer: RelevanceScorer,
        question: str,
        texts: Sequence[Titled],
        *,
        always: Sequence[int] = (),
        checkpoint: Callable[[], None] | None = None,
    ) -> None:
        self._scorer = scorer
        self._question = question
        self._texts = [f"{one.title}\n{one.text}" if one.title else one.text for one in texts]
        self._always = tuple(always)
        self._checkpoint = checkpoint

    def evaluate(self, batch: Sequence[Combination]) -> list[float]:
        """One score a combination, all from one call of the scorer.

        :raises StageError: the scorer is not calibrated, so its calls do not compare.
        """
        joined = [
            Titled(_JOINT.join(self._texts[number] for number in (*self._always, *key)))
            for key in batch
        ]
        found = self._scorer.score(self._question, joined, checkpoint=self._checkpoint)
        if not all(one.calibrated for one in found):
            raise StageError(
                f"reward: joined compares scores of many calls, and those of "
                f"{self._scorer.identity} are not calibrated; set reward: evidence"
            )
        return [one.score for one in found]


def _attention(lengths: IntArray, width: int) -> FloatArray:
    """How much a reader makes of each place, (n_combinations, width), in [1 - MIDDLE_LOSS, 1]."""
    along = np.arange(width) / np.maximum(lengths - 1, 1)[:, None]
    loss = MIDDLE_LOSS * np.clip((lengths - _FEW) / (_MANY - _FEW), 0, 1)
    result: FloatArray = 1 - loss[:, None] * 4 * along * (1 - along)
    return result
