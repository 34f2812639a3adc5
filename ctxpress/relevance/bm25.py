"""Relevance by words: BM25 over the sentences and the texts of one call.

Robertson and Zaragoza (2009, "The Probabilistic Relevance Framework: BM25 and Beyond"), in the
variant of Lucene, computed with `bm25s`. The collection is what the caller gives, so a word that
is in every text of it says little: the texts were retrieved for the question already.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ctxpress.relevance.scorer import Relevance, Titled
from ctxpress.relevance.sentences import split_sentences
from ctxpress.relevance.words import words_among, words_of

__all__ = ["BM25Scorer"]

FloatArray = npt.NDArray[np.float32]

_ALGORITHM = "bm25/1"
_BATCH = 32
"""Texts between two checkpoints."""


class BM25Scorer:
    """Scores by the words that question and text share. Any language, no model, no state.

    `k1` and `b` are BM25's saturation and length parameters. A sentence's score is its own BM25
    among all sentences, and `passage_share` of its text's BM25 among all texts, where a title is
    part of its text; a text's score is its BM25. Not calibrated: scores compare within a call.
    """

    def __init__(self, *, k1: float = 1.2, b: float = 0.75, passage_share: float = 0.3) -> None:
        import bm25s  # late: a seventh of a second, for those who use it

        self._new_index: Callable[[], Any] = lambda: bm25s.BM25(
            k1=k1, b=b, method="lucene", backend="numpy"
        )
        self._passage_share = passage_share
        self._identity = f"{_ALGORITHM}+k1={k1}+b={b}+share={passage_share}"
        self._identity += f"+bm25s/{bm25s.__version__}"

    @property
    def identity(self) -> str:
        """Algorithm, parameters, and the library's version."""
        return self._identity

    @property
    def languages(self) -> frozenset[str] | None:
        """Any."""
        return None

    def score(
        self,
        question: str,
        texts: Sequence[Titled],
        *,
        keep_ratio: float | None = None,
        checkpoint: Callable[[], None] | None = None,
    ) -> list[Relevance]:
        """One `Relevance` a text, all of zeros where question and texts have no word in common."""
        vocabulary = _vocabulary(question)
        sentences, by_sentence, by_text = [], [], []
        for number, titled in enumerate(texts):
            if checkpoint is not None and number % _BATCH == 0:
                checkpoint()
            ranges = split_sentences(titled.text)
            ids = [_ids(titled.text[start:end], vocabulary) for start, end in ranges]
            title = _ids(titled.title or "", vocabulary)
            sentences.append(ranges)
            by_sentence += ids
            by_text.append([*title, *(word for sentence in ids for word in sentence)])
        text_scores = self._scores(by_text, len(vocabulary))
        sentence_scores = self._scores(by_sentence, len(vocabulary))
        results, start = [], 0
        for ranges, score in zip(sentences, text_scores, strict=True):
            own = sentence_scores[start : start + len(ranges)]
            start += len(ranges)
            results.append(
                Relevance(
                    score=float(score),
                    sentences=ranges,
                    sentence_scores=own + np.float32(self._passage_share) * score,
                )
            )
        return results

    def text_scores(
        self,
        question: str,
        texts: Sequence[Titled],
        *,
        checkpoint: Callable[[], None] | None = None,
    ) -> FloatArray:
        """The scores of whole texts, (n_texts,): those of `score`, without its sentences' work."""
        vocabulary = _vocabulary(question)
        collection = []
        for number, text in enumerate(texts):
            if checkpoint is not None and number % _BATCH == 0:
                checkpoint()
            collection.append(_ids(f"{text.title or ''}\n{text.text}", vocabulary))
        return self._scores(collection, len(vocabulary))

    def _scores(self, collection: list[list[int]], n_words: int) -> FloatArray:
        """BM25 of each member of `collection`, (n,), for a question of the words 0 to n_words."""
        if n_words == 0 or not any(collection):
            return np.zeros(len(collection), np.float32)
        index = self._new_index()
        # Its low-level calls: the others write to a log at a level of their own.
        index.scores = index.build_index_from_ids(
            range(n_words + 1), collection, show_progress=False
        )
        return np.asarray(index.get_scores_from_ids(range(n_words)), np.float32)


def _vocabulary(question: str) -> dict[str, int]:
    """The words of `question`, numbered as they appear."""
    return {word: number for number, word in enumerate(dict.fromkeys(words_of(question)))}


def _ids(text: str, vocabulary: dict[str, int]) -> list[int]:
    """The words of `text` as numbers; all that the question has not are one word.

    They only count for the length, so the index is as small as the question.
    """
    other = len(vocabulary)
    return [other if word is None else vocabulary[word] for word in words_among(text, vocabulary)]
