"""Which quotes say the same: sections of facts that agree, a distinct fact opening the next.

Refiner has a language model do this (arXiv 2406.11357, section 3). Here it is a graph over quotes:
two are linked where they are about the same names, numbers and rare words and do not contradict
each other; its connected components are the sections.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from itertools import combinations

__all__ = ["contradict", "group_quotes"]

LINK_SIMILARITY = 0.25
"""Cosine of the quotes' weighted words from which on they are about the same."""
MAX_QUOTES = 400
"""Beyond so many quotes the rest are sections of their own: comparing is quadratic."""

_WORD = re.compile(r"\w+(?:[.,]\d+)*")
_NEGATIONS = frozenset(
    "not no never none neither nor cannot without n't isn aren wasn weren don doesn didn won "
    "wouldn can couldn shouldn hasn haven hadn nobody nothing".split()
) - {"can", "won", "don"}
_COMMON = frozenset(
    "the a an and or of in on at to for from by with as is are was were be been being it its this "
    "that these those he she they his her their them which who whom whose what when where why how "
    "has have had do does did will would can could should may might must than then so such into "
    "also after before during over under between about up out more most other some any all "
    "each".split()
)


def group_quotes(quotes: Sequence[str], subjects: Sequence[str | None]) -> list[int]:
    """The group of each quote, numbered from 0 by first appearance.

    `subjects`: titles of the documents they come from, which are part of what they are about.
    """
    bags = [
        _bag(f"{subject or ''} {quote}") for quote, subject in zip(quotes, subjects, strict=True)
    ]
    parent = list(range(len(quotes)))

    def root(number: int) -> int:
        while parent[number] != number:
            parent[number] = number = parent[parent[number]]
        return number

    weights = _weights(bags)
    norms = [math.sqrt(sum((n * weights[w]) ** 2 for w, n in bag.items())) for bag in bags]
    for left, right in combinations(range(min(len(quotes), MAX_QUOTES)), 2):
        if not norms[left] or not norms[right] or root(left) == root(right):
            continue
        shared = bags[left].keys() & bags[right].keys()
        product = sum(bags[left][w] * bags[right][w] * weights[w] ** 2 for w in shared)
        alike = product / (norms[left] * norms[right]) >= LINK_SIMILARITY
        if alike and not contradict(quotes[left], quotes[right]):
            parent[root(right)] = root(left)
    names: dict[int, int] = {}
    return [names.setdefault(root(number), len(names)) for number in range(len(quotes))]


def contradict(left: str, right: str) -> bool:
    """Whether two quotes that are about the same may not both be true, as far as words show.

    One denies and the other does not, or both give numbers and share none of them.
    """
    words = [{word.lower() for word in _WORD.findall(text)} for text in (left, right)]
    denies = [
        bool(found & _NEGATIONS) or "n't" in text
        for found, text in zip(words, (left, right), strict=True)
    ]
    if denies[0] != denies[1]:
        return True
    numbers = [{word for word in found if word[0].isdigit()} for found in words]
    return bool(numbers[0] and numbers[1] and not numbers[0] & numbers[1])


def _bag(text: str) -> Counter[str]:
    """Words that say what a text is about; names count twice."""
    bag: Counter[str] = Counter()
    for match in _WORD.finditer(text):
        word = match.group()
        if word.lower() in _COMMON or len(word) == 1 and word.isascii() and not word.isdigit():
            continue
        bag[word.lower()] += 2 if word[0].isupper() else 1
    return bag


def _weights(bags: Sequence[Counter[str]]) -> dict[str, float]:
    frequency = Counter(word for bag in bags for word in bag)
    return {word: 1 + math.log(len(bags) / count) for word, count in frequency.items()}
