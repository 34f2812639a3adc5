"""What documents know about a question: evidence by sentence, repeated sentences counted once."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ctxpress.relevance.scorer import Relevance
from ctxpress.relevance.words import words_of

__all__ = ["Evidence", "evidence_of", "repeated"]

FloatArray = npt.NDArray[np.float64]

BASE_CHANCE = 0.1
"""A sentence with no more chance of use than this is of none; half the best's, if that is less."""
NO_CHANCE = 1e-6
CERTAIN = 0.98
UNCALIBRATED_TOP = 0.9
"""Where scores are no chances, the best sentence gets this one, the worst 0."""
TOP_SENTENCES = 3
"""A document is of use if one of so many of its best sentences is."""
MAX_SENTENCES = 1_024
SAME_WORDS = 0.7
"""Sentences that share this part of their words, and all their numbers, say the same."""
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """`facts`, (n_documents, n_facts): what each document has on each fact, in nats, >= 0.

    A fact is what sentences that repeat each other say; sentences that are of no use have none.
    `useful`, (n_documents,), in [0, 1]: the chance that a reader finds use for the document.
    """

    facts: FloatArray
    useful: FloatArray


def evidence_of(relevances: Sequence[Relevance], texts: Sequence[str]) -> Evidence:
    """Evidence of documents from their sentences' scores.

    A sentence with chance p of being of use is worth -ln(1 - p), so that sentences combine as in a
    noisy-or: their evidence adds up, their chances of all being useless multiply. Where nothing
    tells sentences apart, every document is a fact of its own.
    """
    chances = _chances(relevances)
    best = max((float(values.max()) for values in chances if len(values)), default=0.0)
    if best <= NO_CHANCE:
        return Evidence(np.eye(len(texts)), np.ones(len(texts)))
    base = min(BASE_CHANCE, best / 2)
    found: list[tuple[float, int, str]] = []
    for number, (relevance, values) in enumerate(zip(relevances, chances, strict=True)):
        for (start, end), chance in zip(relevance.sentences, values, strict=True):
            if chance > base:
                worth = -float(np.log1p(-(chance - base) / (1 - base)))
                found.append((worth, number, texts[number][start:end]))
    found.sort(key=lambda one: -one[0])
    del found[MAX_SENTENCES:]
    fact = repeated([text for _, _, text in found])
    facts = np.zeros((len(texts), max(fact) + 1))
    for (worth, number, _), column in zip(found, fact, strict=True):
        facts[number, column] = max(facts[number, column], worth)
    top = np.sort(facts, axis=1)[:, -TOP_SENTENCES:].sum(axis=1)
    return Evidence(facts, -np.expm1(-top))


def _chances(relevances: Sequence[Relevance]) -> list[FloatArray]:
    """The sentences' chances in [0, CERTAIN]; all 0 where nothing tells sentences apart."""
    scores = [one.sentence_scores.astype(np.float64) for one in relevances]
    if all(one.calibrated for one in relevances):
        return [np.clip(values, 0.0, CERTAIN) for values in scores]
    everything = np.concatenate(scores) if scores else np.zeros(0)
    if not len(everything) or everything.max() <= everything.min():
        return [np.zeros(len(values)) for values in scores]
    low, high = everything.min(), everything.max()
    # Divided before the difference is taken: scores may be as large as floats are.
    scale = max(abs(low), abs(high))
    span = high / scale - low / scale
    return [(values / scale - low / scale) / span * UNCALIBRATED_TOP for values in scores]


def repeated(sentences: Sequence[str]) -> list[int]:
    """A number for each sentence, from 0; sentences that say the same have the same.

    The first of them leads: others are compared with it (Jaccard similarity of their folded words
    at least SAME_WORDS, and the same numbers), so likeness does not wander through a chain.
    """
    groups: list[int] = []
    sizes: list[int] = []
    numbers: list[frozenset[str]] = []
    having: dict[str, list[int]] = {}
    for sentence in sentences:
        words = set(words_of(sentence)) or {sentence.strip()}
        own = frozenset(_NUMBER.findall(sentence))
        shared = Counter(leader for word in words for leader in having.get(word, ()))
        same = [
            leader
            for leader, common in shared.items()
            if common >= SAME_WORDS * (len(words) + sizes[leader] - common)
            and numbers[leader] == own
        ]
        if same:
            groups.append(min(same))
            continue
        groups.append(len(sizes))
        for word in words:
            having.setdefault(word, []).append(len(sizes))
        sizes.append(len(words))
        numbers.append(own)
    return groups
