"""Which quotes say the same: sections of facts that agree, a distinct fact opening the next.

Refiner has a language model do this (arXiv 2406.11357, section 3). Here it is a graph over quotes:
two are linked where they are about the same names, numbers and rare words. Sections grow along the
strongest links first, and never so that two linked quotes that contradict each other share one.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ctxpress.relevance.words import words_of

__all__ = ["MAX_QUOTES", "contradict", "group_quotes"]

LINK_SIMILARITY = 0.25
"""Cosine of the quotes' weighted words from which on they are about the same."""
MAX_QUOTES = 400
"""Beyond so many quotes the rest are sections of their own: comparing is quadratic."""

_NAME = re.compile(r"\b[A-Z\u00c0-\u00de\u0391-\u03a9\u0410-\u042f]\w+")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_THOUSANDS = re.compile(r",(?=\d{3}(?!\d))")
_DENIAL = re.compile(
    r"\b(?:not|no|never|none|neither|nor|cannot|without|nobody|nothing)\b|n't\b", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class _Claims:
    """What of a quote can be told to contradict another."""

    denies: bool
    numbers: frozenset[str]

    @classmethod
    def of(cls, text: str) -> _Claims:
        numbers = (_THOUSANDS.sub("", number) for number in _NUMBER.findall(text))
        denies = _DENIAL.search(text.replace("\u2019", "'")) is not None
        return cls(denies, frozenset(numbers))

    def contradict(self, other: _Claims) -> bool:
        if self.denies != other.denies:
            return True
        return bool(self.numbers and other.numbers and not self.numbers & other.numbers)


def group_quotes(quotes: Sequence[str], subjects: Sequence[str | None]) -> list[int]:
    """The group of each quote, numbered from 0 by first appearance.

    `subjects`: titles of the documents they come from, which are part of what they are about.
    """
    compared = min(len(quotes), MAX_QUOTES)
    bags = [
        _bag(f"{subject or ''} {quote}")
        for quote, subject in zip(quotes[:compared], subjects[:compared], strict=True)
    ]
    claims = [_Claims.of(quote) for quote in quotes[:compared]]
    agreeing: list[tuple[float, int, int]] = []
    # Of each quote's group, as bits: its members, and those that contradict one of them.
    members = [1 << number for number in range(compared)]
    against = [0] * compared
    for similarity, left, right in _links(bags):
        if claims[left].contradict(claims[right]):
            against[left] |= 1 << right
            against[right] |= 1 << left
        else:
            agreeing.append((-similarity, left, right))
    group = list(range(len(quotes)))
    for _, left, right in sorted(agreeing):
        one, other = sorted((group[left], group[right]))
        if one == other or members[one] & against[other]:
            continue
        members[one] |= members[other]
        against[one] |= against[other]
        group = [one if name == other else name for name in group]
    names: dict[int, int] = {}
    return [names.setdefault(name, len(names)) for name in group]


def contradict(left: str, right: str) -> bool:
    """Whether two quotes that are about the same may not both be true, as far as words show.

    One denies and the other does not, or both give numbers and share none of them.
    """
    return _Claims.of(left).contradict(_Claims.of(right))


def _links(bags: Sequence[Counter[str]]) -> list[tuple[float, int, int]]:
    """Pairs that are about the same, with how much."""
    holders = Counter(word for bag in bags for word in bag)
    shared = {word: n for n, word in enumerate(w for w, times in holders.items() if times > 1)}
    counts = np.zeros((len(bags), len(shared)), np.float32)
    alone = np.zeros(len(bags))  # squares of the words that no other quote has
    for number, bag in enumerate(bags):
        for word, times in bag.items():
            if word in shared:
                counts[number, shared[word]] = times
            else:
                alone[number] += times**2
    rarity = 1 + np.log(len(bags) / np.array([holders[word] for word in shared], np.float32))
    values = counts * rarity
    products = values @ values.T
    squares = products.diagonal() + alone * (1 + math.log(max(1, len(bags)))) ** 2
    norms = np.sqrt(np.maximum(squares, 1e-12))
    alike = np.triu(products / np.outer(norms, norms), k=1)
    return [
        (float(alike[left, right]), int(left), int(right))
        for left, right in np.argwhere(alike >= LINK_SIMILARITY)
    ]


def _bag(text: str) -> Counter[str]:
    """Words that say what a text is about; names count twice."""
    bag = Counter(words_of(text))
    bag.update(words_of(" ".join(_NAME.findall(text))))
    return bag
