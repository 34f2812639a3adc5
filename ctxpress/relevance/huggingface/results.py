"""From scores of windows to those of texts and sentences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from ctxpress.document import Range
from ctxpress.relevance.huggingface.batches import FloatArray
from ctxpress.relevance.huggingface.framing import IdArray
from ctxpress.relevance.huggingface.pieces import ReadText
from ctxpress.relevance.reading import mixed
from ctxpress.relevance.scorer import Relevance

__all__ = ["bodies_of", "gather"]


def bodies_of(read: Iterable[ReadText], *, alone: bool) -> list[IdArray]:
    """What is scored, in order: of each text its pieces, then, with `alone`, its sentences."""
    bodies: list[IdArray] = []
    for one in read:
        bodies += one.pieces
        if alone:
            bodies += [part for parts in one.sentences for part in parts]
    return bodies


def gather(
    read: Sequence[ReadText],
    sentences: Sequence[tuple[Range, ...]],
    scores: FloatArray,
    *,
    alone: bool,
) -> list[Relevance]:
    """One `Relevance` a text from the scores of `bodies_of`, (n_bodies,).

    A text is worth what its best piece is. A sentence is worth what the piece is that it stands in
    (the best one, where it is cut); with `alone`, that mixed with its own score.
    """
    results, at = [], 0
    for one, ranges in zip(read, sentences, strict=True):
        pieces = scores[at : at + len(one.pieces)]
        at += len(pieces)
        found = np.array([pieces[start:end].max() for start, end in one.within], np.float32)
        if alone:
            own = np.empty(len(ranges), np.float32)
            for number, parts in enumerate(one.sentences):
                own[number] = scores[at : at + len(parts)].max()
                at += len(parts)
            found = mixed(own, found)
        results.append(Relevance(float(pieces.max()), ranges, found))
    return results
