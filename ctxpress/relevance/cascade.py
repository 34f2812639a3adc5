"""The bundled relevance scorer: words are looked at everywhere, the encoder reads what looks best.

BM25 over whole passages finds which document a question is about, reading question and text
together finds where in it the answer stands; each errs where the other does not, so a sentence's
score is a logistic mix of both. Texts are read in chunks of whole sentences, so that one long
document costs no more than many short ones, and only the better chunks by the affinity of their
words are read: that is what keeps twenty passages within a request's time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ctxpress.document import Range
from ctxpress.relevance.affinity import WordAffinity
from ctxpress.relevance.bm25 import BM25Scorer
from ctxpress.relevance.joint import ANSWER, QUOTE, Evidence, JointEvidence
from ctxpress.relevance.scorer import Relevance, Titled, relevance_of
from ctxpress.relevance.sentences import split_sentences
from ctxpress.relevance.speech import conversations, with_surroundings

__all__ = ["CascadeScorer", "RelevanceMix"]

CHUNK_CHARACTERS = 900
"""About 200 sub-tokens: with question and title, one window of the encoder."""
_READ_OF_KEPT = 1.5
_COMPARED_OF_READ = 4
"""Of more chunks than so many times what may be read, only the best by BM25 are compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RelevanceMix:
    """Weights of a sentence's logit; they belong to the encoder's weights and ship with them.

    `quote` weighs the mean logit of being quoted in its best stretch, `answer` its largest of being
    an answer, `bm25` its text's BM25 as a share of the best text's. `unread` is the logit of
    sentences that were not read, to which `bm25` is added as well. Fitted by `training.relevance`.
    """

    quote: float
    answer: float
    bm25: float
    bias: float
    unread: float

    def logits(self, evidence: Evidence, bm25: float) -> npt.NDArray[np.float32]:
        """Logits of sentences, (n_sentences,), all of a text with this share of BM25."""
        mixed = self.quote * evidence[:, QUOTE] + self.answer * evidence[:, ANSWER]
        return np.asarray(mixed + (self.bm25 * bm25 + self.bias), np.float32)


@dataclass(frozen=True, slots=True)
class _Piece:
    """Sentences `[first, stop)` of the text number `text`."""

    text: int
    first: int
    stop: int


@dataclass(frozen=True, slots=True)
class _Chunk:
    """What the encoder reads at a time: pieces of one text, or of several short ones in a row."""

    pieces: tuple[_Piece, ...]
    read: Titled
    sentences: tuple[Range, ...]


def _chunks(texts: Sequence[Titled], sentences: Sequence[Sequence[Range]]) -> list[_Chunk]:
    """All sentences in chunks of at most `CHUNK_CHARACTERS`, or of one longer sentence.

    Texts with titles of their own are not read together, those without are: the turns of a
    conversation are understood from their neighbours.
    """
    chunks: list[_Chunk] = []
    pending: list[_Piece] = []
    size = 0
    for number, ranges in enumerate(sentences):
        for first, stop in _runs(ranges):
            length = ranges[stop - 1].end - ranges[first].start
            apart = bool(texts[number].title) or not pending
            if pending and (apart or size + length > CHUNK_CHARACTERS):
                chunks.append(_chunk(texts, sentences, pending))
                pending, size = [], 0
            pending.append(_Piece(number, first, stop))
            size += length
            if texts[number].title:
                chunks.append(_chunk(texts, sentences, pending))
                pending, size = [], 0
    if pending:
        chunks.append(_chunk(texts, sentences, pending))
    return chunks


def _runs(sentences: Sequence[Range]) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    first = 0
    for number, sentence in enumerate(sentences):
        if number > first and sentence.end - sentences[first].start > CHUNK_CHARACTERS:
            runs.append((first, number))
            first = number
    if first < len(sentences):
        runs.append((first, len(sentences)))
    return runs


def _chunk(
    texts: Sequence[Titled], sentences: Sequence[Sequence[Range]], pieces: Sequence[_Piece]
) -> _Chunk:
    parts, ranges, at = [], [], 0
    for piece in pieces:
        mine = sentences[piece.text][piece.first : piece.stop]
        shift = at - mine[0].start
        ranges += [Range(start + shift, end + shift) for start, end in mine]
        parts.append(texts[piece.text].text[mine[0].start : mine[-1].end])
        at += len(parts[-1]) + 1
    title = texts[pieces[0].text].title
    return _Chunk(tuple(pieces), Titled("\n".join(parts), title), tuple(ranges))


