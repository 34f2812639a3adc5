"""Affinity of words: which texts have words like the question's, before anybody reads them.

BM25 misses a text that answers in other words. Here each word of the question, or piece of a rare
one, is matched with the piece of the text that is most like it, by the vectors that the encoder
gives single pieces: the late interaction of ColBERT (Khattab and Zaharia 2020, section 3.2) with no
encoder in front. How much a match counts is BM25's inverse document frequency, over matches in
part. It costs a hundredth of reading.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ctxpress.relevance.reading import head_of, unit_rows
from ctxpress.relevance.scorer import Titled
from ctxpress.relevance.words import STOPWORDS

__all__ = ["WordAffinity", "WordReader"]

FloatArray = npt.NDArray[np.float32]

_CHANCE_COSINE = 0.1
"""Any two pieces are about so much alike; a match in part begins there."""
_MAX_WORDS_KNOWN = 32_768  # bounds the memory of known words: at most 5 MB
_WORD = re.compile(r"[^\W_]+")
_SILENT = STOPWORDS | {"s", "t"}
"""Function words, and what is left of a genitive or a negation."""


class WordReader(Protocol):
    """What is needed of the encoder; `OnnxTokenScorer` has it."""

    def word_pieces(self, words: Sequence[str]) -> list[tuple[int, ...]]:
        """The ids of each word's sub-tokens, none for a word that it does not know."""

    def word_vectors(self, token_ids: npt.NDArray[np.int32]) -> FloatArray:
        """A vector, of any length, for each id."""


class WordAffinity:
    """Compares words by the vectors of one encoder. Thread-safe."""

    identity = "affinity/1"

    def __init__(self, reader: WordReader) -> None:
        self._reader = reader
        self._known: dict[str, tuple[int, ...]] = {}

    def of(self, question: str, texts: Sequence[Titled]) -> FloatArray:
        """How much each text is about what the question is about, (n_texts,), 0 or more.

        Scores compare within a call. All are 0 where the question is made of function words.
        """
        words = [_words(head_of(text) + text.text) for text in texts]
        asked = _words(question)
        pieces = self._pieces({*asked, *(word for some in words for word in some)})
        wanted = _ids(asked, pieces)
        everything = _ids(pieces, pieces)
        best = np.zeros((len(texts), len(wanted)), np.float32)
        if not len(wanted):
            return np.zeros(len(texts), np.float32)
        directions = unit_rows(self._reader.word_vectors(wanted))
        cosines = unit_rows(self._reader.word_vectors(everything)) @ directions.T
        alike = np.clip((cosines - _CHANCE_COSINE) / (1 - _CHANCE_COSINE), 0, 1)
        for row, some in zip(best, words, strict=True):
            held = _ids(some, pieces)
            if len(held):
                row[:] = alike[np.searchsorted(everything, held)].max(axis=0)
        frequency = best.sum(axis=0)
        rarity = np.log1p((len(texts) - frequency + 0.5) / (frequency + 0.5))
        return np.asarray(best @ rarity, np.float32)

    def _pieces(self, words: set[str]) -> dict[str, tuple[int, ...]]:
        """The pieces of each word; the words of a language come again and again."""
        known = self._known
        fresh = sorted(word for word in words if word not in known)
        cut = dict(zip(fresh, self._reader.word_pieces(fresh), strict=True))
        found = {word: cut[word] if word in cut else known[word] for word in words}
        if len(known) + len(cut) > _MAX_WORDS_KNOWN:
            self._known = {}  # what stays in use is soon known again
        else:
            known.update(cut)
        return found


def _words(text: str) -> set[str]:
    """The different words of `text` that say something."""
    return {word for word in _WORD.findall(text.lower()) if word not in _SILENT}


def _ids(words: Iterable[str], pieces: dict[str, tuple[int, ...]]) -> npt.NDArray[np.int32]:
    """The different pieces of some words, ascending."""
    found = {piece for word in words for piece in pieces[word]}
    return np.array(sorted(found), np.int32)
