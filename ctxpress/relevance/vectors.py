"""Similarity of vectors: the question's and each sentence's, from one encoder.

With the bundled encoder the vector of a text is the mean of its sub-tokens' vectors, less the mean
over all texts of the call, which takes out what all texts have in common. The encoder was trained
to weigh words, not for similarity: this finds what a text is about, and serves as the baseline
for embeddings; a model of the user's choice does that better.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ctxpress.models.scorer import TokenVectors
from ctxpress.relevance.reading import unit_rows
from ctxpress.relevance.scorer import Relevance, Titled, relevance_of
from ctxpress.relevance.sentences import split_sentences

__all__ = ["TokenEmbedder", "VectorScorer"]

FloatArray = npt.NDArray[np.float32]


class TokenEmbedder(Protocol):
    """What is needed of the encoder; `OnnxTokenScorer` has it."""

    @property
    def identity(self) -> str:
        """Name, version and hash of the model."""

    @property
    def languages(self) -> frozenset[str] | None:
        """Languages with measured quality."""

    def embed(
        self, texts: Sequence[str], *, checkpoint: Callable[[], None] | None = None
    ) -> list[TokenVectors]:
        """Vectors a sub-token of each text."""


class VectorScorer:
    """`RelevanceScorer` by cosine similarity, in [-1, 1]; not calibrated."""

    def __init__(self, embedder: TokenEmbedder) -> None:
        self._embedder = embedder

    @property
    def identity(self) -> str:
        """Algorithm version and model."""
        return f"vectors/1/{self._embedder.identity}"

    @property
    def languages(self) -> frozenset[str] | None:
        """The model's."""
        return self._embedder.languages

    def score(
        self,
        question: str,
        texts: Sequence[Titled],
        *,
        keep_ratio: float | None = None,
        checkpoint: Callable[[], None] | None = None,
    ) -> list[Relevance]:
        """See `RelevanceScorer`; a sentence is seen in the context of its text."""
        sentences = [split_sentences(text.text) for text in texts]
        asked, *read = self._embedder.embed(
            [question, *(text.text for text in texts)], checkpoint=checkpoint
        )
        pooled = [
            np.array([_mean(found, start, end) for start, end in ranges], np.float32)
            for found, ranges in zip(read, sentences, strict=True)
        ]
        everything = [rows for rows in pooled if len(rows)]
        if not everything or not len(asked.starts):
            return [relevance_of(r, np.zeros(len(r), np.float32)) for r in sentences]
        common = np.concatenate(everything).mean(axis=0)
        direction = unit_rows(asked.vectors.mean(axis=0) - common)
        return [
            relevance_of(
                ranges,
                unit_rows(rows - common) @ direction if len(rows) else np.zeros(0, np.float32),
                least=-1.0,
            )
            for ranges, rows in zip(sentences, pooled, strict=True)
        ]


def _mean(found: TokenVectors, start: int, end: int) -> FloatArray:
    first, stop = np.searchsorted(found.starts, [start, end])
    if stop <= first:
        return np.zeros(found.vectors.shape[1], np.float32)
    return np.asarray(found.vectors[first:stop].mean(axis=0), np.float32)
