"""Reads question and text together with the bundled encoder: the query-focused pruner.

One trunk compresses text and judges it for a question (`models/bundled/CARD.md`): it reads
`[CLS] question [SEP] title text [SEP]` and says of every sub-token whether it stands in something
that helps, and whether it is an answer. A sentence is worth what its sub-tokens say together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ctxpress.document import Range
from ctxpress.models.scorer import TokenEvidence
from ctxpress.relevance.affinity import WordReader
from ctxpress.relevance.reading import head_of
from ctxpress.relevance.scorer import Titled

__all__ = ["Evidence", "JointEvidence", "JointReader", "sentence_evidence"]

FloatArray = npt.NDArray[np.float32]
Evidence = FloatArray
"""(n_sentences, 2): the mean logit of `quote` in the best stretch, the largest of `answer`."""
QUOTE, ANSWER = range(2)
STRETCH_TOKENS = 24
"""A sentence is of use as its best stretch is: what else a long one says takes nothing away."""
NO_EVIDENCE = -12.0
"""Logit of a sentence without sub-tokens: blanks and controls only."""


class JointReader(WordReader, Protocol):
    """What is needed of the encoder; `OnnxTokenScorer` has it."""

    @property
    def identity(self) -> str:
        """Name, version and hash of the model."""

    @property
    def languages(self) -> frozenset[str] | None:
        """Languages with measured quality."""

    def read_jointly(
        self,
        texts: Sequence[str],
        question: str,
        *,
        checkpoint: Callable[[], None] | None = None,
    ) -> list[TokenEvidence]:
        """Logits a sub-token of each text."""


def sentence_evidence(
    found: TokenEvidence, sentences: Sequence[Range], title_characters: int
) -> Evidence:
    """What the sub-tokens of each sentence say; `found` covers the title before the text."""
    rows = np.full((len(sentences), 2), NO_EVIDENCE, np.float32)
    if not len(found.starts) or not sentences:
        return rows
    starts = found.starts - title_characters
    edges = np.searchsorted(starts, [sentence.start for sentence in sentences])
    stops = np.append(edges[1:], len(starts))
    for row, (first, stop) in enumerate(zip(edges, stops, strict=True)):
        if stop > first:
            rows[row] = _best_stretch(found.quote[first:stop]), found.answer[first:stop].max()
    return rows


def _best_stretch(logits: FloatArray) -> float:
    """The largest mean of `STRETCH_TOKENS` logits in a row, or of all if there are fewer."""
    if len(logits) <= STRETCH_TOKENS:
        return float(logits.mean())
    sums = np.cumsum(np.concatenate([[0.0], logits]), dtype=np.float64)
    return float((sums[STRETCH_TOKENS:] - sums[:-STRETCH_TOKENS]).max() / STRETCH_TOKENS)


class JointEvidence:
    """Gathers the evidence of texts for a question from one encoder."""

    def __init__(self, reader: JointReader) -> None:
        self._reader = reader

    @property
    def identity(self) -> str:
        """The model's."""
        return self._reader.identity

    @property
    def languages(self) -> frozenset[str] | None:
        """The model's."""
        return self._reader.languages

    @property
    def reader(self) -> JointReader:
        """The encoder."""
        return self._reader

    def of(
        self,
        question: str,
        texts: Sequence[Titled],
        sentences: Sequence[Sequence[Range]],
        *,
        checkpoint: Callable[[], None] | None = None,
    ) -> list[Evidence]:
        """What is said of the sentences of each text; the title is read with each text."""
        heads = [head_of(text) for text in texts]
        read = self._reader.read_jointly(
            [head + text.text for head, text in zip(heads, texts, strict=True)],
            question,
            checkpoint=checkpoint,
        )
        return [
            sentence_evidence(found, ranges, len(head))
            for found, ranges, head in zip(read, sentences, heads, strict=True)
        ]
