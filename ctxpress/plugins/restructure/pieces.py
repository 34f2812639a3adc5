"""Pieces: what the stage keeps or drops as one, and how much each is worth.

A piece is a sentence, or the part of one that a language model quoted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ctxpress.arrangement import Passage
from ctxpress.document import Range
from ctxpress.plugins.restructure.llm import Quoted
from ctxpress.relevance import Relevance, split_sentences

__all__ = ["CONTEXT_SHARE", "Piece", "Pieces", "pieces_of_quotes", "pieces_of_scores"]

_LEANS = re.compile(
    r"[\"'“‘(\[]*(?:he|she|it|they|his|her|its|their|this|that|these|those|such|both|there|then|"
    r"however|but|and|also|thus|so|the (?:latter|former|same|two))\b",
    re.IGNORECASE,
)
CONTEXT_SHARE = 0.3
"""A sentence that a chosen one leans on is worth at least this share of that one's score."""


@dataclass(frozen=True, slots=True, order=True)
class Piece:
    """A range of the text of the passage with this number; a higher score is better."""

    passage: int
    range: Range
    score: float


@dataclass(frozen=True, slots=True)
class Pieces:
    """All pieces that may stay; those of a passage stand in order.

    `leans` maps a piece to the one before it that it is not understood without, which has the score
    at which it may be added. `best` are the pieces of highest score of every passage, by its
    number, whether or not they are worth to be kept.
    """

    wanted: tuple[Piece, ...]
    leans: Mapping[Piece, Piece] = field(default_factory=dict)
    best: Mapping[int, Piece] = field(default_factory=dict)


def pieces_of_scores(
    passages: Sequence[Passage], found: Sequence[Relevance], *, threshold: float, context: bool
) -> Pieces:
    """The sentences whose score reaches `threshold`; all of them where scores are no chances.

    With `context`, a sentence that begins with a pronoun or the like leans on the one before.
    """
    wanted: list[Piece] = []
    leans: dict[Piece, Piece] = {}
    best: dict[int, Piece] = {}
    for passage, relevance in zip(passages, found, strict=True):
        pieces = [
            Piece(passage.number, sentence, float(score))
            for sentence, score in zip(relevance.sentences, relevance.sentence_scores, strict=True)
        ]
        if pieces:
            best[passage.number] = max(pieces, key=lambda piece: piece.score)
        for number, piece in enumerate(pieces):
            if relevance.calibrated and piece.score < threshold:
                continue
            wanted.append(piece)
            if context and number and _LEANS.match(passage.text, piece.range.start):
                before = pieces[number - 1]
                score = max(before.score, CONTEXT_SHARE * piece.score)
                leans[piece] = Piece(before.passage, before.range, score)
    return Pieces(tuple(wanted), leans, best)


def pieces_of_quotes(passages: Sequence[Passage], quotes: Sequence[Quoted]) -> Pieces:
    """The sentences of the quotes, in the order of importance in which a model gave them."""
    ranges = [
        (quote.passage, Range(start + a, start + b))
        for quote in quotes
        for start, end in quote.ranges
        for a, b in split_sentences(passages[quote.passage].text[start:end])
    ]
    wanted = tuple(
        Piece(passage, piece, float(len(ranges) - rank))
        for rank, (passage, piece) in enumerate(ranges)
    )
    best = {piece.passage: piece for piece in reversed(wanted)}
    for passage in passages:
        first = next(iter(split_sentences(passage.text)), Range(0, len(passage.text)))
        best.setdefault(passage.number, Piece(passage.number, first, 0.0))
    return Pieces(wanted, {}, best)
