"""The sentences of a source of which a quote was made in other words, found by those it kept."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ctxpress.document import Range
from ctxpress.plugins.restructure.folding import UNSPACED, fold_word
from ctxpress.relevance import split_sentences

__all__ = ["WordedText", "find_reworded", "words_of"]

_MIN_WORDS, _MAX_WORDS = 4, 512
"""Of a quote: fewer stand in many sentences, more take long."""
_SPREAD, _SPREAD_OF_ONE = 2, 8
"""So many times the quote's words a stretch of sentences may have, or a sentence: in a long text,
any few words stand somewhere in their order."""
_MAX_STEPS = 300_000
"""Words compared for one quote."""
_WORTH = 10
"""Words that a stretch may hold besides, for each word of the quote that it adds."""

_ASCII_WORD = re.compile(r"[^\W_]+", re.ASCII)
_WORD = re.compile(f"[{UNSPACED}]|(?:(?![{UNSPACED}])[^\\W_])+")


def words_of(text: str) -> Iterator[re.Match[str]]:
    """The words and numbers of a text; single characters where a script has no blanks."""
    return (_ASCII_WORD if text.isascii() else _WORD).finditer(text)


@dataclass(frozen=True, slots=True, eq=False)
class WordedText:
    """A text's folded words and its sentences.

    `firsts`, of length n_sentences + 1, holds the index of each sentence's first word and, at its
    end, the number of words.
    """

    words: Sequence[str]
    vocabulary: frozenset[str]
    sentences: tuple[Range, ...]
    firsts: Sequence[int]

    @classmethod
    def of(cls, text: str) -> WordedText:
        """Read any text."""
        sentences = split_sentences(text)
        words: list[str] = []
        firsts: list[int] = []
        for match in words_of(text):
            while len(firsts) < len(sentences) and sentences[len(firsts)].start <= match.start():
                firsts.append(len(words))
            words.append(fold_word(match[0]))
        firsts += [len(words)] * (len(sentences) + 1 - len(firsts))
        return cls(words, frozenset(words), sentences, firsts)


def find_reworded(
    quote: str, texts: Sequence[WordedText], min_share: float
) -> tuple[int, Range] | None:
    """The sentences that hold the most of a quote's words in order, and the index of their text.

    `None` where no stretch of sentences holds `min_share` of the words, and for quotes of under 4
    or over 512 words. The work for one quote is bounded.
    """
    words = [fold_word(match[0]) for match in words_of(quote)]
    if not _MIN_WORDS <= len(words) <= _MAX_WORDS:
        return None
    distinct = set(words)
    needed = math.ceil(min_share * len(words))
    best: tuple[int, int, Range] | None = None
    steps = _MAX_STEPS
    for index, text in enumerate(texts):
        known = distinct & text.vocabulary
        if sum(1 for word in words if word in known) < needed:
            continue
        score, chosen, steps = _best_stretch(words, text, needed, steps)
        if chosen is not None and (best is None or score > best[0]):
            best = (score, index, chosen)
    return None if best is None else best[1:]


def _best_stretch(
    quote: Sequence[str], text: WordedText, needed: int, steps: int
) -> tuple[int, Range | None, int]:
    """The best stretch with at least `needed` words: its score, its range, and the steps left."""
    masks: dict[str, int] = {}
    for position, word in enumerate(quote):
        masks[word] = masks.get(word, 0) | 1 << position
    hits = [0]
    for word in text.words:
        hits.append(hits[-1] + (word in masks))
    best, chosen = 0, None
    firsts = text.firsts
    for begin in range(len(text.sentences)):
        first = firsts[begin]
        limit = min(first + _SPREAD * len(quote), len(text.words))
        if firsts[begin + 1] - first <= _SPREAD_OF_ONE * len(quote):
            limit = max(limit, firsts[begin + 1])
        if hits[limit] - hits[first] < needed:
            continue
        row = (1 << len(quote)) - 1
        for end in range(begin + 1, len(firsts)):
            if firsts[end] > limit or steps <= 0:
                break
            steps -= firsts[end] - firsts[end - 1]
            row = _common(row, len(quote), text.words[firsts[end - 1] : firsts[end]], masks)
            matched = len(quote) - row.bit_count()
            score = (_WORTH + 1) * matched - (firsts[end] - first)
            if matched >= needed and (chosen is None or score > best):
                best = score
                chosen = Range(text.sentences[begin].start, text.sentences[end - 1].end)
    return best, chosen, steps


def _common(row: int, length: int, words: Sequence[str], masks: Mapping[str, int]) -> int:
    """A row of the table of longest common subsequences, as bits, `words` later.

    A zero is a word that is matched. Hyyro, "Bit-parallel LCS-length computation revisited", 2004.
    """
    full = (1 << length) - 1
    for word in words:
        mask = masks.get(word)
        if mask is not None:
            both = row & mask
            row = (row + both | row - both) & full
    return row
