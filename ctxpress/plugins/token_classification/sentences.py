"""Which sentence every unit belongs to, and which sentences are left with too little to say."""

from __future__ import annotations

import numpy as np

from ctxpress.plugins.token_classification.characters import ENDER, BoolArray, IntArray
from ctxpress.plugins.token_classification.units import Units

__all__ = ["number_sentences", "stunted"]


def number_sentences(units: Units) -> IntArray:
    """Number of each unit's sentence, (n_units,), ascending from 0.

    A sentence ends behind a full stop, question or exclamation mark that is not part of its word,
    in any script; at a line break, unless the next line goes on in lower case, as in text that was
    wrapped; and before a list marker.
    """
    n_units = len(units)
    if not n_units:
        return np.zeros(0, np.int64)
    points = units.characters.points
    newlines = np.concatenate([[0], np.cumsum(points == 10)])
    gap = newlines[units.starts[1:]] - newlines[units.ends[:-1]]
    first = points[units.starts[1:]]
    wrapped = (gap == 1) & _lower(first)
    last = points[units.ends[:-1] - 1]
    inner_break = units.frozen[:-1] & (last == 10)
    ends = (gap > 0) & ~wrapped | inner_break | units.dependent[1:]
    # The same inside a quotation that is one unit: its last mark, or the one before the quote.
    trails = units.characters.trails
    inside = (trails[units.ends - 1] == ENDER) | (trails[units.ends - 2] == ENDER)
    ends |= (inside & (units.words > 1) & ~units.frozen)[:-1]
    # What trails an ender (a closing quote) still belongs to its sentence.
    ender = np.concatenate([[0], np.cumsum(units.mark == ENDER)])
    core = np.flatnonzero(~units.satellite | (units.host > np.arange(n_units)))
    passed = np.zeros(n_units - 1, bool)
    passed[core[1:] - 1] = ender[core[1:]] > ender[core[:-1]]
    return np.concatenate([[0], np.cumsum(ends | passed)]).astype(np.int64)


def stunted(
    units: Units, sentence: IntArray, kept: BoolArray, exempt: BoolArray, minimum: int
) -> BoolArray:
    """Sentences, (n_sentences,), of which less than `minimum` words are kept, and not all.

    `exempt`: (n_units,) words whose sentence stays whatever is left of it. Sentences of which
    nothing is kept are not stunted.
    """
    word = ~units.satellite & ~units.dependent
    n_sentences = int(sentence[-1]) + 1
    words = np.where(word, units.words, 0)
    all_words = np.bincount(sentence, weights=words, minlength=n_sentences)
    left = np.bincount(sentence, weights=words * kept, minlength=n_sentences)
    spared = np.bincount(sentence, weights=exempt & kept & word, minlength=n_sentences) > 0
    return np.asarray((left > 0) & (left < np.minimum(minimum, all_words)) & ~spared)


def _lower(points: np.ndarray[tuple[int], np.dtype[np.uint32]]) -> BoolArray:
    """Which characters, (n,), are lower-case letters; each distinct one is asked once."""
    distinct, back = np.unique(points, return_inverse=True)
    return np.array([chr(code).islower() for code in distinct.tolist()], bool)[back]
