"""From the model's scores of sub-tokens to one priority for every unit."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ctxpress.plugins.token_classification.characters import (
    COMMA,
    ENDER,
    BoolArray,
    FloatArray,
    IntArray,
)
from ctxpress.plugins.token_classification.units import Units

__all__ = [
    "COMMA_FACTOR",
    "ENDER_FACTOR",
    "PAIR_FACTOR",
    "NAME_SHARE",
    "unit_scores",
    "unit_sizes",
    "with_names",
    "with_satellites",
]

COMMA_FACTOR = 0.5
"""Worth of a comma, colon or dash, as part of the lesser of the two words around it."""
ENDER_FACTOR = 0.8
"""The same for full stops, question and exclamation marks."""
PAIR_FACTOR = 0.6
"""Worth of a pair of brackets, quotes or asterisks, as part of the lesser of the words at its
ends."""
NAME_SHARE = 0.5
"""How far the words of a name, and numbers beside them, move to the best of them."""


def unit_scores(
    units: Units, token_starts: npt.NDArray[np.int64], token_scores: npt.NDArray[np.float32]
) -> FloatArray:
    """Mean score of the sub-tokens that begin in each unit, (n_units,).

    A unit without any (characters that the tokenizer drops) scores 0.
    """
    owner = np.searchsorted(units.ends, token_starts, side="right")
    n_units = len(units)
    sums = np.bincount(owner, weights=token_scores, minlength=n_units + 1)[:n_units]
    counts = np.bincount(owner, minlength=n_units + 1)[:n_units]
    return np.asarray(sums / np.maximum(counts, 1))


def unit_sizes(units: Units, token_starts: npt.NDArray[np.int64]) -> FloatArray:
    """Sub-tokens of each unit, at least 1, (n_units,): a rough measure of what it costs."""
    owner = np.searchsorted(units.ends, token_starts, side="right")
    counts = np.bincount(owner, minlength=len(units) + 1)[: len(units)]
    return np.maximum(counts, 1).astype(np.float64)


def with_names(units: Units, priority: FloatArray, sentence: IntArray) -> FloatArray:
    """`priority`, (n_units,), with words of one name close together, so that none is half kept.

    A name is a run of words that begin with a capital or a digit, with nothing but blanks between
    them: `Quincy Jones`, `June 9 1978`. `sentence` numbers the units' sentences.
    """
    index = np.flatnonzero(~units.satellite & ~units.frozen)
    if not len(index):
        return priority
    named = _capital_or_digit(units.characters.points[units.starts[index]])
    joined = (np.diff(index) == 1) & named[1:] & named[:-1]
    joined &= sentence[index[1:]] == sentence[index[:-1]]
    run = np.concatenate([[0], np.cumsum(~joined)])
    best = np.full(int(run[-1]) + 1, -np.inf)
    own = priority[index]
    np.maximum.at(best, run, own)
    result = priority.copy()
    result[index] = own + NAME_SHARE * (best[run] - own)
    return result


def with_satellites(units: Units, priority: FloatArray) -> FloatArray:
    """`priority`, (n_units,), with that of satellites derived from the words around them.

    A satellite is worth part of the lesser of its word and the word after it (of the words at both
    ends for brackets and quotes), and never more than its word. Protected text counts as 1.
    """
    result = np.where(units.frozen, 1.0, priority)
    index = np.flatnonzero(units.satellite)
    if not len(index):
        return result
    words = np.flatnonzero(~units.satellite)
    host = result[units.host[index]]
    place = np.searchsorted(words, index)
    behind = np.where(place < len(words), result[words[np.minimum(place, len(words) - 1)]], host)
    mark = units.mark[index]
    other = np.where(mark > ENDER, result[units.host[units.partner[index]]], behind)
    factor = np.where(
        mark == COMMA, COMMA_FACTOR, np.where(mark == ENDER, ENDER_FACTOR, PAIR_FACTOR)
    )
    result[index] = np.minimum(host, factor * np.minimum(host, other))
    return result


def _capital_or_digit(points: npt.NDArray[np.uint32]) -> BoolArray:
    """Which characters, (n,), are capitals or digits; each distinct one is asked once."""
    distinct, back = np.unique(points, return_inverse=True)
    letters = [chr(code) for code in distinct.tolist()]
    return np.array([c.isupper() or c.isdigit() for c in letters], bool)[back]