class CascadeScorer:
    """`RelevanceScorer` over BM25 and the encoder; scores are calibrated.

    The encoder reads chunks by falling affinity of their words with the question's: first
    `read_at_least`, or one and a half times what the caller is going to keep. Where a sentence in
    them is of use with a chance of `sure`, that is all; else it reads on, up to `read_share` of all
    chunks, and to `read_at_most`. In conversations, what was said around a sentence counts for it
    (`speech`); these chances are an order more than estimates.
    """

    def __init__(
        self,
        joint: JointEvidence,
        mix: RelevanceMix,
        *,
        read_at_least: int = 8,
        read_share: float = 0.9,
        read_at_most: int = 64,
        sure: float = 0.8,
    ) -> None:
        self._joint = joint
        self._mix = mix
        self._words = BM25Scorer()
        self._affinity = WordAffinity(joint.reader)
        self._read_at_least = read_at_least
        self._read_share = read_share
        self._read_at_most = max(read_at_least, read_at_most)
        self._sure = sure

    @property
    def identity(self) -> str:
        """Algorithm versions, model and settings."""
        settings = f"{self._read_at_least}-{self._read_share}-{self._read_at_most}-{self._sure}"
        parts = (self._words.identity, self._affinity.identity, self._joint.identity)
        return f"cascade/3/{settings}/{'/'.join(parts)}/{self._mix}"

    @property
    def languages(self) -> frozenset[str] | None:
        """The encoder's."""
        return self._joint.languages

    def score(
        self,
        question: str,
        texts: Sequence[Titled],
        *,
        keep_ratio: float | None = None,
        checkpoint: Callable[[], None] | None = None,
    ) -> list[Relevance]:
        """See `RelevanceScorer`."""
        sentences = [split_sentences(text.text) for text in texts]
        chunks = _chunks(texts, sentences)
        text_bm25 = self._shares(question, texts, checkpoint)
        values = [
            np.full(len(ranges), self._mix.unread + self._mix.bm25 * float(share), np.float32)
            for ranges, share in zip(sentences, text_bm25, strict=True)
        ]
        n_first, n_most = self._n_read(len(chunks), keep_ratio)
        order = list(range(len(chunks)))
        if n_first < len(chunks):
            order = self._by_affinity(question, [chunk.read for chunk in chunks], checkpoint)

        def read(numbers: Sequence[int]) -> float:
            """Score the sentences of some chunks, the longest first; the highest logit."""
            best = -math.inf
            numbers = sorted(numbers, key=lambda number: -len(chunks[number].read.text))
            chosen = [chunks[number] for number in numbers]
            evidence = self._joint.of(
                question,
                [chunk.read for chunk in chosen],
                [chunk.sentences for chunk in chosen],
                checkpoint=checkpoint,
            )
            for chunk, rows in zip(chosen, evidence, strict=True):
                at = 0
                for piece in chunk.pieces:
                    stop = at + piece.stop - piece.first
                    logits = self._mix.logits(rows[at:stop], float(text_bm25[piece.text]))
                    values[piece.text][piece.first : piece.stop] = logits
                    best = max(best, float(logits.max()))
                    at = stop
            return best

        if n_first and read(order[:n_first]) < _logit(self._sure) and n_first < n_most:
            read(order[n_first:n_most])
        values = with_surroundings(conversations(texts, sentences), values)
        return [
            relevance_of(ranges, _chances(logits), calibrated=True)
            for ranges, logits in zip(sentences, values, strict=True)
        ]

    def _n_read(self, n_chunks: int, keep_ratio: float | None) -> tuple[int, int]:
        """How many chunks are read first, and how many in all if none of these helps."""
        most = min(n_chunks, self._read_at_most)
        if keep_ratio is None:
            return most, most
        kept = math.ceil(_READ_OF_KEPT * keep_ratio * n_chunks - 1e-9)
        first = min(most, max(self._read_at_least, kept))
        return first, min(most, max(first, math.ceil(self._read_share * n_chunks - 1e-9)))

    def _by_affinity(
        self, question: str, read: Sequence[Titled], checkpoint: Callable[[], None] | None
    ) -> list[int]:
        """The numbers of what is worth reading, best first."""
        compared: Sequence[int] = range(len(read))
        most = _COMPARED_OF_READ * self._read_at_most
        if len(read) > most:
            bm25 = self._shares(question, read, checkpoint)
            compared = np.argsort(-bm25, kind="stable")[:most].tolist()
        if checkpoint is not None:
            checkpoint()
        affinity = self._affinity.of(question, [read[number] for number in compared])
        return [compared[place] for place in np.argsort(-affinity, kind="stable").tolist()]

    def _shares(
        self, question: str, texts: Sequence[Titled], checkpoint: Callable[[], None] | None
    ) -> npt.NDArray[np.float32]:
        """BM25 of each text as a share of the best one's, in [0, 1]."""
        scores = self._words.text_scores(question, texts, checkpoint=checkpoint)
        best = float(scores.max()) if len(scores) else 0.0
        return scores / np.float32(best) if best > 0 else np.zeros_like(scores)


def _chances(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return (1 / (1 + np.exp(-np.clip(logits, -30, 30)))).astype(np.float32)


def _logit(chance: float) -> float:
    return math.log(chance / (1 - chance))
