"""Texts that have most of their shingles in common, found without comparing each with each.

A shingle is a run of three words. If a share `t` of a text's shingles is in another text, then of
any `(1 - t)` of them and one more at least one is: only those, the rarest, are looked up in an
inverted index (prefix filtering; Chaudhuri, Ganti, Kaushik: A Primitive Operator for Similarity
Joins, ICDE 2006). Nothing is hashed and nothing is drawn by lot: what is found is exact. The work
for one text is bounded; what the bound leaves out, among texts that are all alike and yet not the
same, stays.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from ctxpress.plugins.dedupe.words import IntArray

__all__ = ["SHINGLE_WORDS", "FactRuns", "ShingleIndex"]

SHINGLE_WORDS = 3
_MAX_POSTINGS = 64
_MAX_RIVALS = 16
_MAX_RUNS = 64
_SLACK = 1e-9  # 0.9 of 10 must be 9


class ShingleIndex:
    """The shingles of texts, and which other texts have them. `steps` counts the work done."""

    def __init__(self, texts: Sequence[IntArray], threshold: float) -> None:
        self.steps = 0
        self._threshold = threshold
        owners, shingles = _shingles(texts)
        self._shingles = shingles
        self._edges = np.searchsorted(owners, np.arange(len(texts) + 1))
        self._sizes = np.diff(self._edges)
        frequency = np.bincount(shingles) if len(shingles) else np.zeros(0, dtype=np.int64)
        self._frequency = frequency
        self._postings = owners[np.argsort(shingles, kind="stable")]
        self._posted = np.append(0, np.cumsum(frequency))
        common = np.append(0, np.cumsum(frequency[shingles] > 1))
        held = common[self._edges[1:]] - common[self._edges[:-1]]
        self._promising = (held > 0) & (held >= threshold * self._sizes - _SLACK)

    def rivals(self, number: int, below: int) -> list[int]:
        """Texts that may hold the threshold's share of this one's shingles; likely ones first.

        Only those numbered less than `below`: others must not even crowd them out.
        """
        if not self._promising[number]:
            return []
        own = self._of(number)
        probes = int((1 - self._threshold) * len(own) + _SLACK) + 1
        rarest = np.argsort(self._frequency[own], kind="stable")[:probes]
        tally: Counter[int] = Counter()
        for shingle in own[rarest].tolist():
            start, end = self._posted[shingle], self._posted[shingle + 1]
            found = self._postings[start : min(end, start + _MAX_POSTINGS)].tolist()
            self.steps += len(found)
            tally.update(found if found[-1] < below else [one for one in found if one < below])
        del tally[number]
        return [rival for rival, _ in tally.most_common(_MAX_RIVALS)]

    def same(self, one: int, other: int) -> bool:
        """Whether the Jaccard index of two texts' shingles reaches the threshold."""
        sizes = int(self._sizes[one]), int(self._sizes[other])
        if min(sizes) < self._threshold * max(sizes) - _SLACK:
            return False
        common = self._common(one, other)
        return common >= self._threshold * (sum(sizes) - common) - _SLACK

    def contained(self, one: int, other: int) -> bool:
        """Whether the threshold's share of the shingles of `one` is in `other`."""
        wanted = self._threshold * int(self._sizes[one]) - _SLACK
        return int(self._sizes[other]) >= wanted and self._common(one, other) >= wanted

    def _of(self, number: int) -> IntArray:
        return self._shingles[self._edges[number] : self._edges[number + 1]]

    def _common(self, one: int, other: int) -> int:
        small, large = sorted((self._of(one), self._of(other)), key=len)
        self.steps += len(small)
        places = np.searchsorted(large, small)
        places[places == len(large)] = 0
        return int((large[places] == small).sum())


class FactRuns:
    """The facts of a text, to find whether those of another stand in it in one run."""

    def __init__(self, facts: IntArray) -> None:
        self._facts = facts
        self._order = np.argsort(facts, kind="stable")
        self._sorted = facts[self._order]

    def hold(self, wanted: IntArray) -> bool:
        """Whether `wanted` stands in the facts without a gap; true where it is empty.

        Only so many places of its rarest fact are looked at; what is not found there counts as
        not held.
        """
        if not len(wanted):
            return True
        left = np.searchsorted(self._sorted, wanted, side="left")
        times = np.searchsorted(self._sorted, wanted, side="right") - left
        rarest = int(np.argmin(times))
        first = int(left[rarest])
        for place in self._order[first : first + min(int(times[rarest]), _MAX_RUNS)].tolist():
            start = place - rarest
            if start >= 0 and np.array_equal(self._facts[start : start + len(wanted)], wanted):
                return True
        return False


def _shingles(texts: Sequence[IntArray]) -> tuple[IntArray, IntArray]:
    """Owner and number of every different shingle of every text, sorted by owner, then number.

    Shingles are numbered exactly, pair by pair. A text that is shorter than a shingle is one.
    """
    padded = [_padded(text) for text in texts]
    if not padded:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    lengths = np.array([len(text) for text in padded])
    words = np.concatenate(padded) + 1
    numbers = words
    for ahead in range(1, SHINGLE_WORDS):
        pairs = numbers[: len(words) - ahead] * (int(words.max()) + 1) + words[ahead:]
        numbers = np.unique(pairs, return_inverse=True)[1].reshape(-1)
    starts = np.cumsum(lengths) - lengths
    whole = np.ones(len(numbers), dtype=bool)  # not across the edge of two texts
    for back in range(1, SHINGLE_WORDS):
        whole[starts[1:] - back] = False
    owners = np.repeat(np.arange(len(texts)), lengths)[: len(numbers)][whole]
    span = int(numbers.max()) + 1
    both = np.unique(owners * span + numbers[whole])
    return both // span, both % span


def _padded(text: IntArray) -> IntArray:
    missing = SHINGLE_WORDS - len(text)
    if missing <= 0:
        return text
    return np.append(text, np.full(missing, -1, dtype=np.int64))
