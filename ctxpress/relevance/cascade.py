"""The bundled relevance scorer: words are looked at everywhere, the encoder reads what looks best.

BM25 over whole passages finds which document a question is about, reading question and text
together finds where in it the answer stands; each errs where the other does not, so a sentence's
score is a logistic mix of both. Texts are read in chunks of whole sentences, so that one long
document costs no more than many short ones, best first and without the sentences whose words are
least like the question's: that is what keeps twenty passages within a request's time.
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
from ctxpress.relevance.chunks import Chunk, chunks_of, parts_of
from ctxpress.relevance.joint import ANSWER, QUOTE, Evidence, JointEvidence
from ctxpress.relevance.scorer import Relevance, Titled, relevance_of
from ctxpress.relevance.sentences import split_sentences
from ctxpress.relevance.speech import conversations, with_surroundings

__all__ = ["CascadeScorer", "RelevanceMix"]

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


class CascadeScorer:
    """`RelevanceScorer` over BM25 and the encoder; scores are calibrated.

    Of more than `read_at_least` chunks, the encoder reads the sentences whose words are most like
    the question's: the `read_share` of the text, or as much as the caller is going to keep, and no
    more than `read_at_most` chunks have. The best `read_at_least` chunks go first, or the part that
    is going to be kept; where a sentence in them is of use with a chance of `sure`, that is all.
    Without a `keep_ratio` there may be much of use, and it always reads on. So it does where there
    are conversations, and leaves nothing out: turns may answer without any word of the question's,
    and what was said around a sentence counts for it (`speech`); there, chances are an order more
    than estimates.
    """

    def __init__(
        self,
        joint: JointEvidence,
        mix: RelevanceMix,
        *,
        read_at_least: int = 8,
        read_share: float = 0.75,
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
        return f"cascade/4/{settings}/{'/'.join(parts)}/{self._mix}"

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
        chunks = chunks_of(texts, sentences)
        talks = conversations(texts, sentences)
        text_bm25 = self._shares(question, texts, checkpoint)
        values = [
            np.full(len(ranges), self._mix.unread + self._mix.bm25 * float(share), np.float32)
            for ranges, share in zip(sentences, text_bm25, strict=True)
        ]

        def read(chosen: Sequence[Chunk]) -> float:
            """Score the sentences of some chunks, the longest first; the highest logit."""
            best = -math.inf
            chosen = sorted(chosen, key=lambda chunk: -len(chunk.read.text))
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

        n_first = self._n_first(len(chunks), keep_ratio)
        if n_first == len(chunks):
            read(chunks)
        else:
            ranked = self._ranked(question, chunks, checkpoint)
            share = max(self._read_share, keep_ratio or 0.0)
            if talks or ranked[0][1] == 0:  # words do not tell what answers
                share = 1.0
            parts = self._parts(question, ranked, share, texts, sentences)
            best = read(parts[:n_first])
            if talks or keep_ratio is None or best < _logit(self._sure):
                read(parts[n_first:])
        values = with_surroundings(talks, values)
        return [
            relevance_of(ranges, _chances(logits), calibrated=True)
            for ranges, logits in zip(sentences, values, strict=True)
        ]

    def _n_first(self, n_chunks: int, keep_ratio: float | None) -> int:
        """How many chunks are read before it is asked whether that is enough."""
        kept = 0 if keep_ratio is None else math.ceil(keep_ratio * n_chunks - 1e-9)
        return min(n_chunks, self._read_at_most, max(self._read_at_least, kept))

    def _ranked(
        self, question: str, chunks: Sequence[Chunk], checkpoint: Callable[[], None] | None
    ) -> list[tuple[Chunk, float]]:
        """What is worth reading, best first, with its affinity as a share of the best one's."""
        most = _COMPARED_OF_READ * self._read_at_most
        if len(chunks) > most:
            bm25 = self._shares(question, [chunk.read for chunk in chunks], checkpoint)
            chunks = [chunks[number] for number in np.argsort(-bm25, kind="stable")[:most]]
        if checkpoint is not None:
            checkpoint()
        affinity = _of_best(self._affinity.of(question, [chunk.read for chunk in chunks]))
        order = np.argsort(-affinity, kind="stable")
        return [(chunks[number], float(affinity[number])) for number in order]

    def _parts(
        self,
        question: str,
        ranked: Sequence[tuple[Chunk, float]],
        share: float,
        texts: Sequence[Titled],
        sentences: Sequence[Sequence[Range]],
    ) -> list[Chunk]:
        """What is read of the chunks, best first: the sentences that are most like the question.

        They have that `share` of the text, and no more than `read_at_most` chunks have. A sentence
        is as good as its own words and those of its chunk together say.
        """
        ranked = ranked[: math.ceil(self._read_at_most / share - 1e-9)]
        if share >= 1:
            return [chunk for chunk, _ in ranked]
        alone = [
            Titled(chunk.read.text[start:end])
            for chunk, _ in ranked
            for start, end in chunk.sentences
        ]
        sizes = [len(chunk.sentences) for chunk, _ in ranked]
        around = np.repeat(np.array([affinity for _, affinity in ranked], np.float32), sizes)
        worth = _of_best(self._affinity.of(question, alone)) + around
        order = np.argsort(-worth, kind="stable")
        lengths = np.array([len(sentence.text) for sentence in alone])[order]
        chosen = np.zeros(len(alone), bool)
        before = np.cumsum(lengths) - lengths
        chosen[order] = before < share * lengths.sum()
        masks = np.split(chosen, np.cumsum(sizes)[:-1])
        parts = (
            parts_of(chunk, mask.tolist(), texts, sentences)
            for (chunk, _), mask in zip(ranked, masks, strict=True)
        )
        return [part for part in parts if part is not None]

    def _shares(
        self, question: str, texts: Sequence[Titled], checkpoint: Callable[[], None] | None
    ) -> npt.NDArray[np.float32]:
        """BM25 of each text as a share of the best one's, in [0, 1]."""
        return _of_best(self._words.text_scores(question, texts, checkpoint=checkpoint))


def _of_best(scores: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Scores as shares of the best one, in [0, 1]; zeros stay zeros."""
    best = float(scores.max(initial=0.0))
    return scores / np.float32(best) if best > 0 else np.zeros_like(scores)


def _chances(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return (1 / (1 + np.exp(-np.clip(logits, -30, 30)))).astype(np.float32)


def _logit(chance: float) -> float:
    return math.log(chance / (1 - chance))
