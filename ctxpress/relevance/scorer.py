"""The contract of a relevance scorer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from ctxpress.document import Range

__all__ = ["Relevance", "RelevanceScorer", "Titled", "relevance_of"]


@dataclass(frozen=True, slots=True)
class Titled:
    """A text to score, and the title that stands above it, where it has one."""

    text: str
    title: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Relevance:
    """How much one text is of use for a question.

    `score` is the text's; higher is better, and texts scored in one call compare. `sentences` are
    the ranges of characters of its sentences, in order, without gaps; `sentence_scores`, float32 of
    shape (n_sentences,), are theirs, on one scale across the texts of a call. `calibrated`: scores
    are estimates of the chance, in [0, 1], that a reader finds use for it, so that a fixed
    threshold means the same for every question.
    """

    score: float
    sentences: tuple[Range, ...]
    sentence_scores: npt.NDArray[np.float32]
    calibrated: bool = False


@runtime_checkable
class RelevanceScorer(Protocol):
    """Scores texts for a question. Thread-safe; holds no state of a call."""

    @property
    def identity(self) -> str:
        """Algorithm and model, with versions; part of every fingerprint."""

    @property
    def languages(self) -> frozenset[str] | None:
        """ISO 639-1 codes of the languages with measured quality; `None` for any language."""

    def score(
        self,
        question: str,
        texts: Sequence[Titled],
        *,
        keep_ratio: float | None = None,
        checkpoint: Callable[[], None] | None = None,
    ) -> list[Relevance]:
        """One `Relevance` a text, in order. Any strings will do, empty ones included.

        `keep_ratio` is the part of the texts that the caller is about to keep: a scorer may look
        less closely at what will not be among it. `None`: all scores matter. `checkpoint` is
        called between batches of work and may raise to stop it.
        """


def relevance_of(
    sentences: tuple[Range, ...],
    sentence_scores: npt.NDArray[np.float32],
    *,
    least: float = 0.0,
    calibrated: bool = False,
) -> Relevance:
    """A text is worth what its best sentence is; one without sentences is worth the `least`."""
    best = float(sentence_scores.max()) if len(sentence_scores) else least
    return Relevance(best, sentences, sentence_scores.astype(np.float32), calibrated)
