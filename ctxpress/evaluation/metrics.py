"""What survived: answers, numbers, content words; and how sure a mean over items is."""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from ctxpress.document import Range

__all__ = [
    "Interval",
    "answer_survives",
    "bootstrap_interval",
    "content_words",
    "numbers_in",
    "numbers_survive",
    "share_kept",
    "squad_tokens",
]

ARTICLES = frozenset({"a", "an", "the"})
STOP_WORDS = frozenset(
    """a about after again all also am an and any are as at be because been before being both but by
    can could did do does doing don down for from get go going got had has have having he her here
    him his how i if in into is it its just kind know like ll me mean might more most my no not now
    of off okay on one only or other our out over own re really right s same she should so some sort
    such t than that the their them then there these they thing things think this those through to
    too uh um up us ve very was we well were what when where which while who why will with would
    yeah yes you your""".split()
)

_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_WORD = re.compile(r"\w+(?:['’]\w+)*")
_RESAMPLES = 2000
_CONFIDENCE = 0.95


class Interval(NamedTuple):
    """Ends of a confidence interval, in the unit of the values."""

    low: float
    high: float


def squad_tokens(text: str, *, articles: bool = False) -> list[str]:
    """Words of `text` as SQuAD's evaluation script compares them.

    Lower case, punctuation deleted, `a`, `an`, `the` deleted (unless `articles`), white space
    collapsed (Rajpurkar et al. 2016). Beyond the script, which knows ASCII only: text is brought
    to Unicode's form NFC, and punctuation of all scripts is deleted, curly quotes for one.
    """
    lowered = unicodedata.normalize("NFC", text).lower()
    bare = "".join(character for character in lowered if not _is_punctuation(character))
    return [word for word in bare.split() if articles or word not in ARTICLES]


def answer_survives(answers: Sequence[str], text: str) -> bool:
    """Whether one of `answers` stands in `text`: its words in a row, on word borders.

    Both are normalised by :func:`squad_tokens`. An answer that consists of articles ("A" of a
    blood group) is compared with articles kept; one without any word survives nowhere.
    """
    found = {flag: f" {' '.join(squad_tokens(text, articles=flag))} " for flag in (False, True)}
    for answer in answers:
        words = squad_tokens(answer)
        with_articles = not words
        words = words or squad_tokens(answer, articles=True)
        if words and f" {' '.join(words)} " in found[with_articles]:
            return True
    return False


def numbers_in(text: str) -> Counter[str]:
    """Numbers written in digits and how often each occurs; `1,200.50` is one, `1/4` are two."""
    return Counter(match[0] for match in _NUMBER.finditer(text))


def numbers_survive(original: str, compressed: str) -> bool:
    """Whether each number of `original` occurs as often in `compressed`."""
    return numbers_in(original) <= numbers_in(compressed)


def content_words(text: str) -> list[Range]:
    """Ranges of the words of `text` that are not stop words or interjections."""
    return [
        Range(*match.span()) for match in _WORD.finditer(text) if match[0].lower() not in STOP_WORDS
    ]


def share_kept(words: Sequence[Range], kept: Sequence[Range]) -> float:
    """Part of `words` that lie whole in `kept`, both in rising order; 1.0 of no words."""
    if not words:
        return 1.0
    return sum(_inside(words, kept)) / len(words)


def bootstrap_interval(values: Sequence[float]) -> Interval:
    """95 % interval of the mean over items, by resampling items (percentile bootstrap).

    The same values give the same interval.

    :raises ValueError: there are no values.
    """
    if not values:
        raise ValueError("an interval needs at least one value")
    array = np.asarray(values, np.float64)
    rng = np.random.default_rng(0)
    means = [rng.choice(array, len(array)).mean() for _ in range(_RESAMPLES)]
    tail = (1 - _CONFIDENCE) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(float(low), float(high))


def _is_punctuation(character: str) -> bool:
    return character in string.punctuation or unicodedata.category(character).startswith("P")


def _inside(words: Sequence[Range], kept: Sequence[Range]) -> Iterator[bool]:
    at = 0
    for word in words:
        while at < len(kept) and kept[at].end < word.end:
            at += 1
        yield at < len(kept) and kept[at].start <= word.start
